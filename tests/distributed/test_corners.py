"""What goes wrong only with many entries, late helpers, lost data, or an unlucky moment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tagcache.remote import cache as remote_cache
from tagcache.remote import scripts
from tests.distributed.engines import Remote
from tests.distributed.redis_server import RedisServer

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
ROOT = "tagcache:{all}:"


@pytest.fixture
def engine(empty_redis: RedisServer) -> Iterator[Remote]:
    remote = Remote(empty_redis.url)
    yield remote
    remote.close()


def ask(engine: Remote, script: scripts.Script, *arguments: Any) -> Any:
    return engine.run(engine.cache._call(ROOT, script, *arguments))


def put_many(engine: Remote, number: int, *tags: bytes) -> list[bytes]:
    keys = [b"k%d" % n for n in range(number)]
    engine.all([engine.cache.put(key, b"v", tags) for key in keys])
    return keys


def test_the_memory_of_many_flushed_entries_is_given_back(engine: Remote) -> None:
    # More than a hash of Redis is scanned for at once from its beginning.
    put_many(engine, 3000, b"t")
    assert engine.flush() == 3000
    rounds = 0
    while ask(engine, scripts.RECLAIM, 10):
        rounds += 1
        assert rounds < 400
    assert engine.wait(engine.client.keys(ROOT + "0:*")) == []
    assert engine.wait(engine.client.keys("tagcache:v:*")) == []
    assert engine.totals().backlog == 0


def test_generations_do_not_pile_up_however_quickly_they_come(
    engine: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_cache, "_GENERATIONS", 10)
    names = [b"%d" % number for number in range(2500)]
    engine.invalidate_keys(names)
    engine.invalidate_any(names)
    engine.all([engine.cache.invalidate_all([b"t", name]) for name in names])
    engine.settle()
    kept = [engine.wait(engine.client.zcard(ROOT + "0:" + n)) for n in ("keygens", "gens")]
    assert kept == [10, 10]
    assert engine.wait(engine.client.zcard(ROOT + "0:allgens")) == 1000
