"""Snapshots: what is written comes back, and nothing else passes for one."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from tagcache.engine import snapshot
from tagcache.engine.entry import NEVER
from tagcache.engine.limits import Limits
from tagcache.engine.memory import MemoryCache
from tagcache.engine.snapshot import Header, Saved
from tagcache.errors import BrokenSnapshot, KeyTooLong, TooManyTags
from tagcache.server.persistence import Persistence
from tests.helpers import done, newest, settings_with

SAVED = st.builds(
    Saved,
    st.binary(max_size=20),
    st.binary(max_size=50),
    st.lists(st.binary(max_size=5), max_size=3, unique=True).map(tuple),
    st.floats(0, 1e9),
    st.floats(0.001, 1e9) | st.just(NEVER),
)
ENTRIES = [
    Saved(b"key %d" % number, b"\0\n" * number, (b"all", b"%d" % (number % 7)), 1.5, NEVER)
    for number in range(300)
]


def written(entries: list[Saved]) -> bytes:
    file = io.BytesIO()
    assert snapshot.write(file, Header(len(entries) + 7, 1234.5), entries) == len(entries)
    return file.getvalue()


def read(data: bytes) -> list[Saved]:
    file = io.BytesIO(data)
    header = snapshot.read_header(file)
    assert header.taken == 1234.5
    return list(snapshot.read_entries(file))


@given(st.lists(SAVED, max_size=20), st.integers(1, 100))
def test_what_is_written_comes_back(entries: list[Saved], block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot, "_BLOCK_BYTES", block)
        assert read(written(entries)) == entries


def test_many_blocks_and_a_value_larger_than_a_block() -> None:
    large = Saved(b"large", b"x" * 3_000_000, (), 0.0, 5.0)
    entries = [*ENTRIES, large, *ENTRIES]
    assert read(written(entries)) == entries


@given(st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    good = written(ENTRIES[:5])
    place = data.draw(st.integers(0, len(good) * 8 - 1))
    broken = bytearray(good)
    broken[place // 8] ^= 1 << place % 8
    with pytest.raises(BrokenSnapshot):
        read(bytes(broken))


def test_a_missing_end_is_noticed_wherever_it_begins() -> None:
    good = written(ENTRIES[:3])
    for length in range(len(good)):
        with pytest.raises(BrokenSnapshot):
            read(good[:length])
    with pytest.raises(BrokenSnapshot, match="follows"):
        read(good + b"x")


@pytest.mark.parametrize("alien", [b"", b"x", b"\x80\x04K\x01.", b"REDIS0011" * 100])
def test_another_kind_of_file_is_noticed(alien: bytes) -> None:
    with pytest.raises(BrokenSnapshot, match="not a snapshot"):
        snapshot.read_header(io.BytesIO(alien))


def test_another_version_is_named() -> None:
    import zlib

    head = struct.pack("<IQd", 7, 0, 0.0)
    data = snapshot.MAGIC + head + struct.pack("<I", zlib.crc32(head))
    with pytest.raises(BrokenSnapshot, match="version 7.*version 1"):
        snapshot.read_header(io.BytesIO(data))


def test_an_entry_keeps_everything_and_the_time_that_passed_counts() -> None:
    clock = Clock()
    clock.advance(1000)
    before = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    before.put(b"old", b"1", [b"a", b"b"])
    clock.advance(5)
    before.put(b"ten", b"2", [b"b"], 10_000)
    before.put(b"soon", b"3", [], 2000)
    before.put(b"gone", b"4", [], 500)
    clock.advance(1)
    saved = list(before.saved())
    assert [entry.key for entry in saved] == [b"old", b"ten", b"soon"]

    after = MemoryCache(
        Limits(default_ttl_ms=50), monotonic=clock.seconds, wall=lambda: clock.seconds() + 100
    )
    assert [after.restore(entry, 3.0) for entry in saved] == [True, True, False]
    assert newest(after, 0, 9) == [b"ten", b"old"]
    assert done(after.keys_by_tag(b"b")) == [b"old", b"ten"]
    old, ten = after.peek(b"old"), after.peek(b"ten")
    assert old is not None
    assert ten is not None
    assert (old.value, old.tags, old.ttl_ms, ten.ttl_ms) == (b"1", (b"a", b"b"), None, 10_000)
    assert after.created_ms(old) == 1_000_000 + 100_000 - 3000
    assert after.counters().puts == 0
    clock.advance(5.9)
    assert after.get(b"ten") == b"2"
    clock.advance(0.2)
    assert after.get(b"ten") is None
    assert after.get(b"old") == b"1"
    for _ in after.sweep():
        pass
    assert len(after) == 1


def test_what_is_beyond_the_limits_is_refused() -> None:
    cache = MemoryCache(Limits(max_key_length=3, max_tags_per_entry=1))
    with pytest.raises(KeyTooLong):
        cache.restore(Saved(b"long", b"", (), 0.0, NEVER), 0.0)
    with pytest.raises(TooManyTags):
        cache.restore(Saved(b"k", b"", (b"a", b"b"), 0.0, NEVER), 0.0)


def test_blocks_stay_small_whatever_the_tags() -> None:
    entries = [
        Saved(
            b"%d" % number, b"", tuple(b"%d %d" % (number, tag) * 100 for tag in range(100)), 0, 1
        )
        for number in range(50)
    ]
    data = written(entries)
    assert read(data) == entries
    at = len(snapshot.MAGIC) + 20 + 4
    largest = 0
    while length := int.from_bytes(data[at : at + 4], "little"):
        largest = max(largest, length)
        at += 8 + length
    assert largest < 400_000


def test_a_damaged_length_asks_for_no_memory() -> None:
    data = bytearray(written(ENTRIES))
    at = len(snapshot.MAGIC) + 20 + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"

    class Careful(io.BytesIO):
        def read(self, count: int | None = -1, /) -> bytes:
            assert count is not None
            assert 0 <= count <= 16 * 2**20
            return super().read(count)

    file = Careful(bytes(data))
    snapshot.read_header(file)
    with pytest.raises(BrokenSnapshot, match="end is missing"):
        list(snapshot.read_entries(file))


def test_what_expires_while_it_is_written_does_no_harm(tmp_path: Path) -> None:
    clock = Clock()

    def ticking() -> float:
        clock.advance(0.5)
        return clock.seconds()

    cache = MemoryCache(monotonic=ticking, wall=clock.seconds)
    for number in range(100):
        cache.put(b"%d" % number, b"v", [], 60_000 + number)
    path = tmp_path / "snapshot"
    settings = settings_with(persistence={"snapshot_file": str(path)})
    persistence = Persistence(cache, settings, clock, clock.seconds)
    persistence._save_here()
    assert persistence.describe()["snapshot_error"] is None
    again = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    loaded = Persistence(again, settings, clock, clock.seconds)
    loaded.load()
    assert loaded.describe()["snapshot_entries"] == len(list(again.saved())) > 0


def test_a_link_stays_one_and_unfinished_files_go(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "snapshot", tmp_path / "there" / "real"
    link.symlink_to(target)
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    cache.put(b"k", b"v")
    settings = settings_with(persistence={"snapshot_file": str(link)})
    Persistence(cache, settings, clock, clock.seconds)._save_here()
    assert link.is_symlink()
    assert target.is_file()
    (tmp_path / "there" / "real.new-12345").write_bytes(b"half")
    Persistence(cache, settings, clock, clock.seconds).load()
    assert [each.name for each in (tmp_path / "there").iterdir()] == ["real"]
