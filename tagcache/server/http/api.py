"""The endpoints, and the table that says how they are reached."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from tagcache.config.descriptions import descriptions
from tagcache.config.loading import NEEDS_RESTART, Configuration
from tagcache.config.settings import DEFAULT_PASSWORD
from tagcache.errors import AnswerTooLarge, IntegerOverflow, NotAnInteger, ValueTooLarge
from tagcache.model.interfaces import IEngine
from tagcache.model.statistics import EngineTotals
from tagcache.model.views import EntryView, TagSize
from tagcache.server.auth.credentials import Credentials
from tagcache.server.http import jsontext
from tagcache.server.http.application import is_loopback
from tagcache.server.http.fields import (
    ANYTHING,
    KEY,
    KEYS,
    SIGNED,
    TEXT,
    TEXTS,
    UNSIGNED,
    Field,
    one_of,
)
from tagcache.server.http.messages import Call, Response, failure, json_response, too_many_failures
from tagcache.server.http.openapi import describe, page
from tagcache.server.http.routes import Access, Route, Routes
from tagcache.server.http.schema import (
    ANY,
    BOOLEAN,
    INTEGER,
    NOT_FOUND,
    NUMBER,
    STRING,
    TOO_LARGE,
    TTL,
    array,
    either,
    nullable,
    obj,
)
from tagcache.server.net.connections import Connections
from tagcache.server.observe.events import EventLog
from tagcache.server.observe.host_stats import HostStats
from tagcache.server.then import then
from tagcache.server.upkeep.slices import Slices
from tagcache.wire import marks

Answer = Response | Deferred[Response]

MOST_LISTED = 10_000
MOST_ANSWER_BYTES = 64 * 2**20
_KEYS_TOGETHER = 200
_EXPOSED = failure(
    409, "exposed", "a port is open to other machines, which the default password must not be"
)
STORED_FOR_GOOD = b'{"ok":true,"ttl_ms":null}'
MISS = Response(200, b'{"error":"not_found"}')

_KEY = Field("key", KEY, "the key", required=True)
_TAGS = Field("tags", TEXTS, "the tags of the entry")
_TTL_MS = Field("ttl_ms", UNSIGNED, "time to live in milliseconds; 0 or absent: none")
_TTL_SECONDS = Field("ttl_seconds", UNSIGNED, "time to live in seconds, if ttl_ms is absent")
_LIMIT = Field("limit", UNSIGNED, f"how many at most; never more than {MOST_LISTED}")
_OFFSET = Field("offset", UNSIGNED, "how many to skip")
_STORE = (_KEY, Field("value", TEXT, "the value", required=True), _TAGS, _TTL_MS, _TTL_SECONDS)
_COUNT = (
    _KEY,
    Field("by", SIGNED, "the step; absent: 1"),
    _TAGS,
    _TTL_MS,
    _TTL_SECONDS,
)
_KEYS = (Field("keys", KEYS, "the keys", required=True),)

_ITEM = obj(
    ("value", "value_base64", "error"),
    created_ms=INTEGER,
    key=STRING,
    tags=array(STRING),
    ttl_ms=TTL,
    value=ANY,
    value_base64=STRING,
    error=STRING,
)
_STORED = obj(ok=BOOLEAN, ttl_ms=TTL)
_COUNTED = either(obj(ok=BOOLEAN, ttl_ms=TTL, value=INTEGER), obj(error=STRING, ok=BOOLEAN))
_INVALIDATED = obj(("dry_run",), success=BOOLEAN, count=INTEGER, dry_run=BOOLEAN)
_DRY_RUN = (
    Field("dry_run", one_of("true", "false"), "true: only tell how many would go; absent: false"),
)
_DONE = obj(("error",), success=BOOLEAN, error=STRING)


class Api:
    """The endpoints, bound to what they tell about; ``more`` are those of others."""

    def __init__(
        self,
        engine: IEngine,
        connections: Connections,
        credentials: Credentials,
        slices: Slices,
        machine: HostStats,
        configuration: Callable[[], Configuration],
        exposed: Callable[[], bool],
        persistence: Callable[[], dict[str, Any]],
        monotonic: Callable[[], float],
        events: EventLog,
        more: Sequence[Route] = (),
    ) -> None:
        self._engine = engine
        self._session = engine.session
        self._connections = connections
        self._credentials = credentials
        self._slices = slices
        self._machine = machine
        self._configuration = configuration
        self._exposed = exposed
        self._persistence = persistence
        self._monotonic = monotonic
        self._events = events
        # None where a look-up takes time.
        self.lookup: Callable[[bytes], bytes] | None = None
        if engine.store is not None:
            self.lookup = self.look_up
        self.routes = Routes([*self._table(), *more])
        document = describe(self.routes.all)
        self._openapi = Response(200, jsontext.dump(document))
        self._page = page(document)

    def put(self, call: Call) -> Answer:
        body = call.body
        stored = self._session.put(
            body["key"].encode(), stored_as(body["value"]), tags_of(body), ttl_of(body)
        )
        return then(stored, _stored)

    def add(self, call: Call) -> Answer:
        body = call.body
        ttl_ms = ttl_of(body)
        added = self._session.add(
            body["key"].encode(), stored_as(body["value"]), tags_of(body), ttl_ms
        )
        ttl_ms = ttl_ms or self._engine.limits.default_ttl_ms or None
        return then(
            added, lambda done: json_response({"ok": True, "added": done, "ttl_ms": ttl_ms})
        )

    def incr(self, call: Call) -> Answer:
        return self._count(call, self._session.increment)

    def decr(self, call: Call) -> Answer:
        return self._count(call, self._session.decrement)

    def _count(self, call: Call, operation: Callable[..., int | Deferred[int]]) -> Answer:
        body = call.body
        ttl_ms = ttl_of(body)

        def refused(reason: Failure) -> Response:
            # Other errors are raised again.
            reason.trap(NotAnInteger, IntegerOverflow)
            return json_response({"error": getattr(reason.value, "code", ""), "ok": False})

        counted = maybeDeferred(
            operation, body["key"].encode(), body.get("by", 1), tags_of(body), ttl_ms
        )
        return counted.addCallbacks(
            lambda value: json_response({"ok": True, "ttl_ms": ttl_ms, "value": value}), refused
        )

    def touch(self, call: Call) -> Answer:
        touched = self._session.touch(call.body["key"].encode(), ttl_of(call.body))
        return then(touched, lambda there: json_response({"ok": True, "touched": there}))

    def get(self, call: Call) -> Answer:
        found = self._session.get(call.key.encode())
        return then(found, lambda value: Response(200, self._value_body(value)))

    def look_up(self, key: bytes) -> bytes:
        """Return what GET /get/KEY answers, where the engine has that at once."""
        store = self._engine.store
        return self._value_body(None if store is None else store.get(key))

    def _value_body(self, value: bytes | None) -> bytes:
        return value_body(value, self._engine.limits.max_value_length)

    def keys_by_tag(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", MOST_LISTED), MOST_LISTED)
        found = self._engine.search([call.query["tag"].encode("utf-8", "replace")], limit=limit)
        return then(
            found,
            lambda entries: listing(b"keys", [orjson.dumps(text_of(each.key)) for each in entries]),
        )

    def invalidate_key(self, call: Call) -> Answer:
        key = call.body["key"].encode()
        if is_dry(call):
            return then(self._engine.peek(key), lambda entry: would_go(None, entry is not None))
        deleted = self._session.delete(key)
        return then(deleted, lambda there: json_response({"success": there, "count": None}))

    def invalidate_tag(self, call: Call) -> Answer:
        tags = [call.body["tag"].encode()]
        if is_dry(call):
            return then(self._engine.count(tags), lambda count: would_go(count, count > 0))
        removed = self._session.invalidate_tag(tags[0])
        return then(removed, lambda count: self._gone(call, tags, count, count > 0))

    def invalidate_tags(self, call: Call) -> Answer:
        every = call.body.get("mode") == "all"
        tags = tags_of(call.body)
        if is_dry(call):
            return then(self._engine.count(tags, every), would_go)
        session = self._session
        removed = session.invalidate_all(tags) if every else session.invalidate_any(tags)
        return self._removed(call, tags, removed)

    def invalidate_keys(self, call: Call) -> Answer:
        keys = [key.encode() for key in call.body["keys"]]
        if is_dry(call):
            return then(self._engine.count_keys(keys), would_go)
        return self._removed(call, keys, self._session.invalidate_keys(keys))

    def flush(self, call: Call) -> Answer:
        if is_dry(call):
            return then(self._engine.totals(), lambda totals: would_go(totals.items))
        return self._removed(call, (), self._session.flush())

    def _removed(self, call: Call, names: Sequence[bytes], removed: int | Deferred[int]) -> Answer:
        return then(removed, lambda count: self._gone(call, names, count))

    def _gone(
        self, call: Call, names: Sequence[bytes], count: int, success: bool = True
    ) -> Response:
        self._events.invalidated(
            call.request.peer, f"POST {call.request.path.decode()}", names, count
        )
        return json_response({"success": success, "count": count})

    def key(self, call: Call) -> Answer:
        found = self._engine.peek(call.key.encode())
        return then(
            found, lambda entry: MISS if entry is None else json_response(self._item(entry))
        )

    def put_key(self, call: Call) -> Answer:
        try:
            value = stored_as(call.body["value"])
        except TypeError:
            return failure(400, "invalid_json", "the value is nested too deep")
        stored = self._session.put(
            call.key.encode(), value, tags_of(call.body), call.body.get("ttl_ms")
        )
        return then(stored, lambda ttl_ms: json_response({"ok": True, "ttl_ms": ttl_ms}))

    def delete_key(self, call: Call) -> Answer:
        deleted = self._session.delete(call.key.encode())
        return then(deleted, lambda there: json_response({"deleted": int(there), "ok": there}))

    @inlineCallbacks
    def bulk_get(self, call: Call) -> Generator[Any, Any, Response]:
        keys = [key.encode() for key in call.body["keys"]]
        raw = call.query.get("raw") == "true"
        items: list[bytes] = []
        size = 0

        def dump(found: list[EntryView | None]) -> Generator[None, None, None]:
            nonlocal size
            for entry in found:
                if entry is not None:
                    items.append(jsontext.dump(self._item(entry, raw)))
                    size += len(items[-1])
                    if size > MOST_ANSWER_BYTES:
                        raise AnswerTooLarge(f"the answer has more than {MOST_ANSWER_BYTES} bytes")
                yield

        # A few at a time: the values of all may be more than the answer can hold.
        for start in range(0, len(keys), _KEYS_TOGETHER):
            found = yield self._engine.peek_many(keys[start : start + _KEYS_TOGETHER])
            yield self._slices.run(dump(found))
        return listing(b"items", items)

    def list_keys(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", MOST_LISTED), MOST_LISTED)
        found = self._engine.newest(b"", call.query.get("offset", 0), limit)
        return then(found, lambda entries: self._rows(entries, _list_row))

    def search(self, call: Call) -> Answer:
        body = call.body
        limit = min(body.get("limit", 100), MOST_LISTED)
        offset = min(body.get("offset", 0), sys.maxsize - MOST_LISTED)
        if body.get("tag_all") or body.get("tag_any"):
            every = bool(body.get("tag_all"))
            tags = [tag.encode() for tag in body["tag_all" if every else "tag_any"]]
            found = self._engine.search(tags, every, offset, limit)
        else:
            found = self._engine.newest((body.get("q") or "").encode(), offset, limit)
        return then(found, lambda entries: self._rows(entries, _search_row))

    def _rows(self, found: list[EntryView], row: Callable[[EntryView], dict[str, Any]]) -> Answer:
        def dump_each() -> Generator[None, None, list[bytes]]:
            rows = []
            for entry in found:
                rows.append(jsontext.dump(row(entry)))
                yield
            return rows

        return then(self._slices.finish(dump_each()), lambda rows: listing(b"keys", rows))

    def tags(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", 100), MOST_LISTED)
        prefix = call.query.get("prefix", "").encode()
        found = self._engine.largest_tags(prefix, limit, call.query.get("sort", "keys"))
        return then(
            found, lambda tags: json_response({"tags": [self._tag_row(each) for each in tags]})
        )

    def _tag_row(self, tag: TagSize) -> dict[str, Any]:
        seen = self._engine.activity(tag.name)
        last = seen.last_invalidated
        return {
            "name": text_of(tag.name),
            "keys": tag.keys,
            "bytes": tag.bytes,
            "hits": seen.hits,
            "misses_after_invalidation": seen.misses,
            "invalidations": seen.invalidations,
            "invalidated": seen.invalidated,
            "seconds_since_invalidation": (
                None if last is None else round(self._monotonic() - last, 3)
            ),
        }

    def stats(self, call: Call) -> Answer:
        return then(self._engine.totals(), self._stats)

    def _stats(self, totals: EngineTotals) -> Response:
        snapshots = self._persistence()
        counters = totals.counters
        return json_response(
            {
                "hits": counters.hits,
                "misses": counters.misses,
                "puts": counters.puts,
                "invalidations": counters.invalidations,
                "hit_ratio": counters.hit_ratio,
                "items": totals.items,
                "bytes": totals.bytes,
                "tags": totals.tags,
                "shard_count": 1,
                "shard_items": [totals.items],
                "shard_bytes": [totals.bytes],
                "expirations": counters.expirations,
                "evictions": counters.evictions,
                "memory_used_bytes": totals.memory,
                "max_memory_bytes": totals.max_memory,
                "reclaim_backlog": totals.backlog,
                "snapshot_age_seconds": snapshots["snapshot_age_seconds"],
                "snapshot_seconds": snapshots["snapshot_seconds"],
                "snapshot_error": snapshots["snapshot_error"],
            }
        )

    def connections(self, call: Call) -> Deferred[Response]:
        described: list[bytes] = []
        connections = list(self._connections)
        now = self._connections.monotonic()

        def describe_each() -> Iterator[None]:
            for connection in connections:
                described.append(jsontext.dump(connection.describe(now)))
                yield

        done = self._slices.run(describe_each())
        return done.addCallback(lambda _: listing(b"connections", described))

    def config(self, call: Call) -> Answer:
        configuration = self._configuration()
        described = descriptions()
        return json_response(
            {
                "file": str(configuration.path) if configuration.path else None,
                "knobs": [
                    {
                        "section": section,
                        "key": key,
                        "value": [str(each) for each in value]
                        if isinstance(value, tuple)
                        else value,
                        "origin": origin.value,
                        "needs_restart": (section, key) in NEEDS_RESTART,
                        "description": described[section, key],
                    }
                    for section, key, value, origin in configuration.knobs()
                ],
            }
        )

    def health(self, call: Call) -> Answer:
        trouble = self._engine.trouble
        if not trouble:
            return json_response({"status": "ok", "time": now_text()})
        # It names addresses, which not everyone may know.
        told = trouble if is_loopback(call.request.peer) else "the engine is away: see /info"
        return json_response({"status": "degraded", "time": now_text(), "detail": told})

    def system(self, call: Call) -> Answer:
        return json_response({**self._machine.usage(), "timestamp": now_text()})

    def login(self, call: Call) -> Answer:
        peer = call.request.peer

        def conclude(right: bool) -> Response:
            if right:
                token = self._credentials.issue_token()
                return json_response(
                    {"expires_in": self._credentials.token_lifetime, "token": token}
                )
            pause = self._credentials.throttle.pause(peer)
            if pause:
                return too_many_failures(pause)
            return failure(401, "invalid_credentials")

        username, password = call.body["username"], call.body["password"]
        checked = self._credentials.verify(username.encode(), password.encode(), peer)
        return checked.addCallback(conclude)

    def rotate(self, call: Call) -> Answer:
        return self._credentials.rotate().addCallback(
            lambda pair: json_response({"ok": True, "username": pair[0], "password": pair[1]})
        )

    def change_password(self, call: Call) -> Answer:
        password = call.body.get("new_password")
        if not isinstance(password, str) or not password:
            return json_response({"error": "new_password is required", "success": False})
        if password == DEFAULT_PASSWORD and self._exposed():
            return _EXPOSED
        changed = self._credentials.change_password(password)
        return changed.addCallback(lambda _: json_response({"success": True}))

    def reset(self, call: Call) -> Answer:
        if not is_loopback(call.request.peer):
            return failure(403, "forbidden", "only from the server's own machine")
        if self._exposed():
            return _EXPOSED
        self._credentials.reset()
        return json_response({"success": True})

    def setup_required(self, call: Call) -> Answer:
        return json_response({"setup_required": self._credentials.is_default()})

    def openapi(self, call: Call) -> Answer:
        return self._openapi

    def docs(self, call: Call) -> Answer:
        return self._page

    def _item(self, entry: EntryView, raw: bool = False) -> dict[str, Any]:
        return item_of(entry, self._engine.limits.max_value_length, raw)

    def _table(self) -> list[Route]:
        post, get = "POST", "GET"
        listed = obj(
            keys=array(obj(key=STRING, ttl_ms=TTL, tags=array(STRING), created_ms=INTEGER))
        )
        return [
            Route(post, "/put", self.put, "Store a value.", _STORED, _STORE, statuses=(413, 507)),
            Route(
                *(post, "/add", self.add, "Store a value if the key is absent."),
                obj(ok=BOOLEAN, added=BOOLEAN, ttl_ms=TTL),
                _STORE,
                statuses=(413, 507),
            ),
            Route(
                post, "/incr", self.incr, "Count an integer up.", _COUNTED, _COUNT, statuses=(507,)
            ),
            Route(
                post,
                "/decr",
                self.decr,
                "Count an integer down.",
                _COUNTED,
                _COUNT,
                statuses=(507,),
            ),
            Route(
                *(post, "/touch", self.touch),
                "Give what is stored a new time to live, from now.",
                obj(ok=BOOLEAN, touched=BOOLEAN),
                (_KEY, _TTL_MS, _TTL_SECONDS),
                statuses=(507,),
            ),
            Route(
                *(get, "/get/{key}", self.get, "Look a value up; counts a hit or a miss."),
                either(obj(value=STRING), obj(value_base64=STRING), TOO_LARGE, NOT_FOUND),
                lookup=self.lookup,
            ),
            Route(
                *(get, "/keys-by-tag", self.keys_by_tag, "The keys that carry a tag."),
                obj(keys=array(STRING)),
                query=(Field("tag", TEXT, "the tag", required=True), _LIMIT),
            ),
            Route(
                *(post, "/invalidate-key", self.invalidate_key, "Remove one entry."),
                obj(("dry_run",), success=BOOLEAN, count={"type": "null"}, dry_run=BOOLEAN),
                (_KEY,),
                query=_DRY_RUN,
            ),
            Route(
                *(post, "/invalidate-tag", self.invalidate_tag, "Remove what carries a tag."),
                _INVALIDATED,
                (Field("tag", TEXT, "the tag", required=True),),
                query=_DRY_RUN,
            ),
            Route(
                *(post, "/invalidate/tags", self.invalidate_tags),
                "Remove what carries any, or all, of some tags.",
                _INVALIDATED,
                (
                    Field("tags", TEXTS, "the tags", required=True),
                    Field("mode", one_of("any", "all"), "absent: any"),
                ),
                query=_DRY_RUN,
            ),
            Route(
                *(post, "/invalidate/keys", self.invalidate_keys, "Remove some entries."),
                _INVALIDATED,
                _KEYS,
                query=_DRY_RUN,
            ),
            Route(
                *(post, "/keys/bulk/delete", self.invalidate_keys, "Remove some entries."),
                _INVALIDATED,
                _KEYS,
                query=_DRY_RUN,
            ),
            Route(
                *(post, "/flush", self.flush, "Remove everything."),
                _INVALIDATED,
                query=_DRY_RUN,
            ),
            Route(
                *(get, "/keys/{key}", self.key, "One entry, its value parsed if it is JSON."),
                either(_ITEM, NOT_FOUND),
            ),
            Route(
                *("PUT", "/keys/{key}", self.put_key),
                "Store any JSON value; a string is stored as it is.",
                _STORED,
                (Field("value", ANYTHING, "the value", required=True), _TTL_MS, _TAGS),
                statuses=(413, 507),
            ),
            Route(
                *("DELETE", "/keys/{key}", self.delete_key, "Remove one entry."),
                obj(deleted=INTEGER, ok=BOOLEAN),
            ),
            Route(
                *(post, "/keys/bulk/get", self.bulk_get),
                "Several entries in the order asked for; what is missing is left out.",
                obj(items=array(_ITEM)),
                _KEYS,
                query=(
                    Field("raw", one_of("true", "false"), "true: values as text, never parsed"),
                ),
            ),
            Route(
                *(get, "/keys", self.list_keys, "The entries, the newest first."),
                obj(
                    keys=array(
                        obj(
                            created_ms=INTEGER,
                            key=STRING,
                            size=INTEGER,
                            tags=array(STRING),
                            ttl=TTL,
                        )
                    )
                ),
                query=(_LIMIT, _OFFSET),
            ),
            Route(
                *(post, "/search", self.search),
                "Entries by all tags, else by any tag, else by prefix, else the newest.",
                listed,
                (
                    Field("q", TEXT, "a prefix of the key"),
                    Field("tag_any", TEXTS, "tags of which an entry has at least one"),
                    Field("tag_all", TEXTS, "tags which an entry has all of"),
                    Field("limit", UNSIGNED, f"absent: 100; never more than {MOST_LISTED}"),
                    _OFFSET,
                ),
            ),
            Route(
                *(get, "/stats", self.stats, "Counters, and totals of this moment."),
                obj(
                    **dict.fromkeys(("hits", "misses", "puts", "invalidations"), INTEGER),
                    hit_ratio=NUMBER,
                    **dict.fromkeys(("items", "bytes", "tags", "shard_count"), INTEGER),
                    shard_items=array(INTEGER),
                    shard_bytes=array(INTEGER),
                    expirations=INTEGER,
                    evictions=INTEGER,
                    memory_used_bytes=nullable(INTEGER),
                    max_memory_bytes=INTEGER,
                    reclaim_backlog=INTEGER,
                    snapshot_age_seconds=nullable(NUMBER),
                    snapshot_seconds=nullable(NUMBER),
                    snapshot_error=nullable(STRING),
                ),
            ),
            Route(
                *(
                    get,
                    "/tags",
                    self.tags,
                    "The tags with the most keys (or bytes, or hits), the largest first.",
                ),
                obj(
                    tags=array(
                        obj(
                            name=STRING,
                            keys=INTEGER,
                            bytes=INTEGER,
                            hits=INTEGER,
                            misses_after_invalidation=INTEGER,
                            invalidations=INTEGER,
                            invalidated=INTEGER,
                            seconds_since_invalidation=nullable(NUMBER),
                        )
                    )
                ),
                query=(
                    Field("prefix", TEXT, "a prefix of the tag"),
                    Field("sort", one_of("keys", "bytes", "hits"), "absent: keys"),
                    Field("limit", UNSIGNED, f"absent: 100; never more than {MOST_LISTED}"),
                ),
            ),
            Route(
                *(get, "/connections", self.connections),
                "Who is connected, with socket options asked and in effect.",
                obj(connections=array({"type": "object"})),
            ),
            Route(
                *(get, "/config", self.config),
                "Every knob: value, where that came from, what it does; secrets are masked.",
                obj(
                    file=nullable(STRING),
                    knobs=array(
                        obj(
                            section=STRING,
                            key=STRING,
                            value=ANY,
                            origin={
                                "type": "string",
                                "enum": ["default", "file", "environment"],
                            },
                            needs_restart=BOOLEAN,
                            description=STRING,
                        )
                    ),
                ),
            ),
            Route(
                *(get, "/health", self.health, "Whether the server answers."),
                obj(("detail",), status=STRING, time=STRING, detail=STRING),
                access=Access.OPEN,
            ),
            Route(
                *(get, "/system", self.system, "The machine's processors and memory."),
                obj(
                    core_count=INTEGER,
                    cpu_cores=array(
                        obj(core=INTEGER, frequency=INTEGER, name=STRING, usage=NUMBER)
                    ),
                    global_cpu_usage=NUMBER,
                    timestamp=STRING,
                    total_memory=INTEGER,
                    used_memory=INTEGER,
                ),
                access=Access.LOOPBACK_OPEN,
            ),
            Route(
                *(post, "/auth/login", self.login, "Exchange credentials for a token."),
                obj(expires_in=INTEGER, token=STRING),
                (
                    Field("username", TEXT, "the user", required=True),
                    Field("password", TEXT, "the password", required=True),
                ),
                access=Access.OPEN,
                statuses=(401, 429),
            ),
            Route(
                *(post, "/auth/rotate", self.rotate, "New random credentials; voids all tokens."),
                obj(ok=BOOLEAN, username=STRING, password=STRING),
                statuses=(409,),
            ),
            Route(
                *(post, "/auth/change_password", self.change_password),
                "Set the password; voids all tokens.",
                _DONE,
                (Field("new_password", ANYTHING, "the new password, not empty"),),
                statuses=(409,),
            ),
            Route(
                *(post, "/auth/reset", self.reset),
                "Back to the default credentials; only from the server's own machine.",
                _DONE,
                statuses=(403, 409),
            ),
            Route(
                *(get, "/auth/setup_required", self.setup_required),
                "Whether the default password stands.",
                obj(setup_required=BOOLEAN),
                access=Access.OPEN,
            ),
            Route(
                *(get, "/openapi.json", self.openapi, "This description."),
                {"type": "object"},
                access=Access.OPEN,
            ),
            Route(
                *(get, "/docs", self.docs, "This description, to read."),
                None,
                access=Access.OPEN,
                content_type="text/html; charset=utf-8",
            ),
        ]


def tags_of(body: Any) -> list[bytes]:
    return [tag.encode() for tag in body.get("tags", ()) if tag]


def ttl_of(body: Any) -> int | None:
    ttl_ms: int | None = body.get("ttl_ms")
    if ttl_ms is None and "ttl_seconds" in body:
        return min(int(body["ttl_seconds"]) * 1000, 2**64 - 1)
    return ttl_ms


def would_go(count: int | None, success: bool = True) -> Response:
    """Return the answer to a dry run."""
    return json_response({"success": success, "count": count, "dry_run": True})


def is_dry(call: Call) -> bool:
    return call.query.get("dry_run") == "true"


def stored_as(value: Any) -> bytes:
    """Return a value as it is stored: any JSON, and text so that a line can hold it.

    Raises TypeError for what is nested too deep.
    """
    return marks.to_line(value.encode()) if isinstance(value, str) else jsontext.canonical(value)


def item_of(entry: EntryView, most: int, raw: bool = False) -> dict[str, Any]:
    """Return an entry as JSON, its value parsed if it is JSON and not to be ``raw``.

    The value is left out if it has more than ``most`` bytes when it is decompressed.
    """
    item: dict[str, Any] = {
        "created_ms": entry.stored_us // 1000,
        "key": text_of(entry.key),
        "tags": [text_of(tag) for tag in entry.tags],
        "ttl_ms": entry.left_ms,
    }
    try:
        value = marks.plain(entry.value or b"", most)
    except ValueTooLarge as error:
        return {**item, "error": error.code}
    try:
        if raw:
            raise jsontext.NotJson
        item["value"] = jsontext.parse(value)
        orjson.dumps(item["value"])
    except jsontext.NotJson:
        try:
            item["value"] = value.decode()
        except UnicodeDecodeError:
            item["value_base64"] = base64.b64encode(value).decode()
    return item


def value_body(value: bytes | None, most: int) -> bytes:
    """Return what a look-up answers, from what is stored.

    The value is left out if it has more than ``most`` bytes when it is decompressed.
    """
    if value is None:
        return MISS.body
    if value[:1] == b"\\":
        try:
            value = marks.plain(value, most)
        except ValueTooLarge as error:
            return jsontext.dump({"error": error.code})
    try:
        return b'{"value":' + orjson.dumps(value.decode()) + b"}"
    except UnicodeDecodeError:
        return jsontext.dump({"value_base64": base64.b64encode(value).decode()})


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _stored(ttl_ms: int | None) -> Response:
    return Response(200, STORED_FOR_GOOD if ttl_ms is None else b'{"ok":true,"ttl_ms":%d}' % ttl_ms)


def _list_row(entry: EntryView) -> dict[str, Any]:
    return {
        "created_ms": entry.stored_us // 1000,
        "key": text_of(entry.key),
        "size": entry.size - len(entry.key),
        "tags": [text_of(tag) for tag in entry.tags],
        "ttl": entry.left_ms,
    }


def _search_row(entry: EntryView) -> dict[str, Any]:
    return {
        "key": text_of(entry.key),
        "ttl_ms": entry.left_ms,
        "tags": [text_of(tag) for tag in entry.tags],
        "created_ms": entry.stored_us // 1000,
    }


def listing(name: bytes, items: list[bytes]) -> Response:
    return Response(200, b'{"%b":[%b]}' % (name, b",".join(items)))


def now_text() -> str:
    """Return the time as it is told."""
    return datetime.now(UTC).isoformat()
