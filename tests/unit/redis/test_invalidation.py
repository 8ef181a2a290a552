"""The steps of an invalidation, and of the upkeep that completes those of lost servers."""

from __future__ import annotations

from typing import Any

from tagcache.errors import BackendUnavailable
from tagcache.redis import scripts
from tagcache.redis.invalidation import Invalidations
from tagcache.redis.partitions import Partitions
from tests.unit.redis.scripted import ScriptedPipeline, outcome

GONE = BackendUnavailable("no connection")
# The answer to SWEEP where nothing is left to sweep, but dead sets are.
SWEPT = [0, [3, 2, 30, 1, [], 1, 0, 0]]


class World:
    """Invalidations over a pipeline that a test answers."""

    def __init__(self, partitions: int) -> None:
        self.pipeline = pipeline = ScriptedPipeline()
        self.partitions = Partitions([pipeline], "p:", partitions)  # type: ignore[list-item]
        self.invalidations = Invalidations(self.partitions)
        self.roots = self.partitions.roots
        self.answer = pipeline.answer

    def invalidate(self, kind: bytes, *tags: bytes, soft: bool = False) -> list[Any]:
        return outcome(self.invalidations.invalidate(kind, tags, soft))

    @property
    def waiting(self) -> list[str]:
        return [name for name, _ in self.pipeline.waiting]

    def everywhere(self, script: scripts.Script, *answers: Any) -> None:
        """Answer a script in each partition."""
        for root, answer in zip(self.roots, answers, strict=True):
            self.answer(script, answer, root)


def test_one_script_in_each_partition_is_enough() -> None:
    world = World(3)
    done = world.invalidate(b"any", b"t", b"u")
    assert world.waiting == ["invalidate"] * 3
    arguments = world.answer(scripts.INVALIDATE, [2, 7, [], [b"k1", b"k2"]])
    assert arguments == (100, b"any", b"", b"t", b"u")
    world.answer(scripts.INVALIDATE, [0, 8, [], []])
    assert done == []
    world.answer(scripts.INVALIDATE, [1, 9, [], [b"k3"]])
    assert done == [(3, [b"k1", b"k2", b"k3"])]
    assert world.waiting == []


def test_what_is_left_is_removed_set_by_set() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t", b"u")
    world.answer(scripts.INVALIDATE, [2, 7, [b"d:1:1", b"d:1:2"], [b"k"]])
    assert world.answer(scripts.PURGE_SET, [100, 1]) == (100, b"d:1:1")
    assert world.answer(scripts.PURGE_SET, [30, 0]) == (100, b"d:1:2")
    assert done == []
    assert world.answer(scripts.PURGE_SET, [7, 0]) == (100, b"d:1:1")
    assert done == [(139, [b"k"])]


def test_what_is_counted_already_is_removed_while_nobody_waits() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t")
    world.answer(scripts.INVALIDATE, [200, 7, [b"d:1:1:c"], [b"k"]])
    assert done == [(200, [b"k"])]
    world.answer(scripts.PURGE_SET, [0, 1])
    # The upkeep goes on with it.
    world.answer(scripts.PURGE_SET, GONE)
    assert world.waiting == []


def test_a_combination_is_removed_page_by_page() -> None:
    world = World(2)
    done = world.invalidate(b"all", b"t", b"u")
    world.answer(scripts.INVALIDATE, [0, 17, [b"u", b"t"], []])
    world.answer(scripts.INVALIDATE, [4, 90, [], []])
    page = world.answer(scripts.INVALIDATE_PAGE, [5, b"40"])
    assert page == (100, b"0", 17, b"", b"u", b"t")
    page = world.answer(scripts.INVALIDATE_PAGE, [6, b"0"])
    assert page == (100, b"40", 17, b"", b"u", b"t")
    assert done == [(15, [])]


def test_a_soft_invalidation_goes_tag_by_tag_where_there_are_many() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t", b"u", b"v", soft=True)
    asked = world.answer(scripts.INVALIDATE, [1, 17, [b"t", b"v"], [b"k"]])
    assert asked == (100, b"any", b"soft", b"t", b"u", b"v")
    page = world.answer(scripts.INVALIDATE_PAGE, [5, b"0"])
    assert page == (100, b"0", 17, b"soft", b"t")
    page = world.answer(scripts.INVALIDATE_PAGE, [6, b"0"])
    assert page == (100, b"0", 17, b"soft", b"v")
    assert done == [(12, [b"k"])]


def test_a_failure_of_one_partition_is_the_outcome() -> None:
    world = World(2)
    done = world.invalidate(b"any", b"t")
    world.everywhere(scripts.INVALIDATE, GONE, [1, 7, [b"d:1:1"], []])
    assert done == [GONE]
    # The other one goes on nevertheless.
    world.answer(scripts.PURGE_SET, [7, 0])
    assert world.waiting == []


def test_upkeep_goes_on_until_nothing_is_left() -> None:
    world = World(1)
    done = outcome(world.invalidations.settle())
    assert world.answer(scripts.SWEEP, [1, SWEPT[1]]) == (100, 200_000)
    world.answer(scripts.SWEEP, [1, SWEPT[1]])
    world.answer(scripts.SWEEP, SWEPT)
    assert world.answer(scripts.PURGE_SET, [100, 1]) == (100, b"", b"any")
    world.answer(scripts.PURGE_SET, [5, 0])
    assert done == [[SWEPT[1]]]


def test_upkeep_without_dead_sets_takes_one_script() -> None:
    world = World(2)
    done = outcome(world.invalidations.settle())
    nothing = [3, 2, 30, 0, [], 0, 0, 0]
    world.everywhere(scripts.SWEEP, [0, nothing], [0, nothing])
    assert done == [[nothing, nothing]]


def test_upkeep_that_meets_an_unavailable_backend_fails() -> None:
    world = World(1)
    done = outcome(world.invalidations.settle())
    world.answer(scripts.SWEEP, GONE)
    assert done == [GONE]


def test_counting_leaves_what_is_counted_already() -> None:
    world = World(2)
    done = outcome(world.invalidations.count_all())
    world.everywhere(scripts.SWEEP, SWEPT, SWEPT)
    assert world.answer(scripts.PURGE_SET, [0, 0]) == (100, b"", b"uncounted")
    world.answer(scripts.PURGE_SET, [0, 0])
    assert done == [[SWEPT[1], SWEPT[1]]]
