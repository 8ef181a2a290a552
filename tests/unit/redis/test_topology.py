"""Which server has which partition."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError
from zope.interface.verify import verifyObject

from tagcache.redis.topology import Address, Cluster, ITopology, OneServer, Sentinels

A, B, C = (Address(host, 7000) for host in "abc")
ROOT = "p:{1}:"
SLOT = key_slot(ROOT.encode())


class Told:
    """What each server answers; who is not in it cannot be reached, and None never answers."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def __call__(self, address: Address, *words: str) -> Any:
        self.asked.append(address.host)
        if address.host not in self.answers:
            raise ConnectionError(f"{address} is away")
        if self.answers[address.host] is None:
            await asyncio.Event().wait()
        return self.answers[address.host]


def test_all_keep_the_contract() -> None:
    for topology in (OneServer(A), Cluster([A]), Sentinels([A], "ours")):
        assert verifyObject(ITopology, topology)
    assert OneServer(A).place(ROOT) == A
    assert [str(each) for each in (A, Address("/a/socket", None))] == ["a:7000", "/a/socket"]


def test_a_cluster_is_learnt_from_who_answers_first() -> None:
    cluster = Cluster([A, B])
    assert cluster.place(ROOT) is None
    # An empty host and a missing one are that of the node itself.
    rows = [[0, SLOT, [b"", 7000, b"id"]], [SLOT + 1, 16383, [b"c", 7000], [None, 7001]]]
    asyncio.run(cluster.look(Told(a=None, b=rows), ()))
    assert (cluster.place(ROOT), cluster.primaries) == (B, [B, C])
    assert cluster.nodes == [B, C, Address("b", 7001)]
    # What a node tells is believed until all are asked again.
    cluster.moved(SLOT, A)
    assert cluster.place(ROOT) == A
    assert A in cluster.primaries
    asyncio.run(cluster.look(Told(b=rows), ()))
    assert (cluster.place(ROOT), cluster.primaries) == (B, [B, C])
    # A slot that nobody has.
    asyncio.run(cluster.look(Told(b=rows[1:]), ()))
    assert cluster.place(ROOT) is None


def test_suspects_are_asked_if_nobody_else_answers() -> None:
    cluster = Cluster([A, B])
    told = Told(a=[[0, 16383, [b"a", 7000]]], b=[[0, 16383, [b"b", 7000]]])
    asyncio.run(cluster.look(told, {A}))
    assert (cluster.primaries, told.asked) == ([B], ["b"])
    alone = Told(a=told.answers["a"])
    asyncio.run(cluster.look(alone, {A}))
    assert cluster.primaries == [A]
    with pytest.raises(ConnectionError, match="Redis Cluster cannot be connected: .*is away"):
        asyncio.run(cluster.look(Told(), {A}))
    # What was known stays.
    assert cluster.primaries == [A]


def test_a_sentinel_that_knows_the_service_names_its_primary() -> None:
    sentinels = Sentinels([A, B, C], "ours")
    assert sentinels.place(ROOT) is None
    told = Told(a=(), b=[b"10.0.0.1", b"6379"])
    asyncio.run(sentinels.look(told, ()))
    assert sentinels.place(ROOT) == Address("10.0.0.1", 6379)
    assert sentinels.nodes == sentinels.primaries
    with pytest.raises(ConnectionError, match="no Sentinel names a primary"):
        asyncio.run(sentinels.look(Told(a=()), ()))
