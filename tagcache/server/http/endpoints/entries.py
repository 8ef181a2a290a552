"""Store, count, look up and remove single entries."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import orjson
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.python.failure import Failure

from tagcache.errors import AnswerTooLarge, IntegerOverflow, NotAnInteger
from tagcache.model.interfaces import IDatabases, IEngine, ISession
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import EntryView
from tagcache.model.work import run_to_end
from tagcache.server.http.databases import DB, engine_of
from tagcache.server.http.endpoints import leases
from tagcache.server.http.entry_json import item_of, stored_as, tags_of, ttl_of, value_body
from tagcache.server.http.fields import (
    ANYTHING,
    KEY_FIELD,
    KEYS_FIELD,
    SIGNED,
    TEXT,
    TEXTS,
    UNSIGNED,
    Field,
    one_of,
    read_body,
)
from tagcache.server.http.messages import (
    Call,
    EventualResponse,
    Response,
    json_list,
    json_response,
)
from tagcache.server.http.routes import route
from tagcache.server.http.schema import (
    ANY,
    BOOLEAN,
    INTEGER,
    NOT_FOUND,
    STRING,
    TOO_LARGE,
    TTL,
    array,
    either,
    obj,
)
from tagcache.server.then import then
from tagcache.server.upkeep.slices import Slices
from tagcache.server.waits import Waits

_MOST_BYTES = 64 * 2**20
_KEYS_TOGETHER = 200
_STORED_FOREVER = b'{"ok":true,"ttl_ms":null}'

_TAGS = Field("tags", TEXTS, "the tags of the entry; without any, tag rules may give some")
_TTL_MS = Field("ttl_ms", UNSIGNED, "time to live in milliseconds; 0 or absent: none")
_TTL_SECONDS = Field("ttl_seconds", UNSIGNED, "time to live in seconds, if ttl_ms is absent")
_VALUE = Field("value", TEXT, "the value", required=True)
_BY = Field("by", SIGNED, "how much to add or subtract; absent: 1")
_STORE = (KEY_FIELD, _VALUE, _TAGS, _TTL_MS, _TTL_SECONDS)
_PUT = (*_STORE, leases.GRACE_MS, leases.LEASE)
_GET = (DB, leases.LEASE_MS, leases.WAIT_MS)
_COUNT = (KEY_FIELD, _BY, _TAGS, _TTL_MS, _TTL_SECONDS)

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
_FOUND = either(obj(value=STRING), obj(value_base64=STRING), TOO_LARGE, NOT_FOUND, leases.FETCHED)


class Entries:
    """Endpoints for single entries."""

    def __init__(self, databases: IDatabases, slices: Slices, waits: Waits) -> None:
        self._waits = waits
        self._databases = databases
        self._slices = slices
        # Looks up a key in database 0; None if a look-up takes time.
        self.look_up: Callable[[bytes], bytes] | None = None
        store = databases[0].store
        if store is not None:
            self.look_up = lambda key: self._value_body(store.get(key))

    def _engine(self, call: Call) -> IEngine:
        return engine_of(self._databases, call)

    def _session(self, call: Call) -> ISession:
        return engine_of(self._databases, call).session

    @route("POST", "/put", _STORED, body=_PUT, query=(DB,), statuses=(409, 413, 507))
    def put(self, call: Call) -> EventualResponse:
        """Store a value. With ``lease``, 409 if it may be outdated."""
        body, session = call.body, self._session(call)
        options = StoreOptions(tags_of(body), ttl_of(body), body.get("grace_ms", 0))
        key, value = body["key"].encode(), stored_as(body["value"])
        if "lease" in body:
            return leases.fill(session, body["lease"], key, value, options)
        return then(session.put_with(key, value, options), _stored)

    @route(
        "POST",
        "/release",
        obj(ok=BOOLEAN, released=BOOLEAN),
        body=(KEY_FIELD, leases.TOKEN_FIELD),
        query=(DB,),
    )
    def release(self, call: Call) -> EventualResponse:
        """Give a lease back, because the value could not be computed."""
        token = int(call.body["lease"])
        released = self._session(call).release(token, call.body["key"].encode())
        return then(released, lambda there: json_response({"ok": True, "released": there}))

    @route(
        "POST",
        "/add",
        obj(ok=BOOLEAN, added=BOOLEAN, ttl_ms=TTL),
        body=_STORE,
        query=(DB,),
        statuses=(413, 507),
    )
    def add(self, call: Call) -> EventualResponse:
        """Store a value if the key is absent."""
        body = call.body
        ttl_ms = ttl_of(body)
        added = self._session(call).add(
            body["key"].encode(), stored_as(body["value"]), tags_of(body), ttl_ms
        )
        ttl_ms = self._databases.limits.effective_ttl_ms(ttl_ms)
        return then(
            added, lambda done: json_response({"ok": True, "added": done, "ttl_ms": ttl_ms})
        )

    @route("POST", "/incr", _COUNTED, body=_COUNT, query=(DB,), statuses=(507,))
    def incr(self, call: Call) -> EventualResponse:
        """Increment an integer."""
        return _count(call, self._session(call).increment)

    @route("POST", "/decr", _COUNTED, body=_COUNT, query=(DB,), statuses=(507,))
    def decr(self, call: Call) -> EventualResponse:
        """Decrement an integer."""
        return _count(call, self._session(call).decrement)

    @route(
        "POST",
        "/touch",
        obj(ok=BOOLEAN, touched=BOOLEAN),
        body=(KEY_FIELD, _TTL_MS, _TTL_SECONDS),
        query=(DB,),
        statuses=(507,),
    )
    def touch(self, call: Call) -> EventualResponse:
        """Start a new time to live for an entry."""
        touched = self._session(call).touch(call.body["key"].encode(), ttl_of(call.body))
        return then(touched, lambda there: json_response({"ok": True, "touched": there}))

    @route("GET", "/get/{key}", _FOUND, query=_GET, lookup="look_up", statuses=(422,))
    def get(self, call: Call) -> EventualResponse:
        """Look up a value; counts a hit or a miss. With ``lease_ms``, take the lease of a miss."""
        if leases.LEASE_MS.name in call.query or leases.WAIT_MS.name in call.query:
            return self._fetch(call)
        found = self._session(call).get(call.key.encode())
        return then(found, lambda value: Response(200, self._value_body(value)))

    def _fetch(self, call: Call) -> EventualResponse:
        times = leases.times_of(call.query)
        if isinstance(times, Response):
            return times
        engine = self._engine(call)
        fetched = self._waits.fetch(engine, engine.session, self, call.key.encode(), *times)
        call.request.waited |= isinstance(fetched, Deferred)
        return leases.fetched_response(fetched, self._databases.limits.max_value_length)

    def _value_body(self, value: bytes | None) -> bytes:
        return value_body(value, self._databases.limits.max_value_length)

    @route("GET", "/keys/{key}", either(_ITEM, NOT_FOUND), query=(DB,))
    def key(self, call: Call) -> EventualResponse:
        """One entry, with its value parsed if it is JSON."""

        def show(entry: EntryView | None) -> EventualResponse:
            if entry is None:
                return json_response({"error": "not_found"})
            return then(self._slices.finish(self._item(entry)), json_response)

        return then(self._engine(call).peek(call.key.encode()), show)

    @route(
        "PUT",
        "/keys/{key}",
        _STORED,
        body=(Field("value", ANYTHING, "the value", required=True), _TTL_MS, _TAGS),
        query=(DB,),
        statuses=(413, 507),
    )
    def put_key(self, call: Call) -> EventualResponse:
        """Store any JSON value; a string is stored as it is."""
        body = call.body
        stored = self._session(call).put(
            call.key.encode(), stored_as(body["value"]), tags_of(body), body.get("ttl_ms")
        )
        return then(stored, _stored)

    @route("DELETE", "/keys/{key}", obj(deleted=INTEGER, ok=BOOLEAN), query=(DB,))
    def delete_key(self, call: Call) -> EventualResponse:
        """Remove one entry."""
        deleted = self._session(call).delete(call.key.encode())
        return then(deleted, lambda there: json_response({"deleted": int(there), "ok": there}))

    @route(
        "POST",
        "/keys/bulk/get",
        obj(items=array(_ITEM)),
        body=(KEYS_FIELD,),
        query=(DB, Field("raw", one_of("true", "false"), "true: values as text, never parsed")),
    )
    @inlineCallbacks
    def bulk_get(self, call: Call) -> Generator[Any, Any, Response]:
        """Several entries, in the order of the keys; missing ones are left out."""
        keys = [key.encode() for key in call.body["keys"]]
        raw = call.query.get("raw") == "true"
        engine = self._engine(call)
        items: list[bytes] = []
        size = 0

        def dump(found: list[EntryView | None]) -> Generator[None, None, None]:
            nonlocal size
            for entry in found:
                if entry is not None:
                    items.append(orjson.dumps((yield from self._item(entry, raw))))
                    size += len(items[-1])
                    if size > _MOST_BYTES:
                        raise AnswerTooLarge(f"the answer has more than {_MOST_BYTES} bytes")
                yield

        # Look up a few at a time, because all values together may be too large for a response.
        for start in range(0, len(keys), _KEYS_TOGETHER):
            found = yield engine.peek_many(keys[start : start + _KEYS_TOGETHER])
            yield self._slices.run(dump(found))
        return json_list(b"items", items)

    def _item(self, entry: EntryView, raw: bool = False) -> Generator[None, None, dict[str, Any]]:
        return item_of(entry, self._databases.limits.max_value_length, raw)


def _count(call: Call, operation: Callable[..., int | Deferred[int]]) -> EventualResponse:
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


def plain_options(text: bytes) -> StoreOptions:
    """Return the options of a store from the text of its fields ``tags`` and ``ttl_ms``.

    Raises NotJson, InvalidField.
    """
    body = run_to_end(read_body(b"{%b}" % text, (_TAGS, _TTL_MS)))
    return StoreOptions(tags_of(body), ttl_of(body))


def _stored(ttl_ms: int | None) -> Response:
    return Response(200, _STORED_FOREVER if ttl_ms is None else b'{"ok":true,"ttl_ms":%d}' % ttl_ms)
