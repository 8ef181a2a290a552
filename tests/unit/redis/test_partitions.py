"""Which partition and which pipeline a call goes to."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import pytest

from tagcache.redis import scripts
from tagcache.redis.partitions import Partitions, chunks
from tests.unit.redis.scripted import ScriptedPipeline


def make(number: int, background: bool = False) -> tuple[Partitions, list[Any]]:
    """So many partitions with two pipelines, and one more if there is one in the background."""
    pipelines: list[Any] = [ScriptedPipeline() for _ in range(2 + background)]
    return Partitions(pipelines[:2], "p:", number, pipelines[2] if background else None), pipelines


def test_roots_have_a_hash_tag_each() -> None:
    one, _ = make(1)
    assert one.roots == ["p:{all}:"]
    assert one.root(b"key") == "p:{all}:"
    three, _ = make(3)
    assert three.roots == ["p:{0}:", "p:{1}:", "p:{2}:"]
    assert len(three) == 3
    assert three.root(b"key") == three.roots[crc32(b"key") % 3]


def test_calls_for_a_key_keep_their_order_in_one_pipeline() -> None:
    partitions, pipelines = make(3)
    root = partitions.root(b"key")
    for number in (None, None, 0, 1, 2, 3):
        partitions.call_for(b"key", number, scripts.DELETE)
    mine = crc32(b"key") % 2
    expected = {mine: 2, 1 - mine: 0}
    assert [len(each.calls) for each in pipelines] == [expected[n] + 2 for n in (0, 1)]
    for each in pipelines:
        for name, where, arguments, _ in each.calls:
            assert (name, where, arguments) == ("delete", root, (b"key",))


def test_other_calls_are_spread_over_the_pipelines() -> None:
    partitions, pipelines = make(3, background=True)
    for _ in range(4):
        partitions.call("p:{1}:", scripts.TOTALS)
    assert [len(each.calls) for each in pipelines] == [2, 2, 0]
    partitions.call_later("p:{1}:", scripts.SWEEP, 1)
    assert pipelines[2].waiting == [("sweep", "p:{1}:")]
    assert partitions.timeout == 5.0


def test_without_a_pipeline_in_the_background_the_first_is_taken() -> None:
    partitions, pipelines = make(1)
    partitions.call_later("p:{all}:", scripts.SWEEP, 1)
    assert pipelines[0].waiting == [("sweep", "p:{all}:")]


def test_a_call_everywhere_answers_in_the_order_of_the_partitions() -> None:
    partitions, pipelines = make(3)
    found: list[Any] = []
    partitions.call_everywhere(scripts.COUNT, b"t").addCallback(found.append)
    for root in reversed(partitions.roots):
        for each in pipelines:
            if ("count", root) in each.waiting:
                assert each.answer(scripts.COUNT, root, root) == (b"t",)
    assert found == [partitions.roots]


def test_a_call_everywhere_fails_with_the_first_failure_itself() -> None:
    partitions, pipelines = make(2)
    failed: list[Any] = []
    partitions.call_everywhere(scripts.COUNT, b"t").addErrback(failed.append)
    pipelines[1].answer(scripts.COUNT, KeyError("one"))
    pipelines[0].answer(scripts.COUNT, KeyError("two"))
    (reason,) = failed
    with pytest.raises(KeyError, match="one"):
        reason.raiseException()


def test_chunks() -> None:
    assert chunks(b"abcde", 2) == [b"ab", b"cd", b"e"]
    assert chunks([], 2) == []
