"""The order of steps by which an invalidation happens at one moment, and what goes wrong there."""

from __future__ import annotations

from itertools import count
from typing import Any

from tagcache.errors import BackendUnavailable
from tagcache.redis import scripts
from tagcache.redis.invalidation import Invalidations
from tagcache.redis.partitions import Partitions
from tests.unit.redis.scripted import ScriptedPipeline, outcome

ALL = "p:{all}:"
GONE = BackendUnavailable("no connection")
# The answer to SWEEP where there is nothing to do, and to PURGE_SET and PURGE_ALL at the end.
SWEPT = [0, [], 0]


class World:
    """Invalidations over a pipeline that a test answers; ``ids`` are a, b, c ..."""

    def __init__(self, partitions: int) -> None:
        self.pipeline = pipeline = ScriptedPipeline()
        self.partitions = Partitions([pipeline], "p:", partitions)  # type: ignore[list-item]
        numbers = count(ord("a"))
        self.invalidations = Invalidations(self.partitions, lambda: b"%c" % next(numbers))
        self.roots = self.partitions.roots
        self.answer = pipeline.answer

    def invalidate(self, kind: bytes, *tags: bytes) -> list[Any]:
        return outcome(self.invalidations.invalidate(kind, tags))

    @property
    def waiting(self) -> list[str]:
        return [name for name, _ in self.pipeline.waiting]

    def everywhere(self, script: scripts.Script, *answers: Any) -> None:
        """Answer a script in each partition."""
        for root, answer in zip(self.roots, answers, strict=True):
            self.answer(script, answer, root)


def test_a_single_partition_needs_one_script() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t", b"u")
    arguments = world.answer(scripts.INVALIDATE, [2, 0, [], [b"k1", b"k2"]])
    assert arguments == (100, b"any", b"t", b"u")
    assert done == [(2, [b"k1", b"k2"])]
    assert world.waiting == []


def test_what_is_left_is_removed_set_by_set() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t", b"u")
    world.answer(scripts.INVALIDATE, [2, 0, [b"d:1:1", b"d:1:2"], [b"k"]])
    assert world.answer(scripts.PURGE_SET, [100, 1]) == (100, b"d:1:1")
    assert world.answer(scripts.PURGE_SET, [30, 0]) == (100, b"d:1:2")
    assert done == []
    assert world.answer(scripts.PURGE_SET, [7, 0]) == (100, b"d:1:1")
    assert done == [(139, [b"k"])]


def test_what_is_counted_already_is_removed_while_nobody_waits() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t")
    world.answer(scripts.INVALIDATE, [200, 0, [b"d:1:1:c"], [b"k"]])
    assert done == [(200, [b"k"])]
    world.answer(scripts.PURGE_SET, [0, 1])
    # The upkeep goes on with it.
    world.answer(scripts.PURGE_SET, GONE)
    assert world.waiting == []


def test_a_combination_is_removed_page_by_page() -> None:
    world = World(1)
    done = world.invalidate(b"all", b"t", b"u")
    world.answer(scripts.INVALIDATE, [0, 17, [], []])
    assert world.answer(scripts.PURGE_ALL, [5, b"40", b"17"]) == (100, b"17", b"0")
    assert world.answer(scripts.PURGE_ALL, [6, b"0", b"17"]) == (100, b"17", b"40")
    assert done == [(11, [])]


def test_a_failure_of_the_only_partition_is_the_outcome() -> None:
    world = World(1)
    done = world.invalidate(b"any", b"t")
    world.answer(scripts.INVALIDATE, GONE)
    assert done == [GONE]
    assert world.waiting == []


def test_many_partitions_prepare_then_commit_then_finish() -> None:
    world = World(3)
    done = world.invalidate(b"any", b"t")
    assert world.waiting == ["prepare"] * 3
    assert world.answer(scripts.PREPARE, 1, world.roots[0]) == (b"a", b"any", b"t")
    world.answer(scripts.PREPARE, 0, world.roots[1])
    assert world.waiting == ["prepare"]
    world.answer(scripts.PREPARE, 1, world.roots[2])
    # The moment at which it happens, in the partition that its id belongs to.
    assert world.pipeline.waiting == [("commit", world.partitions.root(b"a"))]
    assert world.answer(scripts.COMMIT, 1) == (b"a", 30 * 86_400_000)
    # Where nothing carries the tag, nothing is left to do.
    assert world.pipeline.waiting == [("finish", world.roots[0]), ("finish", world.roots[2])]
    assert world.answer(scripts.FINISH, [1, 0, [], [b"k1"]]) == (100, b"a")
    world.answer(scripts.FINISH, [2, 0, [], [b"k2", b"k3"]])
    assert done == [(3, [b"k1", b"k2", b"k3"])]
    # Who looks it up now may ask for as long as a call takes, there and back.
    assert world.answer(scripts.COMMIT, GONE) == (b"a", 11_000)
    assert world.waiting == []


def test_in_one_partition_alone_there_is_nothing_to_commit() -> None:
    world = World(3)
    done = world.invalidate(b"any", b"t")
    world.everywhere(scripts.PREPARE, 0, 1, 0)
    assert world.pipeline.waiting == [("finish", world.roots[1])]
    world.answer(scripts.FINISH, [1, 0, [], [b"k"]])
    assert done == [(1, [b"k"])]
    assert world.waiting == []
    done = world.invalidate(b"any", b"nowhere")
    world.everywhere(scripts.PREPARE, 0, 0, 0)
    assert done == [(0, [])]


def test_a_failure_to_prepare_is_told_when_every_partition_has_answered() -> None:
    world = World(2)
    done = world.invalidate(b"any", b"t")
    world.answer(scripts.PREPARE, GONE, world.roots[0])
    assert done == []
    world.answer(scripts.PREPARE, 1, world.roots[1])
    assert done == [GONE]
    # It never happened as one; what was prepared is carried out, as far as it goes.
    assert world.waiting == ["finish", "finish"]
    world.answer(scripts.FINISH, GONE)
    world.answer(scripts.FINISH, [1, 0, [], []])
    assert world.waiting == []


def test_a_failure_to_commit_is_told() -> None:
    world = World(2)
    done = world.invalidate(b"any", b"t")
    world.everywhere(scripts.PREPARE, 1, 1)
    world.answer(scripts.COMMIT, GONE)
    assert done == [GONE]
    assert world.waiting == ["finish", "finish"]


def test_few_are_prepared_at_the_same_time_and_those_behind_a_failure_fail() -> None:
    world = World(2)
    done = [world.invalidate(b"any", b"%d" % number) for number in range(10)]
    assert world.waiting == ["prepare"] * 16
    world.everywhere(scripts.PREPARE, 0, 0)
    # One is through: the next begins.
    assert done[0] == [(0, [])]
    assert world.waiting == ["prepare"] * 16
    world.everywhere(scripts.PREPARE, GONE, GONE)
    assert done[1] == [GONE]
    (behind,) = done[9]
    assert isinstance(behind, BackendUnavailable)
    assert "an invalidation before this failed" in str(behind)
    # The next that begins now does so by itself.
    for _ in range(7):
        world.everywhere(scripts.PREPARE, 0, 0)
    world.everywhere(scripts.FINISH, [0, 0, [], []], [0, 0, [], []])
    last = world.invalidate(b"any", b"t")
    world.everywhere(scripts.PREPARE, 0, 0)
    assert last == [(0, [])]


def test_whether_one_has_happened_is_asked_where_its_id_belongs() -> None:
    world = World(3)
    found = outcome(world.invalidations.has_happened([b"x", b"y"]))
    assert world.pipeline.waiting == [
        ("committed", world.partitions.root(b"x")),
        ("committed", world.partitions.root(b"y")),
    ]
    assert world.answer(scripts.COMMITTED, 0) == (b"x",)
    assert world.answer(scripts.COMMITTED, 1) == (b"y",)
    assert found == [True]
    found = outcome(world.invalidations.has_happened([b"x"]))
    world.answer(scripts.COMMITTED, 0)
    assert found == [False]


def settle_everywhere(world: World, stuck: list[Any]) -> None:
    """Answer what the upkeep asks; the first partition tells of what is stuck."""
    world.everywhere(scripts.SWEEP, [0, stuck, 0], SWEPT)
    world.everywhere(scripts.PURGE_SET, [0, 0], [0, 0])
    world.everywhere(scripts.PURGE_ALL, [0, b"0", b""], [0, b"0", b""])


def test_upkeep_carries_out_what_another_server_left_after_it_happened() -> None:
    world = World(2)
    done = outcome(world.invalidations.settle())
    settle_everywhere(world, [[b"x", b"any", [b"t"]]])
    assert world.answer(scripts.COMMITTED, 1) == (b"x",)
    # Nothing is prepared: it has happened already.
    world.answer(scripts.COMMIT, 1)
    assert world.answer(scripts.FINISH, [1, 0, [], []]) == (100, b"x")
    world.answer(scripts.FINISH, [0, 0, [], []])
    world.answer(scripts.COMMIT, 1)
    assert done == [None]


def test_upkeep_begins_anew_what_another_server_left_before_it_happened() -> None:
    world = World(2)
    done = outcome(world.invalidations.settle())
    settle_everywhere(world, [[b"x", b"all", [b"t", b"u"]]])
    world.answer(scripts.COMMITTED, 0)
    assert world.answer(scripts.PREPARE, 1) == (b"x", b"all", b"t", b"u")
    world.answer(scripts.PREPARE, 1)
    world.answer(scripts.COMMIT, 1)
    world.everywhere(scripts.FINISH, [1, 0, [], []], [1, 0, [], []])
    world.answer(scripts.COMMIT, 1)
    assert done == [None]


def test_upkeep_goes_on_until_nothing_is_left() -> None:
    world = World(1)
    done = outcome(world.invalidations.settle())
    # As many as are removed at once; then fewer, with more of something else; then an end.
    assert world.answer(scripts.SWEEP, [100, [], 0]) == (100, 200_000, 11_000)
    world.answer(scripts.SWEEP, [0, [], 1])
    world.answer(scripts.SWEEP, SWEPT)
    assert world.answer(scripts.PURGE_SET, [100, 1]) == (100, b"", b"any")
    world.answer(scripts.PURGE_SET, [5, 0])
    assert world.answer(scripts.PURGE_ALL, [1, b"9", b"17"]) == (100, b"", b"0", b"help")
    assert world.answer(scripts.PURGE_ALL, [1, b"0", b"17"]) == (100, b"17", b"9", b"help")
    assert done == [None]


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
    world.everywhere(scripts.PURGE_ALL, [0, b"0", b""], [0, b"0", b""])
    assert done == [[[], []]]
