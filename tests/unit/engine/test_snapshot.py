"""Snapshots: reading returns what was written, and other files are rejected."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tagcache.engine import snapshot
from tagcache.engine.memory import MemoryCache
from tagcache.engine.snapshot import Header
from tagcache.errors import BrokenSnapshot, KeyTooLong, PersistenceError, TooManyTags
from tagcache.model.limits import Limits
from tagcache.model.store_options import NEVER
from tagcache.model.tag_rules import TagRule, TagRules
from tagcache.model.views import Saved
from tagcache.server.upkeep.persistence import Persistence
from tagcache.server.upkeep.snapshot_file import SnapshotFile
from tests.helpers import done, newest, settings_with

SAVED = st.builds(
    Saved,
    st.binary(max_size=20),
    st.binary(max_size=50),
    st.lists(st.binary(max_size=5), max_size=3, unique=True).map(tuple),
    st.floats(0, 1e9),
    st.floats(0.001, 1e9) | st.just(NEVER),
    st.sampled_from([0, 0, 1, 7]),
    st.sampled_from([0.0, 0.0, 1.5]),
)
CORPUS = Path(__file__).resolve().parents[2] / "corpus" / "snapshot"
ENTRIES = [
    Saved(b"key %d" % number, b"\0\n" * number, (b"all", b"%d" % (number % 7)), 1.5, NEVER)
    for number in range(300)
]


def written(entries: list[Saved]) -> bytes:
    file = io.BytesIO()
    assert snapshot.write(file, Header(len(entries) + 7, 1234.5, True), entries) == len(entries)
    return file.getvalue()


def read(data: bytes) -> list[Saved]:
    file = io.BytesIO(data)
    header = snapshot.read_header(file)
    assert header == Header(header.about, 1234.5, True)
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
    with pytest.raises(BrokenSnapshot, match="after its end"):
        read(good + b"x")


@pytest.mark.parametrize("alien", [b"", b"x", b"\x80\x04K\x01.", b"REDIS0011" * 100])
def test_another_kind_of_file_is_noticed(alien: bytes) -> None:
    with pytest.raises(BrokenSnapshot, match="not a snapshot"):
        snapshot.read_header(io.BytesIO(alien))


def test_another_version_is_named() -> None:
    head = struct.pack("<IQd", 7, 0, 0.0)
    data = snapshot.MAGIC + head + bytes(100)
    with pytest.raises(BrokenSnapshot, match="version 7.*up to 4"):
        snapshot.read_header(io.BytesIO(data))


def first_version(entries: list[Saved]) -> bytes:
    """A snapshot of version 1, which has no mark of a clean stop."""
    head = struct.pack("<IQd", 1, len(entries), 1234.5)
    rest = written(entries)[len(snapshot.MAGIC) + 21 + 4 :]
    return snapshot.MAGIC + head + struct.pack("<I", zlib.crc32(head)) + rest


def test_the_version_before_can_be_read_and_is_not_final() -> None:
    file = io.BytesIO(first_version(ENTRIES))
    assert snapshot.read_header(file) == Header(len(ENTRIES), 1234.5, False)
    assert list(snapshot.read_entries(file)) == ENTRIES


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_older_servers_wrote_is_of_database_0(version: int) -> None:
    with (CORPUS / f"version-{version}").open("rb") as file:
        assert snapshot.read_header(file) == Header(30, 1234.5, version > 1)
        assert list(snapshot.read_entries(file)) == ENTRIES[:30]


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
    assert sorted(done(after.keys_by_tag(b"b"))) == [b"old", b"ten"]
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


def test_an_entry_without_tags_stays_one_whatever_the_rules() -> None:
    rules = TagRules((TagRule("all", "*", ("all",)),))
    cache = MemoryCache(Limits(tag_rules=rules))
    assert cache.restore(Saved(b"k", b"v", (), 0.0, NEVER), 0.0)
    assert done(cache.keys_by_tag(b"all")) == []


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
    at = len(snapshot.MAGIC) + 21 + 4
    largest = 0
    while length := int.from_bytes(data[at : at + 4], "little"):
        largest = max(largest, length)
        at += 8 + length
    assert largest < 400_000


def test_a_damaged_length_asks_for_no_memory() -> None:
    data = bytearray(written(ENTRIES))
    at = len(snapshot.MAGIC) + 21 + 4
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


def run_and_stop(persistence: Persistence) -> None:
    persistence.startService()
    persistence.stopService()


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
    run_and_stop(persistence)
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
    run_and_stop(Persistence(cache, settings, clock, clock.seconds))
    assert link.is_symlink()
    assert target.is_file()
    (tmp_path / "there" / "real.new-12345").write_bytes(b"half")
    Persistence(cache, settings, clock, clock.seconds).load()
    names = sorted(each.name for each in (tmp_path / "there").iterdir())
    assert names == ["real", "real.lock"]


class Served:
    """A cache with its persistence; several use the same snapshot, one after another."""

    def __init__(self, path: Path, clock: Clock, **knobs: object) -> None:
        self.settings = settings_with(persistence={"snapshot_file": str(path), **knobs})
        self.cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
        self.persistence = Persistence(self.cache, self.settings, clock, clock.seconds)
        self.persistence.load()
        self.persistence.put_aside()
        self.persistence.startService()

    def stop(self) -> None:
        self.persistence.stopService()

    def crash(self) -> None:
        """End it as a crash does: the lock is released, and nothing is written."""
        self.persistence._file.unlock()  # type: ignore[union-attr]


def test_the_version_before_is_loaded_only_by_name(tmp_path: Path) -> None:
    path, clock = tmp_path / "snapshot", Clock()
    path.write_bytes(first_version(ENTRIES))
    served = Served(path, clock)
    assert len(served.cache) == 0
    assert served.persistence.describe()["after_crash"] == "empty"
    served.crash()
    served = Served(path, clock, after_crash="load")
    assert len(served.cache) == len(ENTRIES)
    assert served.persistence.describe()["after_crash"] == "load"
    served.stop()
    served = Served(path, clock)
    assert len(served.cache) == len(ENTRIES)
    assert served.persistence.describe()["after_crash"] is None


def test_a_broken_snapshot_is_not_reported_as_loaded(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    path.write_bytes(first_version(ENTRIES)[:-1])
    with capturedLogs() as events:
        served = Served(path, Clock(), after_crash="load")
    assert len(served.cache) == 0
    assert served.persistence.describe()["after_crash"] is None
    assert not [event for event in events if "loaded" in event.get("what", "")]


def test_a_snapshot_is_loaded_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "snapshot", Clock()
    served = Served(path, clock)
    served.cache.put(b"k", b"v")
    served.stop()
    served = Served(path, clock)
    assert served.cache.get(b"k") == b"v"
    served.crash()
    assert not path.exists()
    served = Served(path, clock)
    assert served.cache.get(b"k") is None
    served.stop()
    # The snapshot that was put aside is no longer needed.
    assert not (tmp_path / "snapshot.loaded").exists()


def test_a_snapshot_that_cannot_be_put_aside_ends_the_start(tmp_path: Path) -> None:
    path, clock = tmp_path / "snapshot", Clock()
    served = Served(path, clock)
    served.stop()
    (tmp_path / "snapshot.loaded").mkdir()
    with pytest.raises(PersistenceError, match=r"cannot be renamed to snapshot\.loaded"):
        Served(path, clock)


def test_a_link_at_the_new_file_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = SnapshotFile(tmp_path / "snapshot")
    (tmp_path / f"snapshot.new-{os.getpid()}").symlink_to(victim)
    assert file.write(lambda opened: opened.write(b"new"), lambda: True) == 3
    assert victim.read_text() == "precious"
    assert file.path.read_bytes() == b"new"
    assert file.path.stat().st_mode & 0o777 == 0o600


def test_the_new_file_is_made_and_not_opened(tmp_path: Path) -> None:
    """Another process creates a link at the path after the old file was removed."""
    file = SnapshotFile(tmp_path / "snapshot")
    victim = tmp_path / "victim"

    def too_late(path: object, flags: int, mode: int = 0o777) -> int:
        Path(str(path)).symlink_to(victim)
        return real(path, flags, mode)  # type: ignore[arg-type]

    real = os.open
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", too_late)
        with pytest.raises(FileExistsError):
            file.write(lambda opened: opened.write(b"new"), lambda: True)
    assert not victim.exists()


def test_a_writer_that_outlives_its_server_replaces_nothing(tmp_path: Path) -> None:
    file = SnapshotFile(tmp_path / "snapshot")
    file.path.write_bytes(b"of the next server")
    with pytest.raises(InterruptedError):
        file.write(lambda opened: opened.write(b"old"), lambda: False)
    assert [each.name for each in tmp_path.iterdir()] == ["snapshot"]
    assert file.path.read_bytes() == b"of the next server"


class Saves:
    """A persistence whose saves are only recorded, or fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, clock: Clock) -> None:
        self.at: list[float] = []
        self.error: Exception | None = None
        self.clock = clock
        self.knobs = {"snapshot_file": str(path), "snapshot_interval_seconds": 10.0}
        cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
        settings = settings_with(persistence=self.knobs)
        self.persistence = Persistence(cache, settings, clock, clock.seconds)
        monkeypatch.setattr(self.persistence, "save", self.save)
        self.persistence.startService()

    def save(self) -> None:
        self.at.append(self.clock.seconds())
        if self.error is not None:
            raise self.error

    def configure(self, interval: float) -> None:
        knobs = {**self.knobs, "snapshot_interval_seconds": interval}
        self.persistence.configure(settings_with(persistence=knobs))


def test_a_reload_does_not_put_the_next_snapshot_off(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = Clock()
    saves = Saves(monkeypatch, tmp_path / "snapshot", clock)
    for _ in range(30):
        saves.configure(10.0)
        clock.advance(1)
    assert saves.at == [10, 20, 30]
    clock.advance(7)
    saves.configure(8.0)
    clock.advance(1)
    assert saves.at == [10, 20, 30, 38]
    clock.advance(6)
    saves.configure(5.0)
    clock.advance(0)
    assert saves.at == [10, 20, 30, 38, 44]
    saves.configure(0.0)
    clock.advance(100)
    assert len(saves.at) == 5
    assert not clock.getDelayedCalls()


def test_the_next_snapshot_is_tried_after_any_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    clock = Clock()
    saves = Saves(monkeypatch, tmp_path / "snapshot", clock)
    saves.error = ValueError("odd")
    clock.advance(10)
    assert "odd" in saves.persistence.describe()["snapshot_error"]
    clock.advance(10)
    assert saves.at == [10, 20]


@pytest.mark.parametrize("call", ["pipe", "fork"])
def test_out_of_descriptors_once_is_told_and_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, call: str
) -> None:
    clock = Clock()
    knobs = {"snapshot_file": str(tmp_path / "snapshot"), "snapshot_interval_seconds": 10.0}
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    persistence = Persistence(cache, settings_with(persistence=knobs), clock, clock.seconds)
    persistence.startService()
    tried = []

    def refuse() -> None:
        tried.append(clock.seconds())
        raise OSError(errno.EMFILE, "Too many open files")

    before = len(list(Path("/proc/self/fd").iterdir()))
    monkeypatch.setattr(os, call, refuse)
    clock.advance(10)
    assert persistence.describe()["snapshot_error"] == "Too many open files"
    clock.advance(10)
    assert tried == [10, 20]
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_snapshot_is_from_before_the_writing_process(tmp_path: Path) -> None:
    parent = os.getpid()
    clock = Clock()
    cache = MemoryCache(monotonic=clock.seconds, wall=clock.seconds)
    settings = settings_with(persistence={"snapshot_file": str(tmp_path / "snapshot")})
    # The writing process begins late.
    persistence = Persistence(
        cache, settings, clock, lambda: 1000.0 if os.getpid() == parent else 2000.0
    )
    persistence.startService()
    saved = persistence.save()
    while not saved.called:
        clock.advance(1)
    assert persistence.describe()["snapshot_taken"] == 1000.0
    persistence.stopService()
