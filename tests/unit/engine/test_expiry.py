"""The expiry index: nothing expires late or early, and there are few buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tagcache.engine.entry import Entry
from tagcache.engine.expiry import TICKS_PER_SECOND, ExpiryIndex

TICK = 1 / TICKS_PER_SECOND


def schedule(index: ExpiryIndex, waiting: Entry, deadline: float, now: float) -> None:
    waiting.wait_in(index.bucket(deadline, now))


def entry(key: bytes = b"k") -> Entry:
    return Entry(key, b"", (), 0.0, 0.0)


def drain(index: ExpiryIndex, deadlines: dict[Entry, float], now: float) -> set[Entry]:
    expired = set()
    for seen in index.past(now):
        seen.take_back()
        if deadlines[seen] <= now:
            expired.add(seen)
        else:
            schedule(index, seen, deadlines[seen], now)
    return expired


@given(
    st.lists(st.floats(0, 1e7), max_size=30),
    st.lists(st.floats(0, 1e6), min_size=1, max_size=10),
)
def test_a_deadline_is_seen_within_a_tick_and_never_before(
    ttls: list[float], steps: list[float]
) -> None:
    index = ExpiryIndex()
    start = 12345.678
    deadlines = {entry(): start + ttl for ttl in ttls}
    for waiting, deadline in deadlines.items():
        schedule(index, waiting, deadline, start)
    now = start
    seen: set[Entry] = set()
    for step in steps:
        now += step
        seen |= drain(index, deadlines, now)
        due = {waiting for waiting, deadline in deadlines.items() if deadline <= now}
        assert seen <= due
        late = {waiting for waiting in due - seen if deadlines[waiting] <= now - TICK}
        assert not late
        assert due - seen <= set(index.present(now))


def test_a_month_of_deadlines_takes_few_buckets() -> None:
    index = ExpiryIndex()
    month = 30 * 86400
    for number in range(20_000):
        schedule(index, entry(), number * month / 20_000, 0)
    assert len(index.buckets) < 2000


def test_a_month_is_looked_at_few_times() -> None:
    index = ExpiryIndex()
    month = 30 * 86400.0
    waiting = entry()
    schedule(index, waiting, month, 0)
    looks = 0
    while True:
        now = (index._ticks[0] + 1) / TICKS_PER_SECOND
        if next(index.past(now), None) is None:
            continue
        looks += 1
        waiting.take_back()
        if month <= now:
            break
        schedule(index, waiting, month, now)
    assert looks <= 5


def test_taken_back_entries_leave_nothing_behind() -> None:
    index = ExpiryIndex()
    waiting = entry()
    for number in range(1000):
        schedule(index, waiting, 1000 + number, 1000)
        waiting.take_back()
    assert list(index.past(10_000)) == []
    assert index.buckets == {}
    assert index._ticks == []
