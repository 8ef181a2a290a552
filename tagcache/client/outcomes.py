"""Many requests at once: what to send together, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tagcache.client.requests import Request
from tagcache.errors import ClientError

# So many bytes of requests go before their replies are read: few enough that the sockets' buffers
# take them, so that never both sides wait for the other to read.
_WINDOW = 16384


def windows(requests: list[Request[Any]]) -> Iterator[tuple[bytes, int]]:
    """Yield what to send before replies are read, and how many these are."""
    payloads: list[bytes] = []
    size = 0
    for request in requests:
        payload = request.payload
        if payloads and size + len(payload) > _WINDOW:
            yield b"".join(payloads), len(payloads)
            payloads, size = [], 0
        payloads.append(payload)
        size += len(payload)
    if payloads:
        yield b"".join(payloads), len(payloads)


def read_all(requests: list[Request[Any]], lines: list[bytes]) -> list[Any]:
    """Return the result of each request, or the ClientError that took its place."""
    outcomes: list[Any] = []
    for request, line in zip(requests, lines, strict=True):
        try:
            outcomes.append(request.read(line))
        except ClientError as error:
            outcomes.append(error)
    return outcomes


def raise_first(outcomes: list[Any]) -> list[Any]:
    """Return the outcomes if all are results; else raise the first error among them."""
    for outcome in outcomes:
        if isinstance(outcome, ClientError):
            raise outcome
    return outcomes
