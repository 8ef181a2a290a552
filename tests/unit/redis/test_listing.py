"""Lists of entries and tags, put together from pages of all partitions."""

from __future__ import annotations

from random import Random
from typing import Any

from tagcache.errors import BackendUnavailable
from tagcache.model.views import MOST_FAULTS, EntryView
from tagcache.redis import scripts
from tagcache.redis.listing import Listing
from tagcache.redis.partitions import Partitions
from tests.unit.redis.scripted import ScriptedPipeline, outcome

GONE = BackendUnavailable("no connection")


class World:
    """A listing over a pipeline that a test answers."""

    def __init__(self, partitions: int) -> None:
        self.pipeline = pipeline = ScriptedPipeline()
        self.partitions = Partitions([pipeline], "p:", partitions)  # type: ignore[list-item]
        self.roots = self.partitions.roots
        self.answer = pipeline.answer
        self.listing = Listing(self.partitions, Random(1))

    def keys_in(self, root: str, number: int) -> list[bytes]:
        """So many keys of a partition."""
        every = (b"k%d" % n for n in range(1000))
        return [key for key in every if self.partitions.root(key) == root][:number]


def row(key: bytes, stored_us: int = 1, left: bytes = b"", ttl: bytes = b"") -> list[Any]:
    return [key, b"%d" % stored_us, left, ttl, len(key) + 1, [b"t"]]


def view(key: bytes, value: bytes | None = None, stored_us: int = 1) -> EntryView:
    return EntryView(key, value, (b"t",), len(key) + 1, stored_us, None, None)


def keys(found: list[Any]) -> list[bytes]:
    """The keys of the one list that came."""
    (entries,) = found
    return [entry.key for entry in entries]


def test_peek_asks_each_partition_for_its_keys() -> None:
    world = World(2)
    a, b = (world.keys_in(root, 1)[0] for root in world.roots)
    found = outcome(world.listing.peek_many([a, b, b"none", a]))
    mine = [
        [key for key in (a, b, b"none", a) if world.partitions.root(key) == root]
        for root in world.roots
    ]
    there = {a: [row(a, 5, b"70", b"90"), b"v"], b: [row(b), b"w"], b"none": None}
    for root, asked in zip(world.roots, mine, strict=True):
        answers = [there[key] for key in asked]
        assert world.answer(scripts.PEEK, answers, root) == tuple(asked)
    first = EntryView(a, b"v", (b"t",), len(a) + 1, 5, 70, 90)
    assert found == [[first, view(b, b"w"), None, first]]


def test_peek_asks_for_few_keys_at_once() -> None:
    world = World(1)
    found = outcome(world.listing.peek_many([b"k%d" % n for n in range(450)]))
    sizes = []
    while world.pipeline.calls:
        asked = world.pipeline.calls[0][2]
        sizes.append(len(asked))
        world.answer(scripts.PEEK, [None] * len(asked))
    assert sizes == [200, 200, 50]
    assert found == [[None] * 450]


def test_a_search_for_any_of_the_tags_has_each_entry_once() -> None:
    world = World(2)
    found = outcome(world.listing.search([b"t", b"u", b"t"], False, 0, None))
    first, second = world.roots
    assert world.answer(scripts.MEMBERS, [b"7", [row(b"a")], 0], first) == (500, b"0", 0, 1, b"t")
    assert world.answer(scripts.MEMBERS, [b"0", [row(b"b")], 0], second) == (500, b"0", 0, 1, b"t")
    assert world.answer(scripts.MEMBERS, [b"0", [row(b"a")], 0], first) == (500, b"7", 0, 1, b"t")
    world.answer(scripts.MEMBERS, [b"0", [row(b"a"), row(b"c")], 0], first)
    assert world.answer(scripts.MEMBERS, [b"0", [], 0], second) == (500, b"0", 0, 1, b"u")
    assert keys(found) == [b"a", b"b", b"c"]


def test_a_search_for_all_of_the_tags_is_one_query() -> None:
    world = World(1)
    found = outcome(world.listing.search([b"t", b"u"], True, 0, None))
    arguments = world.answer(scripts.MEMBERS, [b"0", [row(b"a")], 0])
    assert arguments == (500, b"0", 0, 2, b"t", b"u")
    assert keys(found) == [b"a"]
    assert outcome(world.listing.search([], True, 0, None)) == [[]]


def test_a_search_stops_when_it_has_enough() -> None:
    world = World(1)
    found = outcome(world.listing.search([b"t", b"u"], False, 0, 2))
    world.answer(scripts.MEMBERS, [b"9", [row(b"a"), row(b"b"), row(b"c")], 0])
    assert keys(found) == [b"a", b"b"]
    assert world.pipeline.waiting == []


def test_what_a_search_is_to_skip_is_skipped_by_redis() -> None:
    world = World(2)
    found = outcome(world.listing.search([b"t", b"u"], False, 5, 2))
    first, second = world.roots
    assert world.answer(scripts.MEMBERS, [b"3", [], 3], first) == (500, b"0", 5, 1, b"t")
    assert world.answer(scripts.MEMBERS, [b"0", [], 1], first) == (500, b"3", 2, 1, b"t")
    assert world.answer(scripts.MEMBERS, [b"0", [row(b"b")], 1], second) == (500, b"0", 1, 1, b"t")
    # What carries the first tag was counted there already.
    arguments = world.answer(scripts.MEMBERS, [b"0", [row(b"c")], 0], first)
    assert arguments == (500, b"0", 0, 1, b"u", b"t")
    assert keys(found) == [b"b", b"c"]


def test_a_search_that_meets_an_unavailable_backend_fails() -> None:
    world = World(1)
    found = outcome(world.listing.search([b"t"], False, 0, None))
    world.answer(scripts.MEMBERS, GONE)
    assert found == [GONE]


def test_one_tag_is_counted_by_redis() -> None:
    world = World(2)
    found = outcome(world.listing.count([b"t", b"t"], False))
    assert world.answer(scripts.COUNT, 3) == (b"t",)
    world.answer(scripts.COUNT, 4)
    assert found == [7]


def test_what_redis_cannot_count_is_listed() -> None:
    world = World(1)
    found = outcome(world.listing.count([b"t"], False))
    world.answer(scripts.COUNT, -1)
    world.answer(scripts.MEMBERS, [b"0", [row(b"a"), row(b"b")], 0])
    assert found == [2]
    found = outcome(world.listing.count([b"t", b"u"], True))
    world.answer(scripts.MEMBERS, [b"0", [row(b"a")], 0])
    assert found == [1]


def test_the_newest_of_all_partitions_are_merged_by_time() -> None:
    world = World(2)
    found = outcome(world.listing.newest(b"", 1, 4))
    first, second = world.roots
    page = world.answer(scripts.NEWEST, [b"(70", [row(b"a", 90), row(b"b", 70)], 0], first)
    assert page == (250, b"+inf", b"", 0)
    world.answer(scripts.NEWEST, [b"", [row(b"c", 80), row(b"d", 10)], 0], second)
    # The first has no rows left: only when it has been asked is it known what comes next.
    page = world.answer(scripts.NEWEST, [b"", [row(b"e", 60)], 0], first)
    assert page == (250, b"(70", b"", 0)
    assert keys(found) == [b"c", b"b", b"e", b"d"]


def test_a_single_partition_skips_by_itself() -> None:
    world = World(1)
    found = outcome(world.listing.newest(b"pre", 7, 1))
    assert world.answer(scripts.NEWEST, [b"(5", [], 6]) == (500, b"+inf", b"pre", 7)
    assert world.answer(scripts.NEWEST, [b"(4", [row(b"a"), row(b"b")], 1]) == (
        500,
        b"(5",
        b"pre",
        1,
    )
    assert keys(found) == [b"a"]
    found = outcome(world.listing.newest(b"", 0, 10))
    world.answer(scripts.NEWEST, [b"", [row(b"a")], 0])
    assert keys(found) == [b"a"]


def test_tags_are_added_up_over_partitions() -> None:
    world = World(2)
    found = outcome(world.listing.tags(b"p"))
    first, second = world.roots
    assert world.answer(scripts.TAGS, [b"4", [[b"pa", 1, 10]]], first) == (500, b"0", b"p")
    world.answer(scripts.TAGS, [b"0", [[b"pa", 2, 20], [b"pc", 1, 1]]], second)
    assert world.answer(scripts.TAGS, [b"0", [[b"pb", 3, 30]]], first) == (500, b"4", b"p")
    assert found == [[(b"pa", 3, 30), (b"pb", 3, 30), (b"pc", 1, 1)]]


def test_a_check_goes_from_entries_to_indexes_and_back() -> None:
    world = World(1)
    found = outcome(world.listing.check())
    world.answer(scripts.TAGS, [b"0", [[b"t", 2, 20]]])
    assert world.answer(scripts.CHECK, [b"8", 2, []]) == (500, b"entries", b"", b"0")
    faults = [b"k%d" % n if n % 2 else b"size" for n in range(1, 101)]
    assert world.answer(scripts.CHECK, [b"0", 1, faults]) == (500, b"entries", b"", b"8")
    assert world.answer(scripts.CHECK, [b"0", 0, []]) == (500, b"tags", b"t", b"0")
    (consistency,) = found
    assert (consistency.entries, consistency.tags) == (3, 1)
    assert consistency.faults[0] == "the entry b'k1' size"
    assert consistency.fault_count == 50
    assert len(consistency.faults) == min(50, MOST_FAULTS)


def test_keys_are_scanned_partition_by_partition() -> None:
    world = World(2)
    first, second = world.roots
    found = outcome(world.listing.scan_keys(0, 5, None))
    assert world.answer(scripts.KEYS, [b"0", 3, [b"a", b"b"]], first) == (5, 0)
    # Nothing was in that part of the table.
    assert world.answer(scripts.KEYS, [b"6", 0, []], second) == (2, 0)
    assert world.answer(scripts.KEYS, [b"2", 2, [b"c"]], second) == (2, 6)
    # The cursor says both where, and in which partition.
    assert found == [(2 * 2 + 1, [b"a", b"b", b"c"])]
    found = outcome(world.listing.scan_keys(5, 5, lambda key: key == b"d"))
    assert world.answer(scripts.KEYS, [b"0", 4, [b"d", b"c"]], second) == (5, 2)
    assert found == [(0, [b"d"])]
    found = outcome(world.listing.scan_keys(0, None, None))
    for root in world.roots:
        assert world.answer(scripts.KEYS, [b"0", 4, [b"d", b"d"]], root) == (500, 0)
    assert found == [(0, [b"d"])]


def test_a_key_at_random_is_in_any_partition_that_has_one() -> None:
    world = World(3)
    found = outcome(world.listing.random_key())
    world.answer(scripts.RANDOM_KEY, None)
    world.answer(scripts.RANDOM_KEY, b"k")
    assert found == [b"k"]
    found = outcome(world.listing.random_key())
    for _ in world.roots:
        assert found == []
        world.answer(scripts.RANDOM_KEY, None)
    assert found == [None]
