"""RESP on a connection: one reply to each array of bulk strings."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from zope.interface import implementer

from tagcache.errors import AuthenticationRequired, CommandError, MalformedRequest
from tagcache.native import Dialect, NativeAnswers
from tagcache.server.cache_port.framing import PIECE, BrokenFraming, IFraming
from tagcache.server.commands.resp.strings import plain_options
from tagcache.server.commands.resp.table import (
    MAX_ARGUMENTS,
    ONE_KEY,
    RedisError,
    error_reply,
    shown,
)
from tagcache.server.commands.resp.tags import plain_tag_options
from tagcache.server.commands.resp.transactions import IMMEDIATE
from tagcache.server.commands.table import Reply
from tagcache.server.resp.caller import RespCaller
from tagcache.server.resp.commands import RespTable
from tagcache.wire import resp
from tagcache.wire.resp_requests import RequestBuffer, only_gets

if TYPE_CHECKING:
    from tagcache.server.cache_port.protocol import CacheProtocol

# The longest request with several values, and the longest argument. A request with a single value
# may be as long as a line. Copying longer arguments would block other clients.
_MAX_BYTES = 128 * 2**20
_MAX_ARGUMENT_BYTES = 16 * 2**20
_COUNTERS = (b"INCR", b"DECR", b"INCRBY", b"DECRBY")
_LIFETIMES = (b"TOUCH", b"EXPIRE", b"PEXPIRE", b"TTL", b"PTTL", b"EXISTS")
_VERBS = (b"GET", b"SET", b"TAG.SET", b"MGET", *_COUNTERS, b"DEL", b"TAG.FETCH", *_LIFETIMES)
_NATIVE_2 = NativeAnswers(Dialect.RESP2, _VERBS, plain_options, plain_tag_options)
_NATIVE_3 = NativeAnswers(Dialect.RESP3, _VERBS, plain_options, plain_tag_options)
# Commands whose arguments may be secrets.
_SECRET = frozenset((b"AUTH", b"HELLO"))


@implementer(IFraming)
class RespFraming:
    """An IFraming whose requests are lists of arguments, the verb first."""

    too_long = resp.error("ERR Protocol error: unauthenticated bulk length")

    def __init__(
        self, protocol: CacheProtocol, table: RespTable, max_length: int, wall: Callable[[], float]
    ) -> None:
        self._protocol = protocol
        self._table = table
        self._caller = RespCaller(protocol, table.supported, lambda: int(wall() * 1000))
        self.admission_changed()
        self._requests = RequestBuffer(*_limits(max_length))
        self._max_length = max_length

    @property
    def max_length(self) -> int:
        """The longest request with a single value, in bytes."""
        return self._max_length

    @max_length.setter
    def max_length(self, length: int) -> None:
        self._max_length = length
        self._requests.use_limits(*_limits(length))

    @property
    def partial_bytes(self) -> int:
        """The memory of the request that is not complete yet."""
        return self._requests.partial

    @property
    def held_bytes(self) -> int:
        """The memory of the incomplete request, and of what MULTI and WATCH keep."""
        caller = self._caller
        transaction = 0 if caller.transaction is None else caller.transaction.held_bytes
        return self._requests.partial + caller.watched_bytes + transaction

    def admission_changed(self) -> None:
        table = self._table
        self._commands = table.everything if self._protocol.admitted else table.before_login

    def lost(self) -> None:
        del self._protocol, self._caller

    def feed(self, data: bytes) -> list[list[bytes]]:
        try:
            return self._requests.feed(data)
        except MalformedRequest as error:
            raise _broken(error) from None

    def take_fast(self, data: bytes) -> bool:
        protocol = self._protocol
        store = protocol.store
        caller = self._caller
        if store is not None and caller.transaction is None:
            keys = only_gets(data)
            if keys is not None:
                if len(keys) == 1:
                    protocol.get_one(store, keys[0], resp.bulk, resp.null(caller.resp))
                else:
                    protocol.get_many(store, keys, self._values, _get)
                return True
        if len(data) > PIECE:
            return False
        try:
            requests = self._requests.feed(data)
        except MalformedRequest as error:
            protocol.take_requests(error.requests, len(data), _broken(error))
            return True
        keeps = caller.transaction is not None or caller.watched_bytes
        if len(requests) == 1 and not keeps and not self._requests.partial:
            protocol.execute_one(requests[0])
            if caller.watched_bytes:
                # Record the memory of the watched keys.
                protocol.run()
        else:
            protocol.take_requests(requests, len(data))
        return True

    @property
    def native(self) -> NativeAnswers | None:
        """What the native core may answer now; nothing while MULTI queues requests."""
        caller = self._caller
        if caller.transaction is not None:
            return None
        return _NATIVE_2 if caller.resp == 2 else _NATIVE_3

    def _values(self, values: list[bytes | None]) -> bytes:
        """Return the replies to several look-ups."""
        return resp.replies(values, self._caller.resp)

    def execute(self, arguments: list[bytes]) -> Reply:
        verb = arguments[0].upper()
        command = self._commands.get(verb)
        caller = self._caller
        count = len(arguments)
        if command is None or (
            command.arity != count and not 0 < -command.arity <= count <= command.most
        ):
            self._protocol.count(verb if command is not None else b"unknown")
            if caller.transaction is not None:
                caller.transaction.refused = True
            raise self._refusal(verb, command is not None)
        self._protocol.count(verb)
        if caller.transaction is not None and verb not in IMMEDIATE:
            try:
                if command.refused:
                    return command.run(caller, arguments)
                return caller.transaction.queue(command, arguments)
            except RedisError:
                caller.transaction.refused = True
                raise
        return command.run(caller, arguments)

    def _refusal(self, verb: bytes, known: bool) -> CommandError:
        if not self._protocol.admitted and verb in self._table.everything:
            return AuthenticationRequired()
        name = shown(verb).lower()
        if known:
            return RedisError(f"ERR wrong number of arguments for '{name}' command")
        return RedisError(f"ERR unknown command '{name}'", "unknown_command")

    def concerns_one_key(self, arguments: list[bytes]) -> bool:
        command = self._commands.get(arguments[0].upper())
        if command is None or self._caller.transaction is not None:
            return False
        return command.keys == ONE_KEY and not command.alone

    def error(self, error: CommandError) -> bytes:
        return error_reply(error)

    def summary(self, arguments: list[bytes]) -> tuple[bytes, bytes | None]:
        verb = arguments[0].upper()
        if verb not in self._commands:
            return b"unknown", None
        shown = None if verb in _SECRET or len(arguments) < 2 else arguments[1]
        return verb, shown


def _limits(max_length: int) -> tuple[int, int, int]:
    """Return the limits of a RequestBuffer."""
    return max(max_length, _MAX_BYTES), MAX_ARGUMENTS, max(max_length, _MAX_ARGUMENT_BYTES)


def _broken(error: MalformedRequest) -> BrokenFraming:
    return BrokenFraming(error.requests, resp.error(f"ERR {error}"))


def _get(key: bytes) -> list[bytes]:
    return [b"GET", key]
