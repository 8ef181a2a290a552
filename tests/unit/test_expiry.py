"""The expiry index: nothing late, nothing early, few buckets."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tagcache.engine.expiry import TICKS_PER_SECOND, ExpiryIndex

TICK = 1 / TICKS_PER_SECOND


def drain(index: ExpiryIndex, deadlines: dict[bytes, float], now: float) -> set[bytes]:
    expired = set()
    while (bucket := index.past(now)) is not None:
        while bucket:
            key = bucket.pop()
            if deadlines[key] <= now:
                expired.add(key)
            else:
                index.schedule(key, deadlines[key], now)
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
    deadlines = {b"%d" % n: start + ttl for n, ttl in enumerate(ttls)}
    for key, deadline in deadlines.items():
        index.schedule(key, deadline, start)
    now = start
    seen: set[bytes] = set()
    for step in steps:
        now += step
        seen |= drain(index, deadlines, now)
        due = {key for key, deadline in deadlines.items() if deadline <= now}
        assert seen <= due
        late = {key for key in due - seen if deadlines[key] <= now - TICK}
        assert not late
        assert due - seen <= index.present(now)


def test_a_month_of_deadlines_takes_few_buckets() -> None:
    index = ExpiryIndex()
    month = 30 * 86400
    for number in range(20_000):
        index.schedule(b"%d" % number, number * month / 20_000, 0)
    assert len(index._buckets) < 2000


def test_a_month_is_looked_at_few_times() -> None:
    index = ExpiryIndex()
    month = 30 * 86400.0
    index.schedule(b"k", month, 0)
    looks = 0
    while True:
        now = (index._ticks[0] + 1) / TICKS_PER_SECOND
        bucket = index.past(now)
        if bucket is None:
            continue
        looks += 1
        bucket.clear()
        if month <= now:
            break
        index.schedule(b"k", month, now)
    assert looks <= 5


def test_taken_back_keys_leave_nothing_behind() -> None:
    index = ExpiryIndex()
    for number in range(1000):
        bucket = index.schedule(b"k", 1000 + number, 1000)
        bucket.discard(b"k")
    assert index.past(10_000) is None
    assert index._buckets == {}
    assert index._ticks == []
