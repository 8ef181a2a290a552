"""What one database does, no other sees: every command of every protocol, at random.

Several databases of one server are compared, command by command, with servers that have only one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tagcache.server.commands.cache import CACHE_COMMANDS
from tagcache.server.commands.fresh import FRESH_COMMANDS
from tagcache.server.http.databases import DB
from tagcache.server.http.routes import Route
from tagcache.server.resp.commands import RespTable
from tagcache.wire import resp
from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import Door as HttpServer
from tests.unit.server.line.test_protocol import Server as CachePort

KEYS = ["k", "k2", "a:1", "a:2", "b:1"]
TAGS = ["t", "u", "v"]
VALUES = ["1", "-7", "text", "3.5", "k"]
NUMBERS = (0, 1, 7)
LOCK = (
    "if redis.call('get',KEYS[1]) == ARGV[1] "
    "then return redis.call('del',KEYS[1]) else return 0 end"
)

# In these, k is a key, t a tag, v a value and n a small number; the others are themselves.
LINES = """
GET k|PUT k - t v|PUT k 60000 t,t v|ADD k - t v|INCR k n - t|DECR k|TOUCH k 5000|DEL k|INV_TAG t
INV_TAGS_ANY t,t|INV_TAGS_ALL t,t|INV_KEYS k,k|FLUSH|KEYS_BY_TAG t|KEYS t|STATS|PING
PUT k 5000+60000 t v|FETCH k 60000|FETCH k 5000 0
FILL 1 k 60000+60000 t v|RELEASE 1 k|SOFT_TAG t|SOFT_TAGS_ANY t,t|SOFT_TAGS_ALL t,t|SOFT_KEYS k,k
"""
REDIS = """
GET k|MGET k k|GETDEL k|GETEX k PX 5000|STRLEN k|GETRANGE k 0 n|SUBSTR k 0 n|SET k v|SET k v NX GET
SETEX k n v|PSETEX k 5000 v|SETNX k v|GETSET k v|MSET k v k v|MSETNX k v k v|APPEND k v
SETRANGE k n v|INCR k|DECR k|INCRBY k n|DECRBY k n|INCRBYFLOAT k 0.5|TTL k|PTTL k|EXPIRETIME k
PEXPIRETIME k|EXPIRE k n|PEXPIRE k 5000|EXPIREAT k 4000000000|PEXPIREAT k 4000000000000|PERSIST k
DEL k k|UNLINK k|EXISTS k k|TOUCH k|TYPE k|RENAME k k|RENAMENX k k|COPY k k REPLACE|RANDOMKEY
KEYS k*|SCAN 0 COUNT 3|DBSIZE|FLUSHDB|OBJECT ENCODING k|MEMORY USAGE k|TAG.SET k v TAGS 1 t
TAG.SET k v TAGS 2 t t|TAG.INVALIDATE 1 t|TAG.INVALIDATE ALL 2 t t|TAG.KEYS t|TAG.OF k|TAG.COUNT t
TAG.FETCH k LEASE 5000 WAIT 0|TAG.SET k v LEASE 1 GRACE 5000 TAGS 1 t|TAG.RELEASE k 1
TAG.SET k v PX 5000 GRACE 60000 TAGS 1 t|TAG.INVALIDATE SOFT 1 t|TAG.INVALIDATE ALL SOFT 2 t t
TAG.TOP 3|TAG.INCR k n PX 5000 TAGS 1 t|TAG.DECR k n|TAG.TOUCH k PX 5000|TAG.FLUSH|TAG.STATS
MULTI; SET k v; INCR k; GET k; EXEC|MULTI; DEL k; DISCARD|WATCH k; UNWATCH
WATCH k; MULTI; TAG.SET k v TAGS 1 t; TAG.INVALIDATE 1 t; EXEC|SCRIPT EXISTS x|EVAL lock 1 k v
EVALSHA b70c2384248f88e6b75b9f89241a180f856ad852 1 k v
"""


def templates(text: str) -> list[str]:
    return [each for line in text.strip().splitlines() for each in line.split("|")]


class World:
    """A server with all its protocols, on clocks that a test moves."""

    def __init__(self) -> None:
        settings = settings_with()
        self.http = HttpServer(settings)
        self.port = CachePort(settings)
        self.port.factory = self.port.factory_of(self.http.databases, settings)
        self.databases = self.http.databases

    def pass_time(self, seconds: float) -> None:
        self.http.clock.advance(seconds)
        self.port.clock.advance(seconds)


class Protocol(ABC):
    """A way to send random commands to a database.

    Attributes:
        known: what there is to send, by name.
        sent: what was sent.
    """

    known: set[str]

    def __init__(self, world: World) -> None:
        self.world = world
        self.sent: set[str] = set()

    @abstractmethod
    def draw(self, random: Random) -> Any:
        """Return a random command."""

    @abstractmethod
    def send(self, command: Any, database: int) -> Any:
        """Send a command to a database, and return the reply, without what is random in it."""


class OnTheCachePort(Protocol):
    """Commands on connections: one for each database, and one that changes between them."""

    texts: list[str]

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._own = {number: self._connect(number) for number in NUMBERS}
        self._roaming = world.port.connect()

    def _connect(self, number: int) -> Any:
        connection = self.world.port.connect()
        if number:
            self._ask(connection, self.encode(["SELECT", str(number)]))
        return connection

    def _ask(self, connection: Any, data: bytes) -> bytes:
        protocol, transport = connection
        transport.clear()
        protocol.dataReceived(data)
        self.world.http.clock.pump([0] * 3)
        self.world.port.clock.pump([0] * 3)
        return bytes(transport.value())

    def draw(self, random: Random) -> Any:
        text = random.choice(self.texts)
        words = {
            "k": lambda: random.choice(KEYS),
            "t": lambda: random.choice(TAGS),
            "v": lambda: random.choice(VALUES),
            "n": lambda: str(random.randint(1, 5)),
            "lock": lambda: LOCK,
        }
        requests = [
            [
                ",".join(words.get(part, lambda part=part: part)() for part in word.split(","))
                for word in one.split()
            ]
            for one in text.split(";")
        ]
        return requests, random.random() < 0.5

    def send(self, command: Any, database: int) -> Any:
        requests, roams = command
        self.sent |= {request[0] for request in requests}
        data = b"".join(map(self.encode, requests))
        if not roams:
            return self._ask(self._own[database], data)
        select = self.encode(["SELECT", str(database)])
        said = self._ask(self._roaming, select + data)
        assert said.startswith(self.ok)
        return said.removeprefix(self.ok)

    ok: bytes
    encode: Callable[[list[str]], bytes]


class Lines(OnTheCachePort):
    known = {row.verb.decode() for row in (*CACHE_COMMANDS, *FRESH_COMMANDS)} - {"SELECT"}
    texts = templates(LINES)
    ok = b"OK\n"

    @staticmethod
    def encode(words: list[str]) -> bytes:
        return "\t".join(words).encode() + b"\n"


class Resp(OnTheCachePort):
    # FLUSHALL is not about one database.
    known = {row.verb.decode() for row in RespTable(()).supported} - {"FLUSHALL"}
    texts = templates(REDIS)
    ok = resp.OK

    @staticmethod
    def encode(words: list[str]) -> bytes:
        return resp.request(*(word.encode() for word in words))

    def send(self, command: Any, database: int) -> Any:
        said = super().send(command, database)
        return said[:1] if command[0][0][0] == "RANDOMKEY" else said


class Http(Protocol):
    def __init__(self, world: World) -> None:
        super().__init__(world)
        self._routes = [route for route in world.http.routes.all if DB in route.query]
        self.known = {route.label for route in self._routes}

    def draw(self, random: Random) -> Any:
        route: Route = random.choice(self._routes)
        values: dict[str, Callable[[], Any]] = {
            "key": lambda: random.choice(KEYS),
            "keys": lambda: random.choices(KEYS, k=2),
            "value": lambda: random.choice(VALUES),
            "tag": lambda: random.choice(TAGS),
            "tags": lambda: random.choices(TAGS, k=2),
            "tag_any": lambda: random.choices(TAGS, k=2),
            "tag_all": lambda: random.choices(TAGS, k=2),
            "ttl_ms": lambda: random.choice([None, 5000]),
            "ttl_seconds": lambda: None,
            "lease_ms": lambda: random.choice([1, 60_000]),
            "wait_ms": lambda: 0,
            "grace_ms": lambda: random.choice([None, 60_000]),
            "lease": lambda: "1",
            "soft": lambda: random.choice([True, False]),
            "by": lambda: random.randint(-5, 5),
            "mode": lambda: random.choice(["any", "all"]),
            "q": lambda: random.choice(["", "a:"]),
            "prefix": lambda: random.choice(["", "t"]),
            "sort": lambda: random.choice(["keys", "bytes", "hits"]),
            "limit": lambda: random.choice([1, 3]),
            "offset": lambda: random.choice([0, 1]),
            "raw": lambda: random.choice(["true", "false"]),
            "dry_run": lambda: random.choice(["true", "false"]),
        }

        def some(fields: Any) -> dict[str, Any]:
            return {
                each.name: values[each.name]()
                for each in fields
                if each is not DB and (each.required or random.random() < 0.6)
            }

        path = route.path.replace("{key}", random.choice(KEYS))
        body = None if route.body is None else some(route.body)
        return route, path, some(route.query), body

    def send(self, command: Any, database: int) -> Any:
        route, path, query, body = command
        self.sent.add(route.label)
        if database:
            query = {**query, DB.name: database}
        text = "&".join(f"{name}={value}" for name, value in query.items())
        return self.world.http.call(route.method, f"{path}?{text}" if text else path, body)


PROTOCOLS: tuple[type[Protocol], ...] = (Lines, Resp, Http)


def state_of(world: World, number: int) -> Any:
    """What a database holds and has counted."""
    cache = world.http.caches[number]
    entries = [item for item in cache.scan(b"") if item is not None]
    held = [(key, entry.value, entry.tags, entry.stored, entry.ttl) for key, entry in entries]
    return held, cache.counters(), cache.held(), cache.memory, cache.backlog


@pytest.mark.parametrize("seed", range(5))
def test_what_one_database_does_no_other_sees(seed: int) -> None:
    random = Random(seed)
    together = World()
    alone = {number: World() for number in NUMBERS}
    protocols = [make(together) for make in PROTOCOLS]
    references = {number: [make(world) for make in PROTOCOLS] for number, world in alone.items()}
    for _ in range(2000):
        number = random.choice(NUMBERS)
        which = random.randrange(len(PROTOCOLS))
        command = protocols[which].draw(random)
        told = protocols[which].send(command, number)
        expected = references[number][which].send(command, 0)
        assert told == expected, (number, command)
        if random.random() < 0.05:
            seconds = random.choice([0.5, 3.0, 6.0])
            for world in (together, *alone.values()):
                world.pass_time(seconds)
        if random.random() < 0.02:
            for each in NUMBERS:
                assert state_of(together, each) == state_of(alone[each], 0), (number, command)
    for number in NUMBERS:
        assert state_of(together, number) == state_of(alone[number], 0)
    assert [number for number, _ in together.databases] == list(NUMBERS)


def test_every_command_is_among_those() -> None:
    random = Random(1)
    world = World()
    for make in PROTOCOLS:
        protocol = make(world)
        for _ in range(3000):
            protocol.send(protocol.draw(random), 1)
        assert protocol.known - protocol.sent == set()
        assert not protocol.sent - protocol.known
