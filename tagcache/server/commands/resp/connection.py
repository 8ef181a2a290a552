"""The commands of Redis clients that concern their connection."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred, succeed

import tagcache
from tagcache.errors import InvalidDatabase
from tagcache.server.auth.credentials import Credentials
from tagcache.server.commands.resp.arguments import integer
from tagcache.server.commands.resp.table import (
    SYNTAX_ERROR,
    RedisError,
    RespCommand,
    outside_transactions,
    shown,
)
from tagcache.server.commands.table import Disconnect, Reply
from tagcache.server.net.connections import Connection, Connections
from tagcache.wire import resp

if TYPE_CHECKING:
    from tagcache.server.resp.caller import RespCaller

# The version of Redis whose commands are offered. Clients choose their commands by it.
REDIS_VERSION = "7.4.0"
_WRONG_PASSWORD = "WRONGPASS invalid username-password pair or user is disabled."  # noqa: S105
_DEFAULT_USER = b"default"
# The types that CLIENT LIST TYPE accepts, as in Redis. All clients here are "normal".
_CLIENT_TYPES = frozenset((b"normal", b"master", b"replica", b"slave", b"pubsub"))
_CLIENT_ERROR = "ERR syntax error; use CLIENT KILL ID id, or CLIENT KILL ADDR ip:port"


class ConnectionCommands:
    """The commands, bound to their collaborators."""

    def __init__(self, connections: Connections, credentials: Credentials) -> None:
        self._connections = connections
        self._credentials = credentials

    def rows(self) -> tuple[RespCommand, ...]:
        """Return these commands for the table."""
        row = outside_transactions
        return (
            row(b"HELLO", -1, self.hello, "choose the version of the protocol"),
            row(b"AUTH", -2, self.auth, "log in"),
            row(b"QUIT", -1, self.quit, "end the connection"),
            row(b"RESET", 1, self.reset, "reset the state of the connection"),
            row(b"SELECT", 2, self.select, "choose a database"),
            RespCommand(b"PING", -1, ping, summary="PONG, or the argument"),
            RespCommand(b"ECHO", 2, echo, summary="the argument"),
            row(b"CLIENT", -2, self.client, "connections"),
        )

    def hello(self, caller: RespCaller, arguments: list[bytes]) -> Reply:
        version, name, login = self._read_hello(caller, arguments[1:])

        def greet(_: object) -> bytes:
            if not caller.admitted:
                raise RedisError(
                    "NOAUTH HELLO must be called with the client already authenticated, otherwise "
                    "the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the "
                    "client and select the RESP protocol version at the same time",
                    "auth_required",
                )
            caller.resp = version
            if name is not None:
                caller.connection.name = name
            return resp.dump(
                {
                    "server": "redis",
                    "version": REDIS_VERSION,
                    "proto": version,
                    "id": caller.connection.id,
                    "mode": "standalone",
                    "role": "master",
                    "modules": [],
                    "tagcache_version": tagcache.__version__,
                },
                version,
            )

        if login is None:
            return greet(None)
        return self._log_in(caller, *login).addCallback(greet)

    def _read_hello(
        self, caller: RespCaller, arguments: list[bytes]
    ) -> tuple[int, bytes | None, tuple[bytes, bytes] | None]:
        version, name, login = caller.resp, None, None
        if arguments:
            if arguments[0] not in (b"2", b"3"):
                raise RedisError("NOPROTO unsupported protocol version", "no_protocol")
            version = int(arguments[0])
        at = 1
        while at < len(arguments):
            word = arguments[at].upper()
            if word == b"AUTH" and at + 2 < len(arguments):
                login = arguments[at + 1], arguments[at + 2]
                at += 3
            elif word == b"SETNAME" and at + 1 < len(arguments):
                name = _checked_name(arguments[at + 1])
                at += 2
            else:
                raise RedisError("ERR Syntax error in HELLO")
        return version, name, login

    def auth(self, caller: RespCaller, arguments: list[bytes]) -> Deferred[bytes]:
        if len(arguments) > 3:
            raise RedisError(SYNTAX_ERROR)
        user, password = arguments[1:] if len(arguments) == 3 else (_DEFAULT_USER, arguments[1])
        return self._log_in(caller, user, password).addCallback(lambda _: resp.OK)

    def _log_in(self, caller: RespCaller, user: bytes, password: bytes) -> Deferred[None]:
        """Admit the client, or fail with RedisError.

        The user ``default``, which clients send if they only have a password, means the configured
        user. A token is accepted as the password of any user.
        """
        credentials = self._credentials
        if credentials.accepts_token(password):
            checked = succeed(True)
        else:
            if user == _DEFAULT_USER:
                user = credentials.username.encode()
            checked = credentials.verify(user, password, caller.connection.host)

        def conclude(right: bool) -> None:
            if not right:
                raise RedisError(_WRONG_PASSWORD, "auth_failed")
            caller.admit()

        return checked.addCallback(conclude)

    def quit(self, caller: RespCaller, arguments: list[bytes]) -> bytes:
        raise Disconnect(resp.OK)

    def reset(self, caller: RespCaller, arguments: list[bytes]) -> bytes:
        caller.reset()
        return resp.simple("RESET")

    def select(self, caller: RespCaller, arguments: list[bytes]) -> bytes:
        number = integer(arguments[1], "ERR invalid DB index")
        if caller.watched and number != caller.connection.database:
            # The watched states belong to one database.
            raise RedisError("ERR SELECT after WATCH is not supported; send UNWATCH before it")
        try:
            caller.select(number)
        except InvalidDatabase as error:
            raise RedisError("ERR DB index is out of range", error.code) from None
        return resp.OK

    def client(self, caller: RespCaller, arguments: list[bytes]) -> Reply:
        name = arguments[1].upper()
        connection = caller.connection
        match name, len(arguments):
            case b"ID", 2:
                return resp.integer(connection.id)
            case b"GETNAME", 2:
                return resp.value(connection.name or None, caller.resp)
            case b"SETNAME", 3:
                connection.name = _checked_name(arguments[2])
                return resp.OK
            case b"SETINFO", 4:
                return self._set_library(connection, arguments[2].upper(), arguments[3])
            case b"INFO", 2:
                return resp.verbatim(self._described(caller, connection) + "\n", caller.resp)
            case b"LIST", _:
                return self._list(caller, self._listed(arguments[2:]))
            case b"KILL", _:
                return self._kill(caller, arguments[2:])
            case ((b"NO-EVICT" | b"NO-TOUCH"), 3):
                if arguments[2].lower() not in (b"on", b"off"):
                    raise RedisError(SYNTAX_ERROR)
                return resp.OK
            case b"TRACKING", _:
                raise RedisError(
                    "ERR CLIENT TRACKING is not supported; let entries expire, or look them up"
                )
        raise RedisError(
            f"ERR unknown subcommand or wrong number of arguments for '{shown(arguments[1])}'. "
            "There are CLIENT ID, GETNAME, SETNAME, SETINFO, INFO, LIST, KILL, NO-EVICT and "
            "NO-TOUCH."
        )

    @staticmethod
    def _set_library(connection: Connection, what: bytes, text: bytes) -> bytes:
        if what == b"LIB-NAME":
            connection.library = (_checked_name(text), connection.library[1])
        elif what == b"LIB-VER":
            connection.library = (connection.library[0], _checked_name(text))
        else:
            raise RedisError("ERR Unrecognized option")
        return resp.OK

    def _listed(self, arguments: list[bytes]) -> list[Connection]:
        """Return the connections for ``CLIENT LIST [TYPE type|ID id [id ...]]``."""
        option = arguments[0].upper() if arguments else b""
        if option == b"ID" and len(arguments) > 1:
            ids = {integer(each, "ERR Invalid client ID") for each in arguments[1:]}
            return [found for id in ids if (found := self._connections.get(id)) is not None]
        if option and (option != b"TYPE" or len(arguments) != 2):
            raise RedisError(SYNTAX_ERROR)
        kind = arguments[1].lower() if option else b"normal"
        if kind not in _CLIENT_TYPES:
            raise RedisError("ERR Unknown client type")
        return list(self._connections) if kind == b"normal" else []

    def _list(self, caller: RespCaller, connections: list[Connection]) -> Reply:
        lines: list[str] = []

        def work() -> Generator[None, None, bytes]:
            for connection in connections:
                lines.append(self._described(caller, connection) + "\n")
                yield
            return resp.verbatim("".join(lines), caller.resp)

        return caller.run_work(work())

    def _described(self, caller: RespCaller, connection: Connection) -> str:
        now = self._connections.monotonic()
        library, version = (each.decode("utf-8", "replace") for each in connection.library)
        verb = connection.last_verb.decode("latin-1").lower()
        return (
            f"id={connection.id} addr={connection.peer} "
            f"name={connection.name.decode('utf-8', 'replace')} "
            f"age={int(now - connection.opened)} idle={int(now - connection.last_active)} "
            f"flags=N db={connection.database} sub=0 psub=0 multi=-1 "
            f"tot-mem={connection.held_bytes} cmd={verb or 'NULL'} user=default "
            f"listener={connection.listener} lib-name={library} lib-ver={version}"
        )

    def _kill(self, caller: RespCaller, arguments: list[bytes]) -> bytes:
        if len(arguments) == 1:
            if not self._kill_one(caller, b"ADDR", arguments[0], skip_me=False):
                raise RedisError("ERR No such client")
            return resp.OK
        if len(arguments) % 2:
            raise RedisError(_CLIENT_ERROR)
        words = (word.upper() for word in arguments[::2])
        filters = dict(zip(words, arguments[1::2], strict=True))
        skip_me = filters.pop(b"SKIPME", b"yes").lower() != b"no"
        if len(filters) != 1 or not filters.keys() <= {b"ID", b"ADDR"}:
            raise RedisError(_CLIENT_ERROR)
        [(what, value)] = filters.items()
        return resp.integer(self._kill_one(caller, what, value, skip_me))

    def _kill_one(self, caller: RespCaller, what: bytes, value: bytes, skip_me: bool) -> int:
        """Close the connection with this ID or ADDR; return how many were closed, 0 or 1.

        Raises Disconnect if it is the caller's own.
        """
        if what == b"ID":
            number = integer(value, "ERR client-id should be greater than 0")
            connection = self._connections.get(number)
        else:
            address = shown(value)
            connection = next((each for each in self._connections if each.peer == address), None)
        if connection is None or (skip_me and connection is caller.connection):
            return 0
        if connection is caller.connection:
            raise Disconnect(resp.ONE)
        connection.hang_up()
        return 1


def _checked_name(name: bytes) -> bytes:
    if len(name) > 128:
        raise RedisError("ERR the name of a client has 128 bytes at most")
    if not all(0x21 <= char <= 0x7E for char in name):
        raise RedisError("ERR Client names cannot contain spaces, newlines or special characters.")
    return name


def ping(caller: RespCaller, arguments: list[bytes]) -> bytes:
    if len(arguments) > 2:
        raise RedisError("ERR wrong number of arguments for 'ping' command")
    return resp.bulk(arguments[1]) if len(arguments) == 2 else resp.PONG


def echo(caller: RespCaller, arguments: list[bytes]) -> bytes:
    return resp.bulk(arguments[1])
