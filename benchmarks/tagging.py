"""Ways to cache with tags: TagCache, and what people build on Redis. All do the same job.

Each stores a value with tags and a time to live, reads it, and removes all entries of a tag.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from benchmarks import servers
from benchmarks.load import Load
from benchmarks.servers import HOST, Server
from tagcache.client import Client

VALUE = b"x" * Load().value_size
# How many keys are deleted by one command.
CHUNK = 1000
# How many calls of an asynchronous library are in progress while the cache is filled.
_TOGETHER = 100

# The tags of a key are also kept beside it, so that the next store can take the key out of those
# sets that it leaves. This record has no time to live, because the sets have none.
STORE = """
local tags = {unpack(ARGV, 3)}
local told = table.concat(tags, '\\n')
local former = redis.call('SET', 'tags-of:' .. KEYS[1], told, 'GET')
if former ~= told then
    if former then
        for tag in string.gmatch(former, '[^\\n]+') do
            redis.call('SREM', tag, KEYS[1])
        end
    end
    for _, tag in ipairs(tags) do
        redis.call('SADD', tag, KEYS[1])
    end
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# One chunk of the keys of a tag, so that other clients do not wait for all of them.
INVALIDATE = """
local keys = redis.call('SPOP', KEYS[1], ARGV[1])
for _, key in ipairs(keys) do
    local former = redis.call('GETDEL', 'tags-of:' .. key)
    if former then
        for tag in string.gmatch(former, '[^\\n]+') do
            redis.call('SREM', tag, key)
        end
    end
    redis.call('DEL', key)
end
return #keys
"""


class Way(ABC):
    """One way to do the job, with one connection to its server."""

    name: str
    # As the load generator has it; empty if only this process can do it.
    tagging = ""

    def __init__(self, server: Server) -> None:
        self.server = server

    @abstractmethod
    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        """Store the value for ``ttl`` seconds."""

    @abstractmethod
    def read(self, key: str, tags: Sequence[str]) -> bytes | None:
        """Return the value. ``tags`` is for those that have the tags in the key."""

    @abstractmethod
    def invalidate(self, tag: str) -> None:
        """Remove all entries of a tag."""

    @abstractmethod
    def clear(self) -> None:
        """Remove everything."""

    @abstractmethod
    def recorded(self, tags: Sequence[str]) -> int:
        """Return how many entries the server lists under the tags, in sum."""

    def fill(self, entries: Mapping[str, Sequence[str]], ttl: int) -> None:
        """Store many keys, each with its tags."""
        for key, tags in entries.items():
            self.store(key, tags, ttl)

    @abstractmethod
    def close(self) -> None:
        """Close the connection."""


class _Redis(Way):
    """A way through redis-py, which parses with hiredis where it is installed."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.redis: Any = import_module("redis").Redis(port=server.port)

    def read(self, key: str, tags: Sequence[str]) -> bytes | None:
        found: bytes | None = self.redis.get(key)
        return found

    def clear(self) -> None:
        self.redis.flushall()

    def close(self) -> None:
        self.redis.close()


class Commands(_Redis):
    """TagCache by its own commands in RESP."""

    name = "TagCache, RESP"
    tagging = "command"

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        self.redis.execute_command("TAG.SET", key, VALUE, "EX", ttl, "TAGS", len(tags), *tags)

    def invalidate(self, tag: str) -> None:
        self.redis.execute_command("TAG.INVALIDATE", 1, tag)

    def recorded(self, tags: Sequence[str]) -> int:
        return sum(self.redis.execute_command("TAG.COUNT", tag) for tag in tags)


class Lines(Way):
    """TagCache by lines."""

    name = "TagCache, lines"
    tagging = "command"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._socket = socket.create_connection((HOST, server.port))
        self._replies = self._socket.makefile("rb")

    def _ask(self, *fields: str) -> bytes:
        self._socket.sendall("\t".join(fields).encode() + b"\n")
        return self._replies.readline().rstrip(b"\n")

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        self._ask("PUT", key, str(ttl * 1000), ",".join(tags), VALUE.decode())

    def read(self, key: str, tags: Sequence[str]) -> bytes | None:
        reply = self._ask("GET", key)
        return None if reply == b"NF" else reply.removeprefix(b"VALUE\t")

    def invalidate(self, tag: str) -> None:
        self._ask("INV_TAG", tag)

    def clear(self) -> None:
        self._ask("FLUSH")

    def recorded(self, tags: Sequence[str]) -> int:
        replies = [self._ask("KEYS", tag).removeprefix(b"KEYS\t") for tag in tags]
        return sum(reply.count(b",") + 1 for reply in replies if reply)

    def close(self) -> None:
        self._replies.close()
        self._socket.close()


class Sets(_Redis):
    """Redis as people write it: SET, and SADD of the key to a set for each tag."""

    name = "Redis, sets"
    tagging = "sets"

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        pipeline = self.redis.pipeline(transaction=False)
        pipeline.set(key, VALUE, ex=ttl)
        for tag in tags:
            pipeline.sadd(tag, key)
        pipeline.execute()

    def invalidate(self, tag: str) -> None:
        keys = list(self.redis.smembers(tag))
        pipeline = self.redis.pipeline(transaction=False)
        for begin in range(0, len(keys), CHUNK):
            pipeline.delete(*keys[begin : begin + CHUNK])
        pipeline.delete(tag)
        pipeline.execute()

    def recorded(self, tags: Sequence[str]) -> int:
        return sum(self.redis.scard(tag) for tag in tags)


class Script(_Redis):
    """Redis with sets that stay correct when an entry is stored with other tags."""

    name = "Redis, sets by script"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._store = self.redis.register_script(STORE)
        self._invalidate = self.redis.register_script(INVALIDATE)
        self.tagging = self.redis.script_load(STORE)

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        self._store(keys=[key], args=[VALUE, ttl * 1000, *tags])

    def invalidate(self, tag: str) -> None:
        while self._invalidate(keys=[tag], args=[CHUNK]) == CHUNK:
            pass

    def recorded(self, tags: Sequence[str]) -> int:
        return sum(self.redis.scard(tag) for tag in tags)


class Ours(Way):
    """The blocking client."""

    name = "tagcache.Client"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._client = Client(port=server.port, serde="bytes")

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        self._client.put(key, VALUE, tags=tags, ttl=ttl)

    def read(self, key: str, tags: Sequence[str]) -> bytes | None:
        found: bytes | None = self._client.get(key)
        return found

    def invalidate(self, tag: str) -> None:
        self._client.invalidate_tag(tag)

    def clear(self) -> None:
        self._client.flush()

    def recorded(self, tags: Sequence[str]) -> int:
        return sum(len(self._client.keys_by_tag(tag)) for tag in tags)

    def close(self) -> None:
        self._client.close()


class DjangoRedis(Way):
    """django-redis, which has no tags: they are a part of the key, and found by a pattern.

    Only who knows the tags of an entry can read it, and with other tags it is another entry.
    """

    name = "django-redis, pattern"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        settings = import_module("django.conf").settings
        if not settings.configured:
            settings.configure()
        backend = import_module("django_redis.cache").RedisCache
        self._cache: Any = backend(f"redis://{HOST}:{server.port}/0", {})

    @staticmethod
    def _name(key: str, tags: Sequence[str]) -> str:
        return f"/{'/'.join(tags)}/{key}"

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        self._cache.set(self._name(key, tags), VALUE, ttl)

    def read(self, key: str, tags: Sequence[str]) -> bytes | None:
        found: bytes | None = self._cache.get(self._name(key, tags))
        return found

    def invalidate(self, tag: str) -> None:
        # As its documentation recommends for many keys.
        self._cache.delete_pattern(f"*/{tag}/*", itersize=100_000)

    def clear(self) -> None:
        self._cache.clear()

    def recorded(self, tags: Sequence[str]) -> int:
        found = {key for tag in tags for key in self._cache.iter_keys(f"*/{tag}/*", 100_000)}
        return sum(tag in key.split("/") for key in found for tag in tags)

    def fill(self, entries: Mapping[str, Sequence[str]], ttl: int) -> None:
        names = [self._name(key, tags) for key, tags in entries.items()]
        for begin in range(0, len(names), CHUNK):
            self._cache.set_many(dict.fromkeys(names[begin : begin + CHUNK], VALUE), ttl)

    def close(self) -> None:
        self._cache.close()


class Cashews(Way):
    """cashews, with its own tags: sets, which expire with the entry that was stored last."""

    name = "cashews"

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._loop = asyncio.new_event_loop()
        self._cache: Any = import_module("cashews").Cache()
        self._cache.setup(f"redis://{HOST}:{server.port}", max_connections=_TOGETHER)
        self._redis: Any = import_module("redis").Redis(port=server.port)

    def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(call)

    def store(self, key: str, tags: Sequence[str], ttl: int) -> None:
        self._run(self._cache.set(key, VALUE, expire=ttl, tags=tags))

    def read(self, key: str, tags: Sequence[str]) -> bytes | None:
        found: bytes | None = self._run(self._cache.get(key))
        return found

    def invalidate(self, tag: str) -> None:
        self._run(self._cache.delete_tags(tag))

    def clear(self) -> None:
        self._redis.flushall()

    def recorded(self, tags: Sequence[str]) -> int:
        return sum(self._redis.scard(f"_tag:{tag}") for tag in tags)

    def fill(self, entries: Mapping[str, Sequence[str]], ttl: int) -> None:
        async def all_of_them() -> None:
            left = iter(entries.items())

            async def some() -> None:
                for key, tags in left:
                    await self._cache.set(key, VALUE, expire=ttl, tags=tags)

            await asyncio.gather(*(some() for _ in range(_TOGETHER // 2)))

        self._run(all_of_them())

    def close(self) -> None:
        self._redis.close()
        self._run(self._cache.close())
        self._loop.close()


_LIBRARIES: dict[type[Way], str] = {
    Commands: "redis",
    Sets: "redis",
    Script: "redis",
    DjangoRedis: "django_redis",
    Cashews: "cashews",
}


def missing_library(kind: type[Way]) -> str | None:
    """Return the library that a way needs and that is not installed, if any."""
    library = _LIBRARIES.get(kind)
    if library is None or find_spec(library) is not None:
        return None
    print(f"{library} is not installed: skipped", flush=True)
    return library


def ways(stack: ExitStack) -> list[Way]:
    """Start the servers: one TagCache for all its ways, and one Redis for each of the others."""
    tagcache = stack.enter_context(servers.tagcache(servers.default_reactor()))
    found: list[Way] = [Commands(tagcache.over_resp()), Lines(tagcache)]
    found += [
        kind(stack.enter_context(servers.redis()))
        for kind in (Sets, Script, DjangoRedis, Cashews)
        if missing_library(kind) is None
    ]
    found.append(Ours(tagcache))
    for way in found:
        stack.callback(way.close)
    return found
