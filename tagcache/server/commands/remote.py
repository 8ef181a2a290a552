"""What the verbs do where the engine is a remote one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tagcache.errors import BackendUnavailable, InvalidArgument
from tagcache.model.interfaces import ICache, IRemoteCache, RemoteTotals
from tagcache.model.statistics import Counters
from tagcache.model.views import Miss
from tagcache.server.auth.credentials import Credentials
from tagcache.server.commands.local import Commands, described, entry_of, second_of, step_of, tag_of
from tagcache.server.line.pipelined import PipelinedProtocol
from tagcache.server.line.protocol import CacheProtocol, Reply
from tagcache.server.net.connections import Connections
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.traffic import Traffic
from tagcache.server.service import TagCacheService
from tagcache.server.upkeep.slices import Slices
from tagcache.wire import line as wire

if TYPE_CHECKING:
    # Needs the extra.
    from tagcache.server.backend import Backend


class RemoteCommands(Commands):
    """The verbs, bound to a cache that answers later; ``nothing`` is a cache without entries."""

    def __init__(
        self,
        remote: IRemoteCache,
        nothing: ICache,
        connections: Connections,
        credentials: Credentials,
        slices: Slices,
        info: Callable[[], Deferred[dict[str, Any]]],
        traffic: Traffic,
        events: EventLog,
    ) -> None:
        self._remote = remote
        self._info_later = info
        super().__init__(nothing, connections, credentials, slices, dict, traffic, events)

    def gets_from(self) -> None:
        return None

    def get(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        if len(fields) < 2:
            raise InvalidArgument("missing_key")
        key = fields[1]
        near = self._remote.get_near(key)
        if near is not None:
            return wire.value(near)

        pipelined = client if isinstance(client, PipelinedProtocol) else None
        number = 0 if pipelined is None else pipelined.begin_look_up(key)

        def conclude(found: bytes | Miss) -> bytes:
            lease, reply = None, wire.NOT_FOUND
            if isinstance(found, bytes):
                reply = wire.value(found)
            else:
                lease = found.lease
            if pipelined is not None:
                pipelined.end_look_up(key, number, lease)
            return reply

        def fail(reason: Failure) -> Failure:
            if pipelined is not None:
                pipelined.end_look_up(key, number)
            return reason

        return self._remote.get(key, client.connection.id).addCallbacks(conclude, fail)

    def put(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        key, ttl, tags, value = entry_of(fields)
        lease = client.take_lease(key) if isinstance(client, PipelinedProtocol) else None
        stored = self._remote.put(
            *(key, value, wire.parse_tags(tags), wire.parse_ttl(ttl)), lease, client.connection.id
        )
        return stored.addCallback(lambda _: wire.OK)

    def add(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        key, ttl, tags, value = entry_of(fields)
        added = self._remote.add(
            *(key, value, wire.parse_tags(tags), wire.parse_ttl(ttl)), client.connection.id
        )
        return added.addCallback(lambda stored: wire.ADDED if stored else wire.EXISTS)

    def incr(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        counted = self._remote.increment(*step_of(fields), client.connection.id)
        return counted.addCallback(wire.integer)

    def decr(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        counted = self._remote.decrement(*step_of(fields), client.connection.id)
        return counted.addCallback(wire.integer)

    def touch(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        _, key, ttl = (*fields, b"", b"")[:3]
        if not key:
            raise InvalidArgument("missing_key")
        touched = self._remote.touch(key, wire.parse_ttl(ttl), client.connection.id)
        return touched.addCallback(lambda there: wire.TOUCHED if there else wire.NOT_FOUND)

    def delete(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        if len(fields) < 2:
            raise InvalidArgument("missing_key")
        if isinstance(client, PipelinedProtocol):
            client.take_lease(fields[1])
        deleted = self._remote.delete(fields[1], client.connection.id)
        return deleted.addCallback(lambda there: wire.DELETED if there else wire.NOT_DELETED)

    def inv_tag(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        tag = tag_of(fields)
        return self._removed(client, b"INV_TAG", [tag], self._remote.invalidate_tag(tag))

    def inv_tags_any(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        tags = wire.parse_list(second_of(fields), "tags")
        removed = self._remote.invalidate_any(tags)
        return self._removed(client, b"INV_TAGS_ANY", tags, removed)

    def inv_tags_all(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        tags = wire.parse_list(second_of(fields), "tags")
        removed = self._remote.invalidate_all(tags)
        return self._removed(client, b"INV_TAGS_ALL", tags, removed)

    def inv_keys(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        keys = wire.parse_list(second_of(fields), "keys")
        return self._removed(client, b"INV_KEYS", keys, self._remote.invalidate_keys(keys))

    def flush(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        return self._removed(client, b"FLUSH", (), self._remote.flush())

    def _removed(
        self,
        client: CacheProtocol,
        verb: bytes,
        names: Sequence[bytes],
        removed: Deferred[int],
    ) -> Deferred[bytes]:
        if isinstance(client, PipelinedProtocol):
            # What a client stores after its own invalidation, it means to be there.
            client.end_leases()
        return removed.addCallback(lambda number: self._gone(client, verb, names, number))

    def keys_by_tag(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        found = self._remote.keys_by_tag(tag_of(fields))
        return found.addCallback(lambda keys: self._list(client, keys))

    def stats(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        def conclude(counted: Counters) -> bytes:
            return wire.stats(
                counted.hits,
                counted.misses,
                counted.puts,
                counted.invalidations,
                counted.hit_ratio,
            )

        return self._remote.counters().addCallback(conclude)

    def info(self, client: CacheProtocol, fields: list[bytes]) -> Reply:
        if second_of(fields).lower() == b"check":
            return self._remote.check().addCallback(
                lambda found: wire.json_object(b"INFO", described(found))
            )
        return self._info_later().addCallback(lambda told: wire.json_object(b"INFO", told))


def remote_info(
    service: TagCacheService, remote: IRemoteCache, backend: Backend
) -> Deferred[dict[str, Any]]:
    """Return what INFO tells, as a JSON object.

    While the engine cannot be reached its figures are those of the last time that it could.
    """

    def conclude(totals: RemoteTotals) -> dict[str, Any]:
        figures = service.figures(
            totals, totals.counters, backend.memory, backend.max_memory, backend.backlog
        )
        return service.describe({**figures, "eviction_policy": None}, backend.describe())

    def fall_back(failure: Failure) -> RemoteTotals:
        failure.trap(BackendUnavailable)
        return backend.seen

    return remote.totals().addErrback(fall_back).addCallback(conclude)
