"""The endpoints, and the table that says how they are reached."""

from __future__ import annotations

import base64
import heapq
import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from tagcache.config.descriptions import descriptions
from tagcache.config.loading import NEEDS_RESTART, Configuration
from tagcache.config.settings import DEFAULT_PASSWORD
from tagcache.engine.entry import Entry
from tagcache.errors import AnswerTooLarge, IntegerOverflow, NotAnInteger, ValueTooLarge
from tagcache.model.activity import TagActivity
from tagcache.model.int64 import UINT64_MAX
from tagcache.model.interfaces import ICache, IRemoteCache, RemoteTotals
from tagcache.model.statistics import Counters, Totals
from tagcache.model.store_options import NEVER
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
from tagcache.server.upkeep.slices import Slices
from tagcache.wire import marks

Answer = Response | Deferred[Response]

MOST_LISTED = 10_000
MOST_ANSWER_BYTES = 64 * 2**20
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
    """The endpoints, bound to what they tell about; ``more`` are those of others.

    ``AT_ONCE``: whether a look-up never takes time.
    """

    AT_ONCE = True

    def __init__(
        self,
        cache: ICache,
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
        self._cache = cache
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
        self.lookup: Callable[[bytes], bytes] | None = self.look_up if self.AT_ONCE else None
        self.routes = Routes([*self._table(), *more])
        document = describe(self.routes.all)
        self._openapi = Response(200, jsontext.dump(document))
        self._page = page(document)

    def put(self, call: Call) -> Answer:
        body = call.body
        ttl_ms = self._cache.put(
            body["key"].encode(), stored(body["value"]), tags_of(body), ttl_of(body)
        )
        return Response(
            200, STORED_FOR_GOOD if ttl_ms is None else b'{"ok":true,"ttl_ms":%d}' % ttl_ms
        )

    def add(self, call: Call) -> Answer:
        body = call.body
        ttl_ms = ttl_of(body)
        added = self._cache.add(body["key"].encode(), stored(body["value"]), tags_of(body), ttl_ms)
        ttl_ms = ttl_ms or self._cache.limits.default_ttl_ms or None
        return json_response({"ok": True, "added": added, "ttl_ms": ttl_ms})

    def incr(self, call: Call) -> Answer:
        return self._count(call, self._cache.increment)

    def decr(self, call: Call) -> Answer:
        return self._count(call, self._cache.decrement)

    def _count(self, call: Call, operation: Callable[..., int]) -> Answer:
        body = call.body
        ttl_ms = ttl_of(body)
        try:
            value = operation(body["key"].encode(), body.get("by", 1), tags_of(body), ttl_ms)
        except (NotAnInteger, IntegerOverflow) as error:
            return json_response({"error": error.code, "ok": False})
        return json_response({"ok": True, "ttl_ms": ttl_ms, "value": value})

    def touch(self, call: Call) -> Answer:
        return touched(self._cache.touch(call.body["key"].encode(), ttl_of(call.body)))

    def get(self, call: Call) -> Answer:
        return Response(200, self.look_up(call.key.encode()))

    def look_up(self, key: bytes) -> bytes:
        """Return what GET /get/KEY answers."""
        return value_body(self._cache.get(key), self._cache)

    def keys_by_tag(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", MOST_LISTED), MOST_LISTED)
        tag = call.query["tag"].encode("utf-8", "replace")
        return self._collect(
            self._cache.scan_any([tag]),
            0,
            limit,
            lambda found: listing(b"keys", [orjson.dumps(text_of(key)) for key, _ in found]),
        )

    def invalidate_key(self, call: Call) -> Answer:
        key = call.body["key"].encode()
        if is_dry(call):
            return would_go(None, self._cache.peek(key) is not None)
        return json_response({"success": self._cache.delete(key), "count": None})

    def invalidate_tag(self, call: Call) -> Answer:
        tags = [call.body["tag"].encode()]
        if is_dry(call):
            return self._would_go(_count(self._cache.scan_any(tags)), lambda count: count > 0)
        work = self._cache.invalidate_tag(tags[0])
        return self._counted(call, tags, work, lambda count: count > 0)

    def invalidate_tags(self, call: Call) -> Answer:
        all_of_them = call.body.get("mode") == "all"
        tags = tags_of(call.body)
        if is_dry(call):
            scan = self._cache.scan_all if all_of_them else self._cache.scan_any
            return self._would_go(_count(scan(tags)))
        invalidate = self._cache.invalidate_all if all_of_them else self._cache.invalidate_any
        return self._counted(call, tags, invalidate(tags))

    def invalidate_keys(self, call: Call) -> Answer:
        keys = [key.encode() for key in call.body["keys"]]
        if is_dry(call):
            return self._would_go(self._count_keys(keys))
        return self._counted(call, keys, self._cache.invalidate_keys(keys))

    def flush(self, call: Call) -> Answer:
        if is_dry(call):
            return self._would_go(self._count_all())
        return self._counted(call, (), self._cache.flush())

    def _counted(
        self,
        call: Call,
        names: Sequence[bytes],
        work: Generator[None, None, int],
        success: Callable[[int], bool] = lambda count: True,
    ) -> Answer:
        return self._slices.finish(
            work, lambda count: self._gone(call, names, count, success(count))
        )

    def _gone(
        self, call: Call, names: Sequence[bytes], count: int, success: bool = True
    ) -> Response:
        self._events.invalidated(
            call.request.peer, f"POST {call.request.path.decode()}", names, count
        )
        return json_response({"success": success, "count": count})

    def _would_go(
        self,
        work: Generator[None, None, int],
        success: Callable[[int], bool] = lambda count: True,
    ) -> Answer:
        return self._slices.finish(work, lambda count: would_go(count, success(count)))

    def _count_keys(self, keys: Sequence[bytes]) -> Generator[None, None, int]:
        count = 0
        for key in set(keys):
            count += self._cache.peek(key) is not None
            yield
        return count

    def _count_all(self) -> Generator[None, None, int]:
        yield from self._cache.sweep()
        return self._cache.totals().items

    def key(self, call: Call) -> Answer:
        key = call.key.encode()
        entry = self._cache.peek(key)
        return MISS if entry is None else json_response(self._item(key, entry))

    def put_key(self, call: Call) -> Answer:
        try:
            value = stored(call.body["value"])
        except TypeError:
            return failure(400, "invalid_json", "the value is nested too deep")
        ttl_ms = self._cache.put(
            call.key.encode(), value, tags_of(call.body), call.body.get("ttl_ms")
        )
        return json_response({"ok": True, "ttl_ms": ttl_ms})

    def delete_key(self, call: Call) -> Answer:
        deleted = self._cache.delete(call.key.encode())
        return json_response({"deleted": int(deleted), "ok": deleted})

    def bulk_get(self, call: Call) -> Answer:
        items: list[bytes] = []

        raw = call.query.get("raw") == "true"

        def collect() -> Iterator[None]:
            size = 0
            for text in call.body["keys"]:
                key = text.encode()
                entry = self._cache.peek(key)
                if entry is not None:
                    items.append(jsontext.dump(self._item(key, entry, raw)))
                    size += len(items[-1])
                    if size > MOST_ANSWER_BYTES:
                        raise AnswerTooLarge(f"the answer has more than {MOST_ANSWER_BYTES} bytes")
                yield

        return self._sliced(collect(), lambda: listing(b"items", items))

    def list_keys(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", MOST_LISTED), MOST_LISTED)
        return self._newest(call.query.get("offset", 0), limit, self._list_row)

    def _newest(
        self, offset: int, limit: int, row: Callable[[bytes, Entry], dict[str, Any]]
    ) -> Answer:
        scan = self._cache.scan(b"")
        return self._collect(scan, offset, limit, lambda found: self._rows(found, row))

    def _list_row(self, key: bytes, entry: Entry) -> dict[str, Any]:
        return {
            "created_ms": self._cache.created_ms(entry),
            "key": text_of(key),
            "size": len(entry.value),
            "tags": [text_of(tag) for tag in entry.tags],
            "ttl": self._remaining(entry),
        }

    def search(self, call: Call) -> Answer:
        body = call.body
        limit = min(body.get("limit", 100), MOST_LISTED)
        offset = min(body.get("offset", 0), sys.maxsize - MOST_LISTED)
        if body.get("tag_all"):
            scan = self._cache.scan_all([tag.encode() for tag in body["tag_all"]])
        elif body.get("tag_any"):
            scan = self._cache.scan_any([tag.encode() for tag in body["tag_any"]])
        elif body.get("q"):
            scan = self._cache.scan(body["q"].encode())
        else:
            return self._newest(offset, limit, self._search_row)
        return self._collect(scan, offset, limit, lambda found: self._rows(found, self._search_row))

    def _collect(
        self,
        scan: Iterator[tuple[bytes, Entry] | None],
        offset: int,
        limit: int,
        conclude: Callable[[list[tuple[bytes, Entry]]], Answer],
    ) -> Answer:
        """Answer with a page of what a scan finds, looking no further than its end."""
        found: list[tuple[bytes, Entry]] = []

        def look() -> Generator[None, None, None]:
            left = offset
            for item in scan:
                if len(found) >= limit:
                    return
                if item is not None:
                    if left:
                        left -= 1
                    else:
                        found.append(item)
                yield

        return self._slices.finish(look(), lambda _: conclude(found))

    def _search_row(self, key: bytes, entry: Entry) -> dict[str, Any]:
        return {
            "key": text_of(key),
            "ttl_ms": self._remaining(entry),
            "tags": [text_of(tag) for tag in entry.tags],
            "created_ms": self._cache.created_ms(entry),
        }

    def tags(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", 100), MOST_LISTED)
        measure = call.query.get("sort", "keys")
        largest: list[tuple[int, bytes, int, int]] = []

        def scan() -> Iterator[None]:
            for item in self._cache.scan_tags(call.query.get("prefix", "").encode()):
                if item is not None and limit:
                    tag, keys, size = item
                    push = heapq.heappush if len(largest) < limit else heapq.heappushpop
                    first = keys
                    if measure == "bytes":
                        first = size
                    elif measure == "hits":
                        first = self._cache.activity(tag).hits
                    push(largest, (first, tag, keys, size))
                yield

        return self._sliced(
            scan(),
            lambda: json_response(
                {
                    "tags": [
                        {"name": text_of(tag), "keys": keys, "bytes": size, **self._activity(tag)}
                        for _, tag, keys, size in sorted(largest, reverse=True)
                    ]
                }
            ),
        )

    def _activity(self, tag: bytes) -> dict[str, Any]:
        return self._tell_activity(self._cache.activity(tag))

    def _tell_activity(self, seen: TagActivity) -> dict[str, Any]:
        last = seen.last_invalidated
        return {
            "hits": seen.hits,
            "misses_after_invalidation": seen.misses,
            "invalidations": seen.invalidations,
            "invalidated": seen.invalidated,
            "seconds_since_invalidation": (
                None if last is None else round(self._monotonic() - last, 3)
            ),
        }

    def stats(self, call: Call) -> Answer:
        return self._sliced(self._cache.sweep(), self._stats)

    def _stats(self) -> Response:
        totals = self._cache.totals()  # first, for it reclaims what has expired
        counters = self._cache.counters()
        limit = self._cache.limits.max_memory
        return self._tell_stats(totals, counters, self._cache.memory, limit, self._cache.backlog)

    def _tell_stats(
        self,
        totals: Totals | RemoteTotals,
        counters: Counters,
        memory: int,
        max_memory: int,
        backlog: int,
    ) -> Response:
        snapshots = self._persistence()
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
                "memory_used_bytes": memory,
                "max_memory_bytes": max_memory,
                "reclaim_backlog": backlog,
                "snapshot_age_seconds": snapshots["snapshot_age_seconds"],
                "snapshot_seconds": snapshots["snapshot_seconds"],
                "snapshot_error": snapshots["snapshot_error"],
            }
        )

    def connections(self, call: Call) -> Answer:
        described: list[bytes] = []
        connections = list(self._connections)
        now = self._connections.monotonic()

        def describe_each() -> Iterator[None]:
            for connection in connections:
                described.append(jsontext.dump(connection.describe(now)))
                yield

        return self._sliced(describe_each(), lambda: listing(b"connections", described))

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
        return json_response({"status": "ok", "time": now_text()})

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

    def _item(self, key: bytes, entry: Entry, raw: bool = False) -> dict[str, Any]:
        created_ms, left = self._cache.created_ms(entry), self._remaining(entry)
        most = self._cache.limits.max_value_length
        return item_of(key, entry.value, most, entry.tags, created_ms, left, raw)

    def _remaining(self, entry: Entry) -> int | None:
        if entry.expires == NEVER:
            return None
        return min(max(int((entry.expires - self._monotonic()) * 1000), 0), UINT64_MAX)

    def _rows(
        self,
        found: list[tuple[bytes, Entry]],
        row: Callable[[bytes, Entry], dict[str, Any]],
    ) -> Answer:
        if len(found) <= 200:
            rows = [jsontext.dump(row(key, entry)) for key, entry in found]
            return listing(b"keys", rows)
        dumped: list[bytes] = []

        def dump_each() -> Iterator[None]:
            for key, entry in found:
                dumped.append(jsontext.dump(row(key, entry)))
                yield

        return self._sliced(dump_each(), lambda: listing(b"keys", dumped))

    def _sliced(self, work: Iterator[Any], conclude: Callable[[], Response]) -> Deferred[Response]:
        return self._slices.run(work).addCallback(lambda _: conclude())

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


def touched(was_there: bool) -> Response:
    """Return the answer to a new time to live."""
    return json_response({"ok": True, "touched": was_there})


def would_go(count: int | None, success: bool = True) -> Response:
    """Return the answer to a dry run."""
    return json_response({"success": success, "count": count, "dry_run": True})


def is_dry(call: Call) -> bool:
    return call.query.get("dry_run") == "true"


def _count(scan: Iterator[tuple[bytes, Entry] | None]) -> Generator[None, None, int]:
    """Work that counts what a scan finds."""
    count = 0
    for item in scan:
        count += item is not None
        yield
    return count


def stored(value: Any) -> bytes:
    """Return a value as it is stored: any JSON, and text so that a line can hold it.

    Raises TypeError for what is nested too deep.
    """
    return marks.to_line(value.encode()) if isinstance(value, str) else jsontext.canonical(value)


def item_of(
    key: bytes,
    content: bytes,
    most: int,
    tags: Iterable[bytes],
    created_ms: int,
    left_ms: int | None,
    raw: bool = False,
) -> dict[str, Any]:
    """Return an entry as JSON, its value parsed if it is JSON and not to be ``raw``.

    ``content`` is what is stored; its value is not told if it has more than ``most`` bytes when it
    is decompressed.
    """
    item: dict[str, Any] = {
        "created_ms": created_ms,
        "key": text_of(key),
        "tags": [text_of(tag) for tag in tags],
        "ttl_ms": left_ms,
    }
    try:
        value = marks.plain(content, most)
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


def value_body(value: bytes | None, cache: ICache | IRemoteCache) -> bytes:
    """Return what a look-up answers, from what ``cache`` stores.

    A value that is beyond its limit when it is decompressed is not told.
    """
    if value is None:
        return MISS.body
    if value[:1] == b"\\":
        try:
            value = marks.plain(value, cache.limits.max_value_length)
        except ValueTooLarge as error:
            return jsontext.dump({"error": error.code})
    try:
        return b'{"value":' + orjson.dumps(value.decode()) + b"}"
    except UnicodeDecodeError:
        return jsontext.dump({"value_base64": base64.b64encode(value).decode()})


def text_of(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def listing(name: bytes, items: list[bytes]) -> Response:
    return Response(200, b'{"%b":[%b]}' % (name, b",".join(items)))


def now_text() -> str:
    """Return the time as it is told."""
    return datetime.now(UTC).isoformat()
