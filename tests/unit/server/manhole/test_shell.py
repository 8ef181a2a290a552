"""The manhole without its SSH connection."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.error import ProcessDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from tests.helpers import only
from tests.unit.server.http.test_protocol import Door


class _Process:
    """Records what a session does to the channel."""

    def __init__(self) -> None:
        self.written = b""
        self.ended: list[Failure] = []

    def write(self, data: bytes) -> None:
        self.written += data

    def processEnded(self, reason: Failure) -> None:
        self.ended.append(reason)


# Conch imports spwd, where it exists, on its own first import.
@pytest.mark.filterwarnings("ignore:'spwd' is deprecated:DeprecationWarning")
def test_the_channel_is_used_only_after_the_request_is_answered() -> None:
    """Conch answers the request when ``execCommand`` returns."""
    from tagcache.server.manhole.shell import Session

    clock, process = Clock(), _Process()
    session: Any = Session(object())
    session.namespace, session.reactor = {}, clock
    session.execCommand(process, b"6 * 7")
    assert (process.written, process.ended) == (b"", [])
    clock.advance(0)
    assert process.written.split() == [b"42"]
    assert [reason.type for reason in process.ended] == [ProcessDone]


@pytest.mark.parametrize("here", [True, False])
def test_an_empty_cache_is_found_by_name(here: bool) -> None:
    from tagcache.server.manhole.commands import namespace

    engine = Door().engine
    calls = {name: getattr(engine, name) for name in ("session", "peek", "totals")}
    elsewhere = SimpleNamespace(store=None, **calls)
    service: Any = SimpleNamespace(databases=only(engine if here else elsewhere))
    cache = namespace(service)["cache"]
    assert cache.get(b"k") is None
    assert cache.totals().items == 0
    assert cache.peek(b"k") is None
