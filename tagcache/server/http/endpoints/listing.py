"""List and search entries and tags."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from typing import Any

import orjson

from tagcache.model.interfaces import IDatabases, IEngine
from tagcache.model.views import EntryView, TagSize
from tagcache.server.http.databases import DB, engine_of
from tagcache.server.http.entry_json import text_of
from tagcache.server.http.fields import TEXT, TEXTS, UNSIGNED, Field, one_of
from tagcache.server.http.messages import Call, EventualResponse, json_list, json_response
from tagcache.server.http.routes import route
from tagcache.server.http.schema import INTEGER, NUMBER, STRING, TTL, array, nullable, obj
from tagcache.server.then import then
from tagcache.server.upkeep.slices import Slices

_MOST = 10_000
_LIMIT = Field("limit", UNSIGNED, f"the maximum number; never more than {_MOST}")
_LIMIT_100 = Field("limit", UNSIGNED, f"absent: 100; never more than {_MOST}")
_OFFSET = Field("offset", UNSIGNED, "how many to skip")

_LISTED = obj(
    keys=array(obj(created_ms=INTEGER, key=STRING, size=INTEGER, tags=array(STRING), ttl=TTL))
)
_FOUND = obj(keys=array(obj(key=STRING, ttl_ms=TTL, tags=array(STRING), created_ms=INTEGER)))
_TAGS = obj(
    tags=array(
        obj(
            name=STRING,
            keys=INTEGER,
            bytes=INTEGER,
            hits=INTEGER,
            misses_after_invalidation=INTEGER,
            invalidations=INTEGER,
            invalidated=INTEGER,
            stale_served=INTEGER,
            fills_refused=INTEGER,
            seconds_since_invalidation=nullable(NUMBER),
        )
    )
)


class Listing:
    """Endpoints for lists of entries and tags."""

    def __init__(
        self, databases: IDatabases, slices: Slices, monotonic: Callable[[], float]
    ) -> None:
        self._databases = databases
        self._slices = slices
        self._monotonic = monotonic

    @route(
        "GET",
        "/keys-by-tag",
        obj(keys=array(STRING)),
        query=(Field("tag", TEXT, "the tag", required=True), _LIMIT, DB),
    )
    def keys_by_tag(self, call: Call) -> EventualResponse:
        """The keys that carry a tag."""
        limit = min(call.query.get("limit", _MOST), _MOST)
        engine = engine_of(self._databases, call)
        found = engine.search([call.query["tag"].encode("utf-8", "replace")], limit=limit)
        return then(
            found,
            lambda entries: json_list(
                b"keys", [orjson.dumps(text_of(each.key)) for each in entries]
            ),
        )

    @route("GET", "/keys", _LISTED, query=(_LIMIT, _OFFSET, DB))
    def keys(self, call: Call) -> EventualResponse:
        """The entries, newest first."""
        limit = min(call.query.get("limit", _MOST), _MOST)
        engine = engine_of(self._databases, call)
        found = engine.newest(b"", call.query.get("offset", 0), limit)
        return then(found, lambda entries: self._rows(entries, _listed))

    @route(
        "POST",
        "/search",
        _FOUND,
        body=(
            Field("q", TEXT, "a prefix of the key"),
            Field("tag_any", TEXTS, "only entries with at least one of these tags"),
            Field("tag_all", TEXTS, "only entries with all of these tags"),
            _LIMIT_100,
            _OFFSET,
        ),
        query=(DB,),
    )
    def search(self, call: Call) -> EventualResponse:
        """Entries by all tags, or else by any tag, or else by prefix, or else the newest."""
        body, engine = call.body, engine_of(self._databases, call)
        limit = min(body.get("limit", 100), _MOST)
        offset = min(body.get("offset", 0), sys.maxsize - _MOST)
        if body.get("tag_all") or body.get("tag_any"):
            every = bool(body.get("tag_all"))
            tags = [tag.encode() for tag in body["tag_all" if every else "tag_any"]]
            found = engine.search(tags, every, offset, limit)
        else:
            found = engine.newest((body.get("q") or "").encode(), offset, limit)
        return then(found, lambda entries: self._rows(entries, _found))

    def _rows(
        self, entries: list[EntryView], row: Callable[[EntryView], dict[str, Any]]
    ) -> EventualResponse:
        def dump_each() -> Generator[None, None, list[bytes]]:
            rows = []
            for entry in entries:
                rows.append(orjson.dumps(row(entry)))
                yield
            return rows

        return then(self._slices.finish(dump_each()), lambda rows: json_list(b"keys", rows))

    @route(
        "GET",
        "/tags",
        _TAGS,
        query=(
            Field("prefix", TEXT, "a prefix of the tag"),
            Field("sort", one_of("keys", "bytes", "hits"), "absent: keys"),
            _LIMIT_100,
            DB,
        ),
    )
    def tags(self, call: Call) -> EventualResponse:
        """The tags with the most keys (or bytes, or hits), largest first."""
        limit = min(call.query.get("limit", 100), _MOST)
        prefix = call.query.get("prefix", "").encode()
        engine = engine_of(self._databases, call)
        found = engine.largest_tags(prefix, limit, call.query.get("sort", "keys"))
        return then(
            found,
            lambda tags: json_response({"tags": [self._tag_row(engine, each) for each in tags]}),
        )

    def _tag_row(self, engine: IEngine, tag: TagSize) -> dict[str, Any]:
        activity = engine.activity(tag.name)
        last = activity.last_invalidated
        return {
            "name": text_of(tag.name),
            "keys": tag.keys,
            "bytes": tag.bytes,
            "hits": activity.hits,
            "misses_after_invalidation": activity.misses,
            "invalidations": activity.invalidations,
            "invalidated": activity.invalidated,
            "stale_served": activity.stale_served,
            "fills_refused": activity.refused,
            "seconds_since_invalidation": (
                None if last is None else round(self._monotonic() - last, 3)
            ),
        }


def _listed(entry: EntryView) -> dict[str, Any]:
    return {
        "created_ms": entry.stored_us // 1000,
        "key": text_of(entry.key),
        "size": entry.size - len(entry.key),
        "tags": [text_of(tag) for tag in entry.tags],
        "ttl": entry.left_ms,
    }


def _found(entry: EntryView) -> dict[str, Any]:
    return {
        "key": text_of(entry.key),
        "ttl_ms": entry.left_ms,
        "tags": [text_of(tag) for tag in entry.tags],
        "created_ms": entry.stored_us // 1000,
    }
