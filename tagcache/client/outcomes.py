"""Group requests for sending, read their outcomes, and turn ignored errors into misses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from tagcache.client.options import Options
from tagcache.client.requests import Request
from tagcache.errors import (
    AnswerTooLarge,
    CannotDecode,
    ClientError,
    OutOfMemory,
    Refused,
    Unavailable,
)

T = TypeVar("T")

# Bytes of requests to send before reading their replies: few enough for the sockets' buffers, so
# that client and server never both wait for the other side to read.
_WINDOW = 16384


def windows(requests: list[Request[Any]]) -> Iterator[tuple[bytes, int]]:
    """Yield what to send before replies are read, and the number of those replies."""
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


def read_all(requests: list[Request[Any]], replies: list[Any]) -> list[Any]:
    """Return the result of each request, or the ClientError that replaces it."""
    outcomes: list[Any] = []
    for request, reply in zip(requests, replies, strict=True):
        try:
            outcomes.append(request.read(reply))
        except ClientError as error:
            outcomes.append(error)
    return outcomes


def is_too_large(outcome: Any) -> bool:
    """Return whether the server refused the request because its reply would be too large."""
    return isinstance(outcome, Refused) and outcome.code == AnswerTooLarge.code


def ignored_result(options: Options, request: Request[Any], error: ClientError) -> Any:
    """Return the result of a failed request whose error ``ignore_exc`` covers.

    Raises ``error`` if the option is not set, or if the caller is at fault.
    """
    is_full = isinstance(error, Refused) and error.code == OutOfMemory.code
    if not options.ignore_exc or not (is_full or isinstance(error, (CannotDecode, Unavailable))):
        raise error
    options.ignored(error)
    return request.absent


def ignore_errors(options: Options, requests: list[Request[Any]], outcomes: list[Any]) -> list[Any]:
    """Return the outcomes without the errors that ``ignore_exc`` covers."""
    if not options.ignore_exc:
        return outcomes
    found = []
    for request, outcome in zip(requests, outcomes, strict=True):
        if isinstance(outcome, ClientError):
            try:
                outcome = ignored_result(options, request, outcome)
            except ClientError as error:
                outcome = error
        found.append(outcome)
    return found


def raise_first(outcomes: Iterable[T | ClientError]) -> list[T]:
    """Raise the first ClientError among the outcomes, or return them if there is none."""
    results: list[T] = []
    for outcome in outcomes:
        if isinstance(outcome, ClientError):
            raise outcome
        results.append(outcome)
    return results
