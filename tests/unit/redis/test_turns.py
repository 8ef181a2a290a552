"""Work waits for earlier work on the same keys, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, fail, succeed

from tagcache.errors import BackendUnavailable, NotAnInteger
from tagcache.redis.turns import Turns
from tests.unit.redis.scripted import outcome


class World:
    """Turns, and works that a test ends."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.begun: dict[str, Deferred[Any]] = {}
        self.results: dict[str, list[Any]] = {}

    def run(self, name: str, keys: bytes, alone: bool = True) -> Deferred[Any]:
        """Run work on keys of one letter each."""

        def work() -> Deferred[Any]:
            self.begun[name] = Deferred()
            return self.begun[name]

        done = self.turns.run([bytes([key]) for key in keys], work, alone)
        self.results[name] = outcome(done)
        return done

    def end(self, name: str, result: Any = None) -> None:
        """End a work, with an error if the result is one."""
        done = self.begun.pop(name)
        if isinstance(result, Exception):
            done.errback(result)
        else:
            done.callback(result)


def test_work_waits_for_all_earlier_work_on_its_keys() -> None:
    world = World()
    assert world.turns.is_idle
    world.run("1", b"ab")
    world.run("2", b"bc")
    world.run("3", b"cd")
    world.run("4", b"e")
    assert set(world.begun) == {"1", "4"}
    assert world.turns.is_taken([b"d"])
    assert not world.turns.is_taken([b"f"])
    world.end("1", 7)
    assert world.results["1"] == [7]
    assert set(world.begun) == {"2", "4"}
    world.end("2")
    world.end("3")
    world.end("4")
    assert world.turns.is_idle


def test_work_that_is_not_alone_only_waits_to_be_begun() -> None:
    world = World()
    world.run("alone", b"a")
    world.run("one", b"a", alone=False)
    world.run("two", b"a", alone=False)
    world.run("after", b"a")
    assert set(world.begun) == {"alone"}
    world.end("alone")
    assert set(world.begun) == {"one", "two", "after"}
    world.end("after")
    assert world.turns.is_idle
    world.end("two", 2)
    assert world.results["two"] == [2]


def test_what_waits_behind_a_backend_that_is_away_fails_as_well() -> None:
    world = World()
    for name, keys in (("1", b"ab"), ("2", b"b"), ("3", b"bc"), ("4", b"c")):
        world.run(name, keys)
    world.run("look-up", b"b", alone=False)
    world.end("1", BackendUnavailable("timeout"))
    assert [type(world.results[name][0]) for name in "123"] == [BackendUnavailable] * 3
    # These do not wait for it.
    assert set(world.begun) == {"4", "look-up"}
    world.end("4")
    world.run("5", b"ab")
    world.end("5", NotAnInteger())
    assert world.turns.is_idle


def test_other_errors_concern_nobody_else() -> None:
    world = World()
    world.run("1", b"a")
    world.run("2", b"a")
    error = NotAnInteger()
    world.end("1", error)
    assert world.results["1"] == [error]
    world.end("2", 2)
    assert world.results["2"] == [2]


def test_cancelling_does_not_stop_the_work() -> None:
    world = World()
    first = world.run("1", b"a")
    second = world.run("2", b"a")
    first.cancel()
    second.cancel()
    assert [type(world.results[name][0]) for name in "12"] == [CancelledError] * 2
    assert set(world.begun) == {"1"}
    world.end("1")
    world.end("2")
    assert world.turns.is_idle


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_very_many_end_at_once(alone: bool, fails: bool) -> None:
    world = World()
    turns = world.turns
    world.run("first", b"a")
    done = []
    for number in range(5000):
        result = fail(NotAnInteger()) if fails else succeed(number)
        done.append(outcome(turns.run([b"a"], lambda result=result: result, alone)))
    world.end("first")
    assert turns.is_idle
    assert all(done)


def test_work_that_raises_has_ended() -> None:
    turns = Turns()
    for alone in (True, False):
        found = outcome(turns.run([b"a"], lambda: 1 // 0, alone))  # type: ignore[arg-type,return-value]
        assert type(found[0]) is ZeroDivisionError
        assert turns.is_idle
