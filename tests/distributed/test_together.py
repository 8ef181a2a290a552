"""Look-ups of a batch are one run of a script, and stay independent of each other."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from redis.exceptions import ResponseError

from tagcache.model.store_options import StoreOptions
from tests.distributed.engines import Remote
from tests.distributed.redis_server import RedisServer
from tests.integration.running import RunningServer

pytestmark = pytest.mark.needs("redis-server", "redis-cli")


def runs(server: RedisServer) -> int:
    """Return the number of runs of scripts."""
    found = re.search(r"cmdstat_evalsha:calls=(\d+)", server.cli("info", "commandstats"))
    return int(found[1]) if found else 0


def test_many_look_ups_are_few_runs(empty_redis: RedisServer) -> None:
    engine = Remote(empty_redis.url)
    try:
        keys = [b"k%d" % number for number in range(200)]
        for key in keys[::2]:
            engine.put(key, b"value of " + key)
        engine.get_many(keys)
        empty_redis.cli("config", "resetstat")
        assert engine.get_many(keys) == [
            None if number % 2 else b"value of " + key for number, key in enumerate(keys)
        ]
        # In each pipeline one for the first look-up, and one for those that waited behind it.
        assert runs(empty_redis) <= 8
    finally:
        engine.close()


def test_what_changes_an_entry_stays_in_its_place(
    empty_redis: RedisServer, front: Callable[..., RunningServer]
) -> None:
    server = front(empty_redis.url, {"connections": 1})
    lines, told = [], []
    for number in range(30):
        lines += [b"GET\ta", b"GET\tb", b"PUT\ta\t-\t-\t%d" % number, b"GET\ta", b"GET\tb"]
        before = b"VALUE\t%d" % (number - 1) if number else b"NF"
        told += [before, b"NF", b"OK", b"VALUE\t%d" % number, b"NF"]
    with server.connect() as client:
        client.send(b"".join(line + b"\n" for line in lines))
        assert [client.line()[:-1] for _ in lines] == told


def test_one_that_fails_does_not_fail_the_others(empty_redis: RedisServer) -> None:
    engine = Remote(empty_redis.url)
    try:
        keys = [b"a", b"b", b"c", b"d"]
        for key in keys:
            engine.put(key, b"1", [b"t"])
            # A pipeline sends few look-ups at once until it knows the size of values.
            engine.run(engine.cache.get(key, 0))
        # While an entry has a grace, look-ups read records.
        engine.put_with(b"g", b"1", StoreOptions((), 60_000, 60_000))
        # As if another program had written there.
        empty_redis.cli("hset", "tagcache:{all}:0:meta", "b", "garbage")
        empty_redis.cli("del", "tagcache:v:{all}:0:c")
        empty_redis.cli("rpush", "tagcache:v:{all}:0:c", "1")
        empty_redis.cli("config", "resetstat")
        found = engine.all(
            [engine.cache.get(key, 0).addErrback(lambda why: why.value) for key in [b"x", *keys]]
        )
        assert runs(empty_redis) == 1
        assert (found[1], found[4]) == (b"1", b"1")
        assert [type(found[n]) for n in (2, 3)] == [ResponseError, ResponseError]
        assert "WRONGTYPE" in str(found[3])
    finally:
        engine.close()
