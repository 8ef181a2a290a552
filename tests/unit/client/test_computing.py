"""The requests that a computation makes, and what it does without leases."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from tagcache.client._sync.computing import BlockingComputation
from tagcache.client.compute_options import ComputeOptions
from tagcache.client.fake import FakeClient
from tagcache.client.requests import Request
from tagcache.errors import BadArgument, ConnectionFailed, Refused
from tagcache.wire.resp import request as encoded

WAITING = [b"WAIT", None, None, 5000]


class ScriptedClient(FakeClient):
    """A client whose replies a test chooses; ``sent`` are the requests."""

    def __init__(self, answer: Callable[[bytes], Any], **options: Any) -> None:
        super().__init__(**options)
        self.sent: list[bytes] = []
        self._answer = answer

    def _perform(self, request: Request[Any]) -> Any:
        self.sent.append(request.payload)
        reply = self._answer(request.payload)
        if isinstance(reply, Exception):
            raise reply
        return request.read(reply)


def fetch(wait_ms: int) -> bytes:
    return encoded(b"TAG.FETCH", b"k", b"LEASE", b"60000", b"WAIT", b"%d" % wait_ms)


def test_a_wait_is_in_parts_that_a_reply_may_take() -> None:
    client = ScriptedClient(lambda payload: WAITING, timeout=4.0)
    work = BlockingComputation[str](client, "k", ComputeOptions())
    assert not work.look_up()
    assert client.sent == [fetch(2000), fetch(2000), fetch(1000)]
    # Nothing is stored without a lease.
    assert work.produce(lambda: "v") == "v"
    work.store("v")
    assert len(client.sent) == 3


@pytest.mark.parametrize(
    ("wait", "sent"),
    [
        (0, [fetch(0)]),
        (0.001, [fetch(1)]),
        (timedelta(seconds=3), [fetch(3000)]),
        (10**6, [fetch(600_000)]),
    ],
)
def test_how_long_to_wait(wait: Any, sent: list[bytes]) -> None:
    client = ScriptedClient(lambda payload: WAITING, timeout=None)
    assert not BlockingComputation[str](client, "k", ComputeOptions(wait=wait)).look_up()
    assert client.sent == sent


@pytest.mark.parametrize("options", [{"ttl": 0}, {"grace": -1}, {"grace": "1"}])
def test_options_are_checked_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(BadArgument):
        ComputeOptions(**options)


def test_an_engine_without_leases_is_asked_once() -> None:
    def answer(payload: bytes) -> Any:
        if b"TAG.FETCH" in payload:
            return Refused("not_supported_by_backend")
        return None if b"GET" in payload else b"OK"

    client = ScriptedClient(answer)
    for _ in range(2):
        assert client.get_or_set("k", lambda: "v") == "v"
    verbs = [payload.split(b"\r\n")[2] for payload in client.sent]
    assert verbs == [b"TAG.FETCH", b"GET", b"SET", b"GET", b"SET"]


def test_other_refusals_are_raised() -> None:
    client = ScriptedClient(lambda payload: Refused("key_too_long"))
    with pytest.raises(Refused):
        client.get_or_set("k", lambda: "v")


def test_an_error_of_the_producer_is_raised_even_if_the_server_is_gone() -> None:
    def answer(payload: bytes) -> Any:
        return [b"LEASE", None, b"1"] if b"TAG.FETCH" in payload else ConnectionFailed("gone")

    def fail() -> str:
        raise KeyError("mine")

    client = ScriptedClient(answer, ignore_exc=False)
    with pytest.raises(KeyError):
        client.get_or_set("k", fail)
    assert client.sent[-1] == encoded(b"TAG.RELEASE", b"k", b"1")
