"""What to send together, what became of each request, and what is taken for a miss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tagcache.client.options import Options
from tagcache.client.requests import Request
from tagcache.errors import CannotDecode, ClientError, Refused, Unavailable

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


def overlooked(options: Options, request: Request[Any], error: ClientError) -> Any:
    """Return what stands for the result of a request that failed, with ``ignore_exc``.

    Raises ``error`` without it, and where the caller is at fault.
    """
    unreadable = isinstance(error, CannotDecode) or (
        isinstance(error, Refused) and error.code == "value_not_representable"
    )
    if not options.ignore_exc or not (unreadable or isinstance(error, Unavailable)):
        raise error
    options.ignored(error)
    return request.absent


def overlook_each(options: Options, requests: list[Request[Any]], outcomes: list[Any]) -> list[Any]:
    """Return the outcomes, with ``ignore_exc`` without the errors that it covers."""
    if not options.ignore_exc:
        return outcomes
    found = []
    for request, outcome in zip(requests, outcomes, strict=True):
        if isinstance(outcome, ClientError):
            try:
                outcome = overlooked(options, request, outcome)
            except ClientError as error:
                outcome = error
        found.append(outcome)
    return found


def raise_first(outcomes: list[Any]) -> list[Any]:
    """Return the outcomes if all are results; else raise the first error among them."""
    for outcome in outcomes:
        if isinstance(outcome, ClientError):
            raise outcome
    return outcomes
