"""Look up under a lease, and store under a lease."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from twisted.internet.defer import Deferred

from tagcache.model.fetched import MOST_LEASE_MS, MOST_WAIT_MS, Fetched
from tagcache.model.interfaces import ISession
from tagcache.model.store_options import StoreOptions
from tagcache.server.http.entry_json import value_body
from tagcache.server.http.fields import TOKEN, UNSIGNED, Field
from tagcache.server.http.messages import EventualResponse, Response, failure, json_response
from tagcache.server.http.schema import INTEGER, STRING, TOO_LARGE, nullable, obj
from tagcache.server.then import then

LEASE_MS = Field(
    "lease_ms", UNSIGNED, "if there is no entry, take a lease for this many milliseconds"
)
WAIT_MS = Field(
    "wait_ms",
    UNSIGNED,
    "with lease_ms: the longest wait, in milliseconds, for another client's lease",
)
GRACE_MS = Field(
    "grace_ms", UNSIGNED, "how many milliseconds the entry is stale after its time to live"
)
LEASE = Field("lease", TOKEN, "the lease under which the value was computed")
TOKEN_FIELD = Field("lease", TOKEN, "the lease", required=True)
FETCHED = obj(
    ("value", "value_base64", "error", "wait_ms"),
    state={"type": "string", "enum": ["hit", "stale", "lease", "wait"]},
    value=nullable(STRING),
    value_base64=STRING,
    error=TOO_LARGE["properties"]["error"],
    lease=nullable(STRING),
    wait_ms=INTEGER,
)
_REFUSED = failure(409, "lease_refused", "the value may be outdated, or the lease has ended")


def times_of(query: Mapping[str, Any]) -> tuple[int, int] | Response:
    """Return ``lease_ms`` and ``wait_ms`` of a look-up, or what is wrong with them."""
    lease_ms, wait_ms = query.get(LEASE_MS.name), query.get(WAIT_MS.name, 0)
    if lease_ms is None:
        return failure(400, "bad_request", "wait_ms needs lease_ms")
    if not 0 < lease_ms <= MOST_LEASE_MS:
        return failure(400, "bad_request", f"lease_ms must be from 1 to {MOST_LEASE_MS}")
    if wait_ms > MOST_WAIT_MS:
        return failure(400, "bad_request", f"wait_ms must be at most {MOST_WAIT_MS}")
    return lease_ms, wait_ms


def fetched_response(fetched: Fetched | Deferred[Fetched], most_bytes: int) -> EventualResponse:
    """Return the response to a look-up that takes a lease.

    A value that has more than ``most_bytes`` after decompression is left out.
    """

    def write(result: Fetched) -> Response:
        content: dict[str, Any] = {"state": result.found.name.lower(), "value": None}
        if result.value is not None:
            del content["value"]
            content |= orjson.loads(value_body(result.value, most_bytes))
        content["lease"] = None if result.token is None else str(result.token)
        if result.left_ms:
            content["wait_ms"] = result.left_ms
        return json_response(content)

    return then(fetched, write)


def fill(
    session: ISession, lease: str, key: bytes, value: bytes, options: StoreOptions
) -> EventualResponse:
    """Store a value that was computed under a lease; return the response."""

    def conclude(stored: bool) -> Response:
        return json_response({"ok": True, "ttl_ms": options.ttl_ms}) if stored else _REFUSED

    return then(session.fill(int(lease), key, value, options), conclude)
