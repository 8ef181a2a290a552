"""Entries as JSON, in requests and responses."""

from __future__ import annotations

import base64
from collections.abc import Generator, Mapping
from typing import Any

import orjson

from tagcache.errors import ValueTooLarge
from tagcache.model.views import EntryView
from tagcache.server.http import jsontext
from tagcache.wire import values


def tags_of(body: Mapping[str, Any]) -> list[bytes]:
    """Return the tags in a body, without empty ones."""
    return [tag.encode() for tag in body.get("tags", ()) if tag]


def ttl_of(body: Mapping[str, Any]) -> int | None:
    """Return the time to live in a body, in milliseconds."""
    ttl_ms: int | None = body.get("ttl_ms")
    if ttl_ms is None and "ttl_seconds" in body:
        return min(int(body["ttl_seconds"]) * 1000, 2**64 - 1)
    return ttl_ms


def stored_as(value: Any) -> bytes:
    """Return the stored form of any JSON value: a string as it is, anything else as JSON."""
    return values.stored(value.encode()) if isinstance(value, str) else jsontext.canonical(value)


def item_of(
    entry: EntryView, max_length: int, raw: bool = False
) -> Generator[None, None, dict[str, Any]]:
    """Work that returns an entry as a JSON object.

    The value is parsed if it is JSON, unless ``raw``. It is left out if it has more than
    ``max_length`` bytes after decompression.
    """
    item: dict[str, Any] = {
        "created_ms": entry.stored_us // 1000,
        "key": text_of(entry.key),
        "tags": [text_of(tag) for tag in entry.tags],
        "ttl_ms": entry.left_ms,
    }
    try:
        value = values.plain(entry.value or b"", max_length)
    except ValueTooLarge as error:
        return {**item, "error": error.code}
    try:
        if raw:
            raise jsontext.NotJson
        item["value"] = yield from jsontext.read(value)
    except jsontext.NotJson:
        try:
            item["value"] = value.decode()
        except UnicodeDecodeError:
            item["value_base64"] = base64.b64encode(value).decode()
    return item


def value_body(value: bytes | None, max_length: int) -> bytes:
    """Return the body of the response to a look-up; ``value`` is None if there is no entry.

    The value is left out if it has more than ``max_length`` bytes after decompression.
    """
    if value is None:
        return b'{"error":"not_found"}'
    if value.startswith(values.HEADERS):
        try:
            value = values.plain(value, max_length)
        except ValueTooLarge as error:
            return orjson.dumps({"error": error.code})
    try:
        return b'{"value":' + orjson.dumps(value.decode()) + b"}"
    except UnicodeDecodeError:
        return orjson.dumps({"value_base64": base64.b64encode(value).decode()})


def text_of(data: bytes) -> str:
    """Return a key or a tag as text, with replacement characters for invalid UTF-8."""
    return data.decode("utf-8", "replace")
