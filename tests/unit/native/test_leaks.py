"""After a long load of all kinds of requests and a flush, the process holds what it held before."""

from __future__ import annotations

import gc
import resource
import select
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tagcache import native
from tagcache.native import Dialect
from tagcache.wire import resp
from tests.helpers import done, settings_with
from tests.unit.native.test_histories import READERS
from tests.unit.native.test_pump import Owner
from tests.unit.server.line.test_protocol import Server

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

ROUNDS = 8
CHUNKS = 2500
KEYS = 300
PAGE = resource.getpagesize()
# An object that each native request of one verb leaves behind would be hundreds of blocks.
MOST_BLOCKS = 60
MOST_BYTES = 4 * 2**20


class Client(Owner):
    """A connection whose plain requests a pump answers, and whose others a protocol does."""

    def __init__(self, pump: Any, server: Server, dialect: Dialect, connection: Any) -> None:
        super().__init__(pump)
        self.protocol, self.transport = connection
        self.server = server
        self.on_data = self.ask
        self.channel.answer(server.cache.plain, dialect.value, *READERS[dialect])

    def ask(self, data: bytes) -> None:
        self.server.clock.advance(max(time.monotonic() - self.server.clock.seconds(), 0))
        self.transport.clear()
        self.protocol.dataReceived(data)
        self.server.clock.pump([0] * 3)
        self.channel.write(self.transport.value())

    def leave(self) -> None:
        self.close()
        self.peer.close()


def lines(random: Random) -> bytes:
    key, number = b"k%d" % random.randrange(KEYS), b"%d" % random.randrange(5)
    tags = random.choice([b"-", b"t", b"t,u", b"u" + number])
    value = random.choice([b"", b"12", b"v" * 100, b"v" * 3000])
    ttl = random.choice([b"-", b"60000", b"60001", b"1", b"x"])
    fields = random.choice(
        [
            *([b"GET", key], [b"DEL", key], [b"INCR", key], [b"DECR", key, number]),
            *([b"PUT", key, ttl, tags, value], [b"PUT", key, b"60000", b"t,u", value]),
            *([b"TOUCH", key, ttl], [b"FETCH", key, b"1000"], [b"ADD", key, ttl, tags, value]),
            *([b"INV_TAG", b"u" + number], [b"INV_KEYS", key], [b"TTL", key], [b"NONE", key]),
        ]
    )
    return b"\t".join(fields) + b"\n"


def arrays(random: Random) -> bytes:
    key, number = b"k%d" % random.randrange(KEYS), b"%d" % random.randrange(5)
    value = random.choice([b"", b"12", b"v" * 100, b"v" * 3000])
    words = random.choice(
        [
            *([b"GET", key], [b"MGET", key, number, key], [b"SET", key, value], [b"EXISTS", key]),
            *([b"SET", key, value, b"EX", b"60"], [b"SET", key, value, b"NX"], [b"PTTL", key]),
            *([b"TAG.SET", key, value, b"TAGS", b"1", b"u" + number], [b"INCRBY", key, number]),
            *([b"TAG.FETCH", key, b"LEASE", b"1000"], [b"EXPIRE", key, number], [b"TTL", key]),
            *([b"PEXPIRE", key, b"60000"], [b"TOUCH", key], [b"DEL", key], [b"TAG.INV", b"t"]),
            *([b"NONE"], [b"EXPIRE", key, b"60", b"GT"], [b"INCR", key], [b"PERSIST", key]),
        ]
    )
    return resp.request(*words)


def load(pump: Any, server: Server, connections: dict[Any, Dialect], random: Random) -> None:
    """Send requests in chunks, some of which end within a request, on new sockets."""
    clients = [Client(pump, server, dialect, each) for each, dialect in connections.items()]
    for number in range(CHUNKS):
        client = clients[number % len(clients)]
        make = lines if number % len(clients) < len(clients) // 2 else arrays
        chunk = b"".join(make(random) for _ in range(random.randrange(1, 4)))
        cut = random.randrange(len(chunk)) if number % 5 == 0 else 0
        for part in (chunk[:cut], chunk[cut:]):
            client.peer.send(part)
            pump.run(0.0)
        client.replies()
    for client in clients:
        client.leave()


def empty(server: Server) -> None:
    cache = server.cache
    done(cache.flush())
    # It shares equal times to live, at most a few thousand.
    cache._admission._shared_ttls.clear()
    # The leases and the notes about removed keys end.
    server.clock.advance(4000)
    for _ in range(3):
        for work in (cache.sweep(), cache.reclaim()):
            for _ in work:
                pass
    assert cache.backlog == 0
    assert (cache.store.items, cache.store.size, cache.store.key_size) == (0, 0, 0)
    tags = cache.store.tags
    assert (tags.references, tags.count_all, tags.name_bytes) == (0, 0, 0)
    assert not any(len(shard) for shard in cache.store.shards)
    assert done(cache.check()).faults == ()


def held() -> tuple[int, int]:
    """Return the blocks that Python has allocated, and the resident bytes."""
    gc.collect()
    return sys.getallocatedblocks(), int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["sieve", "lru"])
def test_a_long_load_leaves_nothing_behind(policy: str) -> None:
    core: Any = native.core
    server = Server(settings_with(cache={"eviction_policy": policy}))
    # The last invalidations are kept for users.
    server.events.invalidated = lambda *event: None  # type: ignore[method-assign]
    with select.epoll() as others:
        pump = core.Pump(others.fileno())
        random = Random(1)
        # The protocols stay, because Twisted keeps what is logged about new ones.
        connections = {server.connect(): each for each in READERS for _ in range(2)}
        measured = []
        for _ in range(ROUNDS):
            load(pump, server, connections, random)
            empty(server)
            server.clock.advance(-4000)
            measured.append(held())
    (blocks, size), (last_blocks, last_size) = measured[ROUNDS // 2], measured[-1]
    assert last_blocks - blocks < MOST_BLOCKS, measured
    assert last_size - size < MOST_BYTES, measured
