"""Remove entries by key or by tag, or all of them."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from tagcache.model.interfaces import IDatabases, IEngine, ISession
from tagcache.server.http.databases import DB, engine_of
from tagcache.server.http.entry_json import tags_of
from tagcache.server.http.fields import FLAG, KEY_FIELD, KEYS_FIELD, TEXT, TEXTS, Field, one_of
from tagcache.server.http.messages import Call, EventualResponse, Response, json_response
from tagcache.server.http.routes import route
from tagcache.server.http.schema import BOOLEAN, INTEGER, obj
from tagcache.server.observe.events import EventLog
from tagcache.server.then import then

_TAG = Field("tag", TEXT, "the tag", required=True)
_TAGS = Field("tags", TEXTS, "the tags", required=True)
_MODE = Field("mode", one_of("any", "all"), "absent: any")
_SOFT = Field("soft", FLAG, "true: entries that have a grace become stale; absent: false")
_QUERY = (
    Field("dry_run", one_of("true", "false"), "true: only count the entries; absent: false"),
    DB,
)
_INVALIDATED = obj(("dry_run",), success=BOOLEAN, count=INTEGER, dry_run=BOOLEAN)
_KEY_INVALIDATED = obj(("dry_run",), success=BOOLEAN, count={"type": "null"}, dry_run=BOOLEAN)


class Invalidation:
    """Endpoints that remove entries. With ``dry_run`` they only count them."""

    def __init__(self, databases: IDatabases, events: EventLog) -> None:
        self._databases = databases
        self._events = events

    def _engine(self, call: Call) -> IEngine:
        return engine_of(self._databases, call)

    def _session(self, call: Call) -> ISession:
        return engine_of(self._databases, call).session

    @route("POST", "/invalidate-key", _KEY_INVALIDATED, body=(KEY_FIELD, _SOFT), query=_QUERY)
    def key(self, call: Call) -> EventualResponse:
        """Remove one entry."""
        key = call.body["key"].encode()
        if _is_dry(call):
            return then(
                self._engine(call).peek(key), lambda entry: _would_go(None, entry is not None)
            )
        if _is_soft(call):
            softened = self._session(call).invalidate_keys([key], soft=True)
            return then(
                softened, lambda count: json_response({"success": count > 0, "count": None})
            )
        deleted = self._session(call).delete(key)
        return then(deleted, lambda there: json_response({"success": there, "count": None}))

    @route("POST", "/invalidate-tag", _INVALIDATED, body=(_TAG, _SOFT), query=_QUERY)
    def tag(self, call: Call) -> EventualResponse:
        """Remove all entries that carry a tag."""
        tag = call.body["tag"].encode()
        if _is_dry(call):
            return then(self._engine(call).count([tag]), lambda count: _would_go(count, count > 0))
        removed = self._session(call).invalidate_tag(tag, _is_soft(call))
        return then(removed, lambda count: self._gone(call, [tag], count, count > 0))

    @route("POST", "/invalidate/tags", _INVALIDATED, body=(_TAGS, _MODE, _SOFT), query=_QUERY)
    def tags(self, call: Call) -> EventualResponse:
        """Remove all entries that carry any, or all, of several tags."""
        every = call.body.get("mode") == "all"
        tags = tags_of(call.body)
        if _is_dry(call):
            return then(self._engine(call).count(tags, every), _would_go)
        session = self._session(call)
        invalidate = session.invalidate_all if every else session.invalidate_any
        return self._removed(call, tags, invalidate(tags, _is_soft(call)))

    @route("POST", "/invalidate/keys", _INVALIDATED, body=(KEYS_FIELD, _SOFT), query=_QUERY)
    @route("POST", "/keys/bulk/delete", _INVALIDATED, body=(KEYS_FIELD, _SOFT), query=_QUERY)
    def keys(self, call: Call) -> EventualResponse:
        """Remove several entries."""
        keys = [key.encode() for key in call.body["keys"]]
        if _is_dry(call):
            return then(self._engine(call).count_keys(keys), _would_go)
        removed = self._session(call).invalidate_keys(keys, _is_soft(call))
        return self._removed(call, keys, removed)

    @route("POST", "/flush", _INVALIDATED, query=_QUERY)
    def flush(self, call: Call) -> EventualResponse:
        """Remove everything in the database."""
        if _is_dry(call):
            return then(self._engine(call).totals(), lambda totals: _would_go(totals.items))
        return self._removed(call, (), self._session(call).flush())

    def _removed(
        self, call: Call, names: Sequence[bytes], removed: int | Deferred[int]
    ) -> EventualResponse:
        return then(removed, lambda count: self._gone(call, names, count))

    def _gone(
        self, call: Call, names: Sequence[bytes], count: int, success: bool = True
    ) -> Response:
        command = f"POST {call.request.path.decode()}"
        self._events.invalidated(
            call.request.peer, command, names, count, call.query.get(DB.name, 0)
        )
        return json_response({"success": success, "count": count})


def _is_dry(call: Call) -> bool:
    return call.query.get("dry_run") == "true"


def _is_soft(call: Call) -> bool:
    return call.body.get("soft") is True


def _would_go(count: int | None, success: bool = True) -> Response:
    return json_response({"success": success, "count": count, "dry_run": True})
