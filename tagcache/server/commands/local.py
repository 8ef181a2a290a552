"""What each verb of the line protocol does."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from tagcache.errors import InvalidArgument
from tagcache.model.interfaces import ICache
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import Consistency
from tagcache.server.auth.credentials import Credentials
from tagcache.server.line.protocol import CacheProtocol, Command, Disconnect, Reply, Verbs
from tagcache.server.net.connections import Connections
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.log_throttle import LogThrottle
from tagcache.server.observe.traffic import MOST_SLOW, Traffic
from tagcache.server.upkeep.slices import Slices
from tagcache.wire import line as wire

_AUTH_REQUIRED = wire.error("auth_required")

_REMEMBERED_OPTIONS = 4096
_REMEMBERED_LENGTH = 256

log = Logger(namespace="tagcache.commands")


class Commands:
    """The verbs, bound to the cache and to what they tell about.

    ``info`` returns what INFO answers, as a JSON object; ``traffic`` counts what clients say, and
    ``events`` hears of invalidations.
    """

    def __init__(
        self,
        cache: ICache,
        connections: Connections,
        credentials: Credentials,
        slices: Slices,
        info: Callable[[], dict[str, Any]],
        traffic: Traffic,
        events: EventLog,
    ) -> None:
        self._cache = cache
        self._connections = connections
        self._credentials = credentials
        self._slices = slices
        self._info = info
        self.traffic = traffic
        self._events = events
        self._left_out = LogThrottle()
        self._options: dict[tuple[bytes, bytes], StoreOptions] = {}
        everything: dict[bytes, Command] = {
            b"GET": self.get,
            b"PUT": self.put,
            b"ADD": self.add,
            b"INCR": self.incr,
            b"DECR": self.decr,
            b"TOUCH": self.touch,
            b"DEL": self.delete,
            b"INV_TAG": self.inv_tag,
            b"INV_TAGS_ANY": self.inv_tags_any,
            b"INV_TAGS_ALL": self.inv_tags_all,
            b"INV_KEYS": self.inv_keys,
            b"KEYS_BY_TAG": self.keys_by_tag,
            b"KEYS": self.keys_by_tag,
            b"STATS": self.stats,
            b"FLUSH": self.flush,
            b"AUTH": self.auth,
            b"CLIENTS": self.clients,
            b"CLIENT_KILL": self.client_kill,
            b"INFO": self.info,
            b"PING": self.ping,
            b"QUIT": self.quit,
            b"SLOWLOG": self.slowlog,
        }
        self._everything = Verbs(_both_cases(everything), self.unknown, self.gets_from())
        traffic.know_verbs(self._everything.commands)
        self._only_auth = Verbs(
            _both_cases({b"AUTH": self.auth}), self.not_authenticated, None, admitted=False
        )

    def verbs(self, authenticated: bool) -> Verbs:
        """Return what a client may say."""
        return self._everything if authenticated else self._only_auth

    def gets_from(self) -> ICache | None:
        """Return the cache that plain GETs may be answered from at once."""
        return self._cache

    def get(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        if len(fields) < 2:
            raise InvalidArgument("missing_key")
        value = self._cache.get(fields[1])
        return wire.NOT_FOUND if value is None else wire.value(value)

    def put(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        key, ttl, tags, value = entry_of(fields)
        options = self._options.get((ttl, tags))
        if options is None:
            options = self._read_options(ttl, tags)
        self._cache.put_with(key, value, options, client.now)
        return wire.OK

    def _read_options(self, ttl: bytes, tags: bytes) -> StoreOptions:
        """Read the fields, and remember what they mean: the same few come again and again."""
        options = StoreOptions(wire.parse_tags(tags), wire.parse_ttl(ttl))
        if len(tags) <= _REMEMBERED_LENGTH:
            if len(self._options) >= _REMEMBERED_OPTIONS:
                self._options.clear()
            self._options[ttl, tags] = options
        return options

    def add(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        key, ttl, tags, value = entry_of(fields)
        added = self._cache.add(key, value, wire.parse_tags(tags), wire.parse_ttl(ttl))
        return wire.ADDED if added else wire.EXISTS

    def incr(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        return wire.integer(self._cache.increment(*step_of(fields)))

    def decr(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        return wire.integer(self._cache.decrement(*step_of(fields)))

    def touch(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        _, key, ttl = (*fields, b"", b"")[:3]
        if not key:
            raise InvalidArgument("missing_key")
        return wire.TOUCHED if self._cache.touch(key, wire.parse_ttl(ttl)) else wire.NOT_FOUND

    def delete(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        if len(fields) < 2:
            raise InvalidArgument("missing_key")
        return wire.DELETED if self._cache.delete(fields[1]) else wire.NOT_DELETED

    def inv_tag(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        tag = tag_of(fields)
        return self._counted(client, b"INV_TAG", [tag], self._cache.invalidate_tag(tag))

    def inv_tags_any(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        tags = wire.parse_list(second_of(fields), "tags")
        return self._counted(client, b"INV_TAGS_ANY", tags, self._cache.invalidate_any(tags))

    def inv_tags_all(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        tags = wire.parse_list(second_of(fields), "tags")
        return self._counted(client, b"INV_TAGS_ALL", tags, self._cache.invalidate_all(tags))

    def inv_keys(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        keys = wire.parse_list(second_of(fields), "keys")
        return self._counted(client, b"INV_KEYS", keys, self._cache.invalidate_keys(keys))

    def _counted(
        self,
        client: CacheProtocol,
        verb: bytes,
        names: Sequence[bytes],
        work: Generator[None, None, int],
    ) -> Reply:
        return self._slices.finish(work, lambda number: self._gone(client, verb, names, number))

    def _gone(
        self, client: CacheProtocol, verb: bytes, names: Sequence[bytes], number: int
    ) -> bytes:
        self._events.invalidated(client.connection.peer, verb.decode(), names, number)
        return wire.count(verb, number)

    def keys_by_tag(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        return self._slices.finish(
            self._cache.keys_by_tag(tag_of(fields)), lambda keys: self._list(client, keys)
        )

    def _list(self, client: CacheProtocol, keys: list[bytes]) -> Reply:
        return self._slices.finish(wire.keys(keys), lambda framed: self._listed(client, *framed))

    def _listed(self, client: CacheProtocol, reply: bytes, left_out: int) -> bytes:
        more = self._left_out.now() if left_out else None
        if more is not None:
            log.info(
                "KEYS for {peer} left out {count} keys that hold a comma or a line feed{more}",
                more=more,
                peer=client.connection.peer,
                count=left_out,
            )
        return reply

    def stats(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        counted = self._cache.counters()
        return wire.stats(
            counted.hits, counted.misses, counted.puts, counted.invalidations, counted.hit_ratio
        )

    def flush(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        return self._counted(client, b"FLUSH", (), self._cache.flush())

    def auth(self, client: CacheProtocol, fields: list[bytes]) -> Deferred[bytes]:
        address = client.connection.host
        if len(fields) == 2:
            checked = succeed(self._credentials.accepts_token(fields[1]))
        else:
            user, password = fields[1:3] if len(fields) > 2 else (b"", b"")
            checked = self._credentials.verify(user, password, address)

        def conclude(right: bool) -> bytes:
            if not right:
                raise InvalidArgument("auth_failed")
            client.connection.logged_in = True
            client.use_verbs(self.verbs(authenticated=True))
            return wire.OK

        return checked.addCallback(conclude)

    def clients(self, client: CacheProtocol, fields: list[bytes]) -> Deferred[bytes]:
        described: list[str] = []
        connections = list(self._connections)
        now = self._connections.monotonic()

        def describe() -> Iterator[None]:
            for connection in connections:
                described.append(json.dumps(connection.describe(now), separators=(",", ":")))
                yield

        done = self._slices.run(describe())
        return done.addCallback(lambda _: wire.json_list(b"CLIENTS", described))

    def client_kill(self, client: CacheProtocol, fields: list[bytes]) -> bytes:
        text = second_of(fields)
        if not text:
            raise InvalidArgument("missing_id")
        if not text.isdigit() or len(text) > 19:
            raise InvalidArgument("invalid_id")
        connection = self._connections.get(int(text))
        reply = wire.json_object(
            b"CLIENT_KILL", {"id": int(text), "killed": connection is not None}
        )
        if connection is client.connection:
            raise Disconnect(reply)
        if connection is not None:
            connection.abort()
        return reply

    def info(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        if second_of(fields).lower() == b"check":
            return self._slices.finish(
                self._cache.check(), lambda found: wire.json_object(b"INFO", described(found))
            )
        swept = self._slices.run(self._cache.sweep())
        return swept.addCallback(lambda _: wire.json_object(b"INFO", self._info()))

    def ping(self, client: CacheProtocol, fields: list[bytes]) -> bytes:
        return wire.PONG

    def slowlog(self, client: CacheProtocol, fields: list[bytes]) -> bytes:
        text = second_of(fields)
        if text and not (text.isdigit() and len(text) < 10):
            raise InvalidArgument("invalid_count")
        slow = self.traffic.slow(int(text) if text else MOST_SLOW)
        return wire.json_list(
            b"SLOWLOG", [json.dumps(each.describe(), separators=(",", ":")) for each in slow]
        )

    def quit(self, client: CacheProtocol, fields: list[bytes]) -> bytes:
        raise Disconnect(wire.OK)

    def unknown(self, client: CacheProtocol, fields: list[bytes]) -> bytes:
        return wire.UNKNOWN_COMMAND

    def not_authenticated(self, client: CacheProtocol, fields: list[bytes]) -> bytes:
        return _AUTH_REQUIRED


def described(found: Consistency) -> dict[str, Any]:
    """Return what a check found as a JSON object."""
    return {
        "check": {
            "ok": not found.fault_count,
            "entries": found.entries,
            "tags": found.tags,
            "fault_count": found.fault_count,
            "faults": found.faults,
        }
    }


def _both_cases(verbs: Mapping[bytes, Command]) -> dict[bytes, Command]:
    return {**verbs, **{verb.lower(): command for verb, command in verbs.items()}}


def entry_of(fields: list[bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    """Read ``verb key ttl tags value``; returns the last four, missing ones empty."""
    if len(fields) < 5:
        fields = [*fields, b"", b"", b"", b""][:5]
    _, key, ttl, tags, value = fields
    if not key:
        raise InvalidArgument("missing_key")
    return key, ttl, tags, value


def step_of(fields: list[bytes]) -> tuple[bytes, int, list[bytes], int | None]:
    """Read ``verb key by ttl tags``; returns what ``increment`` takes."""
    _, key, by, ttl, tags = (*fields, b"", b"", b"", b"")[:5]
    if not key:
        raise InvalidArgument("missing_key")
    return key, wire.parse_by(by), wire.parse_tags(tags), wire.parse_ttl(ttl)


def second_of(fields: list[bytes]) -> bytes:
    return fields[1] if len(fields) > 1 else b""


def tag_of(fields: list[bytes]) -> bytes:
    if len(fields) < 2:
        raise InvalidArgument("missing_tag")
    return fields[1]
