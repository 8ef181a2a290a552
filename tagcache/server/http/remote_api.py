"""The endpoints where the engine is a remote one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any

import orjson
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tagcache.errors import AnswerTooLarge, IntegerOverflow, NotAnInteger
from tagcache.model.interfaces import ICache, IRemoteCache, RemoteTotals
from tagcache.model.views import EntryView, Miss
from tagcache.server.http import jsontext
from tagcache.server.http.api import (
    MISS,
    MOST_ANSWER_BYTES,
    MOST_LISTED,
    STORED_FOR_GOOD,
    Answer,
    Api,
    is_dry,
    item_of,
    listing,
    now_text,
    stored,
    tags_of,
    text_of,
    touched,
    ttl_of,
    value_body,
    would_go,
)
from tagcache.server.http.application import is_loopback
from tagcache.server.http.messages import Call, Response, failure, json_response

if TYPE_CHECKING:
    # Needs the extra.
    from tagcache.server.backend import Backend

_KEYS_TOGETHER = 200


class RemoteApi(Api):
    """The endpoints, bound to a cache that answers later.

    ``nothing`` is a cache without entries; ``backend`` knows how the engine
    stands.
    """

    AT_ONCE = False

    def __init__(
        self,
        remote: IRemoteCache,
        backend: Backend,
        nothing: ICache,
        *rest: Any,
    ) -> None:
        self._remote = remote
        self._backend = backend
        super().__init__(nothing, *rest)

    def put(self, call: Call) -> Answer:
        body = call.body
        done = self._remote.put(
            body["key"].encode(), stored(body["value"]), tags_of(body), ttl_of(body)
        )
        return done.addCallback(
            lambda ttl_ms: Response(
                200, STORED_FOR_GOOD if ttl_ms is None else b'{"ok":true,"ttl_ms":%d}' % ttl_ms
            )
        )

    def add(self, call: Call) -> Answer:
        body = call.body
        ttl_ms = ttl_of(body)
        added = self._remote.add(body["key"].encode(), stored(body["value"]), tags_of(body), ttl_ms)
        ttl_ms = ttl_ms or self._remote.limits.default_ttl_ms or None
        return added.addCallback(
            lambda done: json_response({"ok": True, "added": done, "ttl_ms": ttl_ms})
        )

    def incr(self, call: Call) -> Answer:
        return self._count_later(call, self._remote.increment)

    def decr(self, call: Call) -> Answer:
        return self._count_later(call, self._remote.decrement)

    def _count_later(self, call: Call, operation: Callable[..., Deferred[int]]) -> Answer:
        body = call.body
        ttl_ms = ttl_of(body)

        def refused(reason: Failure) -> Response:
            # Other errors are raised again.
            reason.trap(NotAnInteger, IntegerOverflow)
            return json_response({"error": getattr(reason.value, "code", ""), "ok": False})

        try:
            counted = operation(body["key"].encode(), body.get("by", 1), tags_of(body), ttl_ms)
        except IntegerOverflow as error:
            return json_response({"error": error.code, "ok": False})
        return counted.addCallback(
            lambda value: json_response({"ok": True, "ttl_ms": ttl_ms, "value": value})
        ).addErrback(refused)

    def touch(self, call: Call) -> Answer:
        return self._remote.touch(call.body["key"].encode(), ttl_of(call.body)).addCallback(touched)

    def get(self, call: Call) -> Answer:
        key = call.key.encode()
        near = self._remote.get_near(key)
        if near is not None:
            return Response(200, value_body(near, self._remote))

        def conclude(found: bytes | Miss) -> Response:
            value = found if isinstance(found, bytes) else None
            return Response(200, value_body(value, self._remote))

        return self._remote.get(key).addCallback(conclude)

    def keys_by_tag(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", MOST_LISTED), MOST_LISTED)
        found = self._remote.search([call.query["tag"].encode("utf-8", "replace")], limit=limit)
        return found.addCallback(
            lambda entries: listing(b"keys", [orjson.dumps(text_of(each.key)) for each in entries])
        )

    def invalidate_key(self, call: Call) -> Answer:
        key = call.body["key"].encode()
        if is_dry(call):
            return self._remote.peek(key).addCallback(
                lambda entry: would_go(None, entry is not None)
            )
        removed = self._remote.delete(key)
        return removed.addCallback(lambda there: json_response({"success": there, "count": None}))

    def invalidate_tag(self, call: Call) -> Answer:
        tags = [call.body["tag"].encode()]
        if is_dry(call):
            counted = self._remote.count(tags)
            return counted.addCallback(lambda count: would_go(count, count > 0))
        removed = self._remote.invalidate_tag(tags[0])
        return removed.addCallback(lambda count: self._gone(call, tags, count, count > 0))

    def invalidate_tags(self, call: Call) -> Answer:
        every = call.body.get("mode") == "all"
        tags = tags_of(call.body)
        if is_dry(call):
            return self._remote.count(tags, every).addCallback(would_go)
        invalidate = self._remote.invalidate_all if every else self._remote.invalidate_any
        return self._removed(call, tags, invalidate(tags))

    def invalidate_keys(self, call: Call) -> Answer:
        keys = [key.encode() for key in call.body["keys"]]
        if is_dry(call):
            found = self._remote.peek_many(list(dict.fromkeys(keys)))
            return found.addCallback(lambda each: would_go(len(each) - each.count(None)))
        return self._removed(call, keys, self._remote.invalidate_keys(keys))

    def flush(self, call: Call) -> Answer:
        if is_dry(call):
            return self._remote.totals().addCallback(lambda totals: would_go(totals.items))
        return self._removed(call, (), self._remote.flush())

    def _removed(self, call: Call, names: Sequence[bytes], removed: Deferred[int]) -> Answer:
        return removed.addCallback(lambda count: self._gone(call, names, count))

    def key(self, call: Call) -> Answer:
        return self._remote.peek(call.key.encode()).addCallback(
            lambda entry: MISS if entry is None else json_response(self._shown(entry))
        )

    def put_key(self, call: Call) -> Answer:
        try:
            value = stored(call.body["value"])
        except TypeError:
            return failure(400, "invalid_json", "the value is nested too deep")
        done = self._remote.put(
            call.key.encode(), value, tags_of(call.body), call.body.get("ttl_ms")
        )
        return done.addCallback(lambda ttl_ms: json_response({"ok": True, "ttl_ms": ttl_ms}))

    def delete_key(self, call: Call) -> Answer:
        return self._remote.delete(call.key.encode()).addCallback(
            lambda deleted: json_response({"deleted": int(deleted), "ok": deleted})
        )

    def bulk_get(self, call: Call) -> Answer:
        keys = [key.encode() for key in call.body["keys"]]
        raw = call.query.get("raw") == "true"
        items: list[bytes] = []
        size = 0

        def dump(found: list[EntryView | None]) -> Generator[None, None, None]:
            nonlocal size
            for entry in found:
                if entry is not None:
                    items.append(jsontext.dump(self._shown(entry, raw)))
                    size += len(items[-1])
                    if size > MOST_ANSWER_BYTES:
                        raise AnswerTooLarge(f"the answer has more than {MOST_ANSWER_BYTES} bytes")
                yield

        def take(found: list[EntryView | None], start: int) -> Answer:
            return self._slices.finish(dump(found), lambda _: go_on(start + _KEYS_TOGETHER))

        def go_on(start: int) -> Answer:
            if start >= len(keys):
                return listing(b"items", items)
            some = self._remote.peek_many(keys[start : start + _KEYS_TOGETHER])
            return some.addCallback(take, start)

        return go_on(0)

    def list_keys(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", MOST_LISTED), MOST_LISTED)
        found = self._remote.newest(b"", call.query.get("offset", 0), limit)

        def conclude(entries: list[EntryView]) -> Response:
            return listing(
                b"keys",
                [
                    jsontext.dump(
                        {
                            "created_ms": each.stored_us // 1000,
                            "key": text_of(each.key),
                            "size": each.size - len(each.key),
                            "tags": [text_of(tag) for tag in each.tags],
                            "ttl": each.left_ms,
                        }
                    )
                    for each in entries
                ],
            )

        return found.addCallback(conclude)

    def search(self, call: Call) -> Answer:
        body = call.body
        limit = min(body.get("limit", 100), MOST_LISTED)
        offset = body.get("offset", 0)
        if body.get("tag_all") or body.get("tag_any"):
            every = bool(body.get("tag_all"))
            tags = [tag.encode() for tag in body["tag_all" if every else "tag_any"]]
            found = self._remote.search(tags, every, offset, limit)
        else:
            found = self._remote.newest((body.get("q") or "").encode(), offset, limit)

        def conclude(entries: list[EntryView]) -> Response:
            return listing(
                b"keys",
                [
                    jsontext.dump(
                        {
                            "key": text_of(each.key),
                            "ttl_ms": each.left_ms,
                            "tags": [text_of(tag) for tag in each.tags],
                            "created_ms": each.stored_us // 1000,
                        }
                    )
                    for each in entries
                ],
            )

        return found.addCallback(conclude)

    def tags(self, call: Call) -> Answer:
        limit = min(call.query.get("limit", 100), MOST_LISTED)
        measure = call.query.get("sort", "keys")

        def rank(row: tuple[bytes, int, int]) -> tuple[int, bytes]:
            tag, keys, size = row
            if measure == "hits":
                keys = self._remote.activity(tag).hits
            return size if measure == "bytes" else keys, tag

        def conclude(found: list[tuple[bytes, int, int]]) -> Response:
            largest = heapq.nlargest(limit, found, key=rank)
            return json_response(
                {
                    "tags": [
                        {
                            "name": text_of(tag),
                            "keys": keys,
                            "bytes": size,
                            **self._tell_activity(self._remote.activity(tag)),
                        }
                        for tag, keys, size in largest
                    ]
                }
            )

        return self._remote.tags(call.query.get("prefix", "").encode()).addCallback(conclude)

    def stats(self, call: Call) -> Answer:
        def conclude(totals: RemoteTotals) -> Response:
            at = self._backend
            return self._tell_stats(
                totals, totals.counters, at.memory, at.max_memory, totals.backlog
            )

        return self._remote.totals().addCallback(conclude)

    def health(self, call: Call) -> Answer:
        trouble = self._backend.trouble
        if not trouble:
            return super().health(call)
        # Its addresses are for those who may ask for them.
        told = trouble if is_loopback(call.request.peer) else "the engine is away: see /info"
        return json_response({"status": "degraded", "time": now_text(), "detail": told})

    def _shown(self, entry: EntryView, raw: bool = False) -> dict[str, Any]:
        most, created_ms = self._remote.limits.max_value_length, entry.stored_us // 1000
        value = entry.value or b""
        return item_of(entry.key, value, most, entry.tags, created_ms, entry.left_ms, raw)
