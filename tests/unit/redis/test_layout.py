"""The layout of the data is checked before the first call, and again by the upkeep."""

from __future__ import annotations

from typing import Any

import pytest

from tagcache.errors import BackendUnavailable
from tagcache.redis import scripts
from tagcache.redis.layout import Layout
from tagcache.redis.partitions import Partitions
from tests.unit.redis.scripted import ScriptedPipeline, outcome

GONE = BackendUnavailable("no connection")


class World:
    """Partitions over a pipeline that a test answers; ``told`` are the reasons of trouble."""

    def __init__(self, number: int = 16) -> None:
        self.pipeline: Any = ScriptedPipeline()
        self.told: list[str] = []
        self.layout = Layout(self.pipeline, "p:", number, self.told.append)
        self.partitions = Partitions([self.pipeline], "p:", number, layout=self.layout)
        self.answer = self.pipeline.answer

    def get(self, key: bytes) -> list[Any]:
        return outcome(self.partitions.call_for(key, None, scripts.GET, key))


def test_calls_wait_for_the_layout_and_keep_their_order() -> None:
    world = World()
    first, second = world.get(b"a"), world.get(b"b")
    assert world.pipeline.waiting == [("layout", "p:{0}:")]
    assert world.answer(scripts.LAYOUT, [b"1:16", 1]) == ("",)
    assert [arguments[0] for _, _, arguments, _ in world.pipeline.calls] == [b"a", b"b"]
    world.answer(scripts.GET, b"1")
    world.answer(scripts.GET, b"2")
    assert (first, second) == ([b"1"], [b"2"])
    # It is known from now on.
    world.get(b"c")
    assert [name for name, _ in world.pipeline.waiting] == ["get"]


@pytest.mark.parametrize(
    ("recorded", "why"),
    [
        (b"1:64", "the data has 64 partitions, and engine.partitions is 16"),
        (
            b"7:16",
            "another version of TagCache has written the data: it has layout 7, and this server "
            "uses 1",
        ),
    ],
)
def test_another_layout_is_refused(recorded: bytes, why: str) -> None:
    world = World()
    found = world.get(b"a")
    world.answer(scripts.LAYOUT, [recorded, 1])
    assert str(found[0]) == str(BackendUnavailable(why))
    assert world.told == [why]
    # The next call asks again.
    found = world.get(b"a")
    world.answer(scripts.LAYOUT, [b"1:16", 1])
    world.answer(scripts.GET, b"1")
    assert found == [b"1"]


def test_the_upkeep_notices_a_layout_that_has_changed() -> None:
    world = World()
    world.get(b"a")
    world.answer(scripts.LAYOUT, [b"1:16", 1])
    checked = outcome(world.partitions.check_layout())
    world.answer(scripts.LAYOUT, [b"1:8", 1])
    assert isinstance(checked[0], BackendUnavailable)
    found = world.get(b"b")
    world.answer(scripts.LAYOUT, GONE)
    assert found == [GONE]


def test_a_check_that_fails_changes_nothing() -> None:
    world = World()
    world.get(b"a")
    world.answer(scripts.LAYOUT, [b"1:16", 1])
    assert outcome(world.partitions.check_layout()) == []
    world.answer(scripts.LAYOUT, GONE)
    world.get(b"b")
    assert ("layout", "p:{0}:") not in world.pipeline.waiting


@pytest.mark.parametrize(("used_before", "recorded"), [(0, "1:16"), (1, "1:64")])
def test_a_number_that_is_not_recorded(used_before: int, recorded: str) -> None:
    world = World()
    world.get(b"a")
    # It was emptied, and used since: that says nothing about the number.
    world.answer(scripts.LAYOUT, [b"", 1])
    others = [root for _, root in world.pipeline.waiting]
    assert others == [f"p:{{{number}}}:" for number in range(16, 64)]
    for root in others:
        world.answer(scripts.LAYOUT, [b"", used_before * (root == "p:{63}:")], root)
    assert world.answer(scripts.LAYOUT, [recorded.encode(), 1]) == (recorded,)
    assert world.layout.is_known is (not used_before)


def test_one_server_has_one_partition() -> None:
    world = World(1)
    world.get(b"a")
    assert world.answer(scripts.LAYOUT, [b"", 1]) == ("",)
    assert world.answer(scripts.LAYOUT, [b"1:1", 1]) == ("1:1",)
