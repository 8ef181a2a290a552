"""The commands of the line protocol that concern the server and its connections."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from typing import Any

from twisted.internet.defer import Deferred, succeed

from tagcache.errors import InvalidArgument
from tagcache.model.views import Consistency
from tagcache.server.auth.credentials import Credentials
from tagcache.server.commands.cache import second_of
from tagcache.server.commands.table import Command, Disconnect, Reply
from tagcache.server.net.connections import Connections
from tagcache.server.observe.traffic import MOST_SLOW, Traffic
from tagcache.server.then import then
from tagcache.server.upkeep.slices import Slices
from tagcache.wire import line as wire


class AdminCommands:
    """The commands, bound to their collaborators. A caller is a LineProtocol.

    ``info`` returns the reply to INFO, as a JSON object; ``check`` checks all databases.
    """

    def __init__(
        self,
        connections: Connections,
        credentials: Credentials,
        info: Callable[[], Any],
        check: Callable[[], Consistency | Deferred[Consistency]],
        traffic: Traffic,
        slices: Slices,
    ) -> None:
        self._connections = connections
        self._credentials = credentials
        self._info = info
        self._check = check
        self._traffic = traffic
        self._slices = slices

    def rows(self) -> tuple[Command, ...]:
        """Return these commands for the table."""
        return (
            Command(
                b"AUTH",
                self.auth,
                "user password, or: token",
                "OK",
                "Log in, with a password or a token of the HTTP API.",
            ),
            Command(
                b"CLIENTS",
                self.clients,
                "",
                "CLIENTS⇥[...]",
                "Return the connections, as a JSON array of objects.",
            ),
            Command(
                b"CLIENT_KILL",
                self.client_kill,
                "id",
                "CLIENT_KILL⇥{...}",
                "Close a connection; killed is false if there is none with this id.",
            ),
            Command(
                b"INFO",
                self.info,
                "[check]",
                "INFO⇥{...}",
                "Return the state of the server, or check entries and indexes.",
            ),
            Command(b"QUIT", self.quit, "", "OK", "Close the connection."),
            Command(
                b"SLOWLOG",
                self.slowlog,
                "[n]",
                "SLOWLOG⇥[...]",
                "Return the last slow commands, the newest first.",
            ),
        )

    def auth(self, caller: Any, fields: list[bytes]) -> Deferred[bytes]:
        if len(fields) == 2:
            checked = succeed(self._credentials.accepts_token(fields[1]))
        else:
            user, password = fields[1:3] if len(fields) > 2 else (b"", b"")
            checked = self._credentials.verify(user, password, caller.connection.host)

        def conclude(right: bool) -> bytes:
            if not right:
                raise InvalidArgument("auth_failed")
            caller.admit()
            return wire.OK

        return checked.addCallback(conclude)

    def clients(self, caller: Any, fields: list[bytes]) -> Deferred[bytes]:
        described: list[str] = []

        def describe_each() -> Iterator[None]:
            described.extend((yield from described_clients(self._connections)))

        done = self._slices.run(describe_each())
        return done.addCallback(lambda _: wire.json_list(b"CLIENTS", described))

    def client_kill(self, caller: Any, fields: list[bytes]) -> bytes:
        text = second_of(fields)
        if not text:
            raise InvalidArgument("missing_id")
        if not text.isdigit() or len(text) > 19:
            raise InvalidArgument("invalid_id")
        connection = self._connections.get(int(text))
        reply = wire.json_object(
            b"CLIENT_KILL", {"id": int(text), "killed": connection is not None}
        )
        if connection is caller.connection:
            raise Disconnect(reply)
        if connection is not None:
            connection.abort()
        return reply

    def info(self, caller: Any, fields: list[bytes]) -> Reply:
        if second_of(fields).lower() == b"check":
            return then(self._check(), lambda found: wire.json_object(b"INFO", _described(found)))
        return then(self._info(), lambda told: wire.json_object(b"INFO", told))

    def slowlog(self, caller: Any, fields: list[bytes]) -> bytes:
        text = second_of(fields)
        if text and not (text.isdigit() and len(text) < 10):
            raise InvalidArgument("invalid_count")
        most = int(text) if text else MOST_SLOW
        return wire.json_list(b"SLOWLOG", described_slow(self._traffic, most))

    def quit(self, caller: Any, fields: list[bytes]) -> bytes:
        raise Disconnect(wire.OK)


def described_clients(connections: Connections) -> Generator[None, None, list[str]]:
    """Work that returns every connection as a JSON text."""
    described: list[str] = []
    now = connections.monotonic()
    for connection in list(connections):
        described.append(_dump(connection.describe(now)))
        yield
    return described


def described_slow(traffic: Traffic, most: int) -> list[str]:
    """Return the last slow commands as JSON texts, the newest first."""
    return [_dump(each.describe()) for each in traffic.slow(most)]


def _dump(described: dict[str, Any]) -> str:
    return json.dumps(described, separators=(",", ":"))


def _described(found: Consistency) -> dict[str, Any]:
    """Return the findings of a check as a JSON object."""
    return {
        "check": {
            "ok": not found.fault_count,
            "entries": found.entries,
            "tags": found.tags,
            "fault_count": found.fault_count,
            "faults": found.faults,
        }
    }
