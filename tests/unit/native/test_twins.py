"""The native types do what those in Python do, step by step."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tagcache import native
from tagcache.engine import python_entry

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

core: Any = native.core

KEYS = st.binary(max_size=2)
MANY = st.integers(0, 3000)


class Twins(RuleBasedStateMachine):
    """The same changes of a table and of the rings of its entries, natively and in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.tables = core.Entries(), python_entry.Entries()
        self.ends = (
            core.UsedEntry(b"", b"", (), 0.0, 0.0),
            python_entry.UsedEntry(b"", b"", (), 0.0, 0.0),
        )
        for end in self.ends:
            end.start_rings()
            end.start_use()

    def entries(self, key: bytes) -> tuple[Any, Any]:
        return self.tables[0].get(key), self.tables[1].get(key)

    @rule(key=KEYS, value=st.binary(), ttl=st.sampled_from([0.0015, 60.0, 1e18, float("inf")]))
    def add(self, key: bytes, value: bytes, ttl: float) -> None:
        self.drop(key)
        for types, table, end in zip((core, python_entry), self.tables, self.ends, strict=True):
            entry = types.UsedEntry(key, value, (b"tag",), 1.0, ttl)
            table[key] = entry
            entry.link_before(end)
            entry.use_before(end)
            if ttl != float("inf"):
                entry.wait_in(end)

    @rule(first=MANY, count=MANY)
    def add_many(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            if (key := b"%d" % number) not in self.tables[0]:
                self.add(key, b"", float("inf"))

    @rule(first=MANY, count=MANY)
    def drop_many(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            self.drop(b"%d" % number)

    @rule(key=KEYS)
    def drop(self, key: bytes) -> None:
        for table, entry in zip(self.tables, self.entries(key), strict=True):
            if entry is not None:
                self.leave_all(entry)
            assert table.pop(key, None) is entry
            assert key not in table
            assert table.pop(key, 7) == 7
            with pytest.raises(KeyError):
                del table[key]

    @rule(key=KEYS, value=st.binary())
    def overwrite(self, key: bytes, value: bytes) -> None:
        for entry, end in zip(self.entries(key), self.ends, strict=True):
            if entry is not None:
                entry.value = value
                entry.tags = (value,)
                entry.stored += 1
                entry.visited = True
                entry.move_before(end)
                entry.leave_use()
                entry.use_before(end)
                if entry.ttl != float("inf"):
                    entry.take_back()
                entry.ttl = float("inf")

    @precondition(lambda self: self.tables[0])
    @rule()
    def pop_last(self) -> None:
        last = self.tables[0].last()
        assert self.tables[0].pop_last() is last
        last.break_links()
        self.leave_all(self.tables[1].pop(last.key))

    @rule()
    def copy(self) -> None:
        former = self.tables
        self.tables = self.tables[0].copy(), self.tables[1].copy()
        for table in former:
            table.clear()
            assert len(table) == 0

    @staticmethod
    def leave_all(entry: Any) -> None:
        entry.unlink()
        entry.leave_use()
        if hasattr(entry, "sooner"):
            entry.take_back()

    @invariant()
    def tables_hold_the_same(self) -> None:
        native, model = self.tables
        assert len(native) == len(model)
        assert {key: told(entry) for key, entry in native.items()} == {
            key: told(entry) for key, entry in model.items()
        }
        assert set(native) == {entry.key for entry in native.values()} == set(model)
        if len(native) > 10:
            assert sys.getsizeof(native) < 40 * len(native) + 200

    @invariant()
    def rings_have_the_same_order(self) -> None:
        for following, before in (("newer", "older"), ("later", "sooner"), ("hotter", "colder")):
            native, model = (self.ring(end, following, before) for end in self.ends)
            assert native == model

    @staticmethod
    def ring(end: Any, following: str, before: str) -> list[bytes]:
        keys = []
        place = getattr(end, following)
        while place is not end:
            assert getattr(getattr(place, following), before) is place
            keys.append(place.key)
            place = getattr(place, following)
        return keys


def told(entry: Any) -> tuple[Any, ...]:
    waits = hasattr(entry, "sooner")
    times = entry.stored, entry.ttl, entry.expires, entry.ttl_ms
    return entry.key, entry.value, entry.tags, *times, entry.visited, waits


TestTwins = pytest.mark.slow(Twins.TestCase)
TestTwins.settings = settings(max_examples=60, stateful_step_count=40)


def test_an_entry_that_is_freed_leaves_its_rings() -> None:
    end = core.UsedEntry(b"", b"", (), 0.0, 0.0)
    end.start_rings()
    end.start_use()
    entries = [core.UsedEntry(b"%d" % number, b"", (), 0.0, 0.0) for number in range(3)]
    for entry in entries:
        entry.link_before(end)
        entry.wait_in(end)
        entry.use_before(end)
    del entry, entries[1]
    assert Twins.ring(end, "newer", "older") == [b"0", b"2"]
    assert Twins.ring(end, "later", "sooner") == [b"0", b"2"]
    assert Twins.ring(end, "hotter", "colder") == [b"0", b"2"]
    first = entries[0]
    end.break_links()
    del end
    assert first.older is first.newer is entries[1]
    entries.clear()
    assert first.newer is first.older is first


def test_rings_refuse_what_would_break_them() -> None:
    end, other = core.Links(), core.Links()
    end.start_rings()
    entry = core.Entry(b"k", b"", (), 0.0, 0.0)
    for joins in (entry.link_before, entry.wait_in):
        with pytest.raises(ValueError, match="the other place is in no ring"):
            joins(other)
        with pytest.raises(TypeError, match="not a Links"):
            joins(b"")
        joins(end)
        with pytest.raises(ValueError, match="in such a ring already"):
            joins(end)
    with pytest.raises(ValueError, match="in such a ring already"):
        end.start_rings()
    used = core.UsedEntry(b"k", b"", (), 0.0, 0.0)
    with pytest.raises(TypeError, match="not a UsedEntry"):
        used.use_before(entry)
    with pytest.raises(ValueError, match="the other place is in no ring"):
        used.use_before(core.UsedEntry(b"k", b"", (), 0.0, 0.0))


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        (b"k", b"v", (), 0.0),
        ("k", b"v", (), 0.0, 0.0),
        (b"k", bytearray(b"v"), (), 0.0, 0.0),
        (b"k", b"v", [], 0.0, 0.0),
        (b"k", b"v", (), None, 0.0),
        (b"k", b"v", (), 0.0, "1"),
    ],
)
@pytest.mark.parametrize("name", ["Entry", "UsedEntry"])
def test_an_entry_refuses_other_types(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        getattr(core, name)(*arguments)


@pytest.mark.parametrize("name", ["value", "tags", "stored", "visited"])
def test_an_attribute_is_never_deleted(name: str) -> None:
    entry = core.Entry(b"k", b"v", (), 0.0, 0.0)
    with pytest.raises((TypeError, SystemError)):
        delattr(entry, name)
    assert entry.value == b"v"


def test_a_table_refuses_other_types_and_other_keys() -> None:
    table = core.Entries()
    entry = core.Entry(b"k", b"", (), 0.0, 0.0)
    with pytest.raises(ValueError, match="the entry has another key than b'other'"):
        table[b"other"] = entry
    with pytest.raises(TypeError, match="not an Entry"):
        table[b"k"] = b"v"
    for refused in ("k", 1, None):
        with pytest.raises(TypeError, match="a key is bytes"):
            table.get(refused)
        with pytest.raises(TypeError, match="a key is bytes"):
            table[refused] = entry
        with pytest.raises(TypeError, match="a key is bytes"):
            del table[refused]
    with pytest.raises(KeyError):
        table.last()
    with pytest.raises(KeyError):
        table.pop_last()
    assert len(table) == 0


def test_a_table_may_change_while_it_is_iterated_over() -> None:
    table = core.Entries()
    for number in range(1000):
        table[b"%d" % number] = core.Entry(b"%d" % number, b"", (), 0.0, 0.0)
    values = table.values()
    seen = [next(values) for _ in range(10)]
    table.clear()
    assert list(values) == []
    assert len({entry.key for entry in seen}) == 10


def test_references_are_counted() -> None:
    value, tags = bytes(100), (b"tag" * 10,)
    before = sys.getrefcount(value), sys.getrefcount(tags)
    table = core.Entries()
    for number in range(100):
        key = b"%d" % number
        table[key] = core.Entry(key, value, tags, 0.0, 0.0)
        table[key] = core.UsedEntry(key, value, tags, 0.0, 0.0)
        table.get(key).value = value
    copy = table.copy()
    assert {sys.getrefcount(entry) for entry in copy.values()} == {4}
    assert [key for key, _ in copy.items()] == list(copy)
    table.clear()
    while len(copy) > 50:
        copy.pop_last()
    del copy
    assert (sys.getrefcount(value), sys.getrefcount(tags)) == before
