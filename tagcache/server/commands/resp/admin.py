"""The state of the server as JSON, for the clients and tools of this project."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from tagcache.server.commands.admin import described_clients, described_slow
from tagcache.server.commands.resp.arguments import natural
from tagcache.server.commands.resp.table import Caller, RespCommand, outside_transactions
from tagcache.server.commands.table import Reply
from tagcache.server.net.connections import Connections
from tagcache.server.observe.traffic import MOST_SLOW, Traffic
from tagcache.server.then import then
from tagcache.wire import resp


class StateCommands:
    """The commands, bound to their collaborators.

    ``info`` returns the state of the server as a JSON object, or a Deferred of it.
    """

    def __init__(self, connections: Connections, info: Callable[[], Any], traffic: Traffic) -> None:
        self._connections = connections
        self._info = info
        self._traffic = traffic

    def rows(self) -> tuple[RespCommand, ...]:
        """Return these commands for the table."""
        row = outside_transactions
        return (
            row(b"TAG.INFO", 1, self.info, "the state of the server as JSON"),
            row(b"TAG.CLIENTS", 1, self.clients, "the connections as JSON"),
            row(b"TAG.SLOWLOG", -1, self.slowlog, "slow commands as JSON"),
        )

    def info(self, caller: Caller, arguments: list[bytes]) -> Reply:
        def write(state: dict[str, Any]) -> bytes:
            return resp.bulk(json.dumps(state, separators=(",", ":")).encode("ascii"))

        return then(self._info(), write)

    def clients(self, caller: Caller, arguments: list[bytes]) -> Reply:
        return then(caller.run_work(described_clients(self._connections)), _list_of)

    def slowlog(self, caller: Caller, arguments: list[bytes]) -> Reply:
        most = natural(arguments[1]) if len(arguments) > 1 else MOST_SLOW
        return _list_of(described_slow(self._traffic, most))


def _list_of(items: Sequence[str]) -> bytes:
    return resp.bulk(b"[%b]" % ",".join(items).encode("ascii"))
