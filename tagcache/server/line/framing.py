"""The line protocol on a connection: one reply to each line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from tagcache.errors import CommandError, LineTooLong
from tagcache.native import Dialect, NativeAnswers
from tagcache.server.cache_port.framing import BrokenFraming, IFraming
from tagcache.server.commands.cache import plain_options
from tagcache.server.commands.table import CommandTable, Function, Reply, Verbs
from tagcache.server.net.listener import Rejection
from tagcache.server.observe.traffic import UNKNOWN
from tagcache.wire import line as wire

if TYPE_CHECKING:
    from tagcache.server.cache_port.protocol import CacheProtocol

# How many bytes of an incomplete first line are enough to recognise an HTTP method.
_METHOD_BYTES = 8
_NATIVE_VERBS = (b"GET", b"PUT", b"", b"", b"INCR", b"DECR", b"", b"", b"DEL", b"FETCH", b"TOUCH")
_NATIVE = NativeAnswers(Dialect.LINE, _NATIVE_VERBS, plain_options, plain_options)


@implementer(IFraming)
class LineFraming:
    """An IFraming whose requests are lines, without their ends."""

    too_long = wire.error("line_too_long")
    native = _NATIVE

    def __init__(self, protocol: CacheProtocol, table: CommandTable, max_length: int) -> None:
        self._protocol = protocol
        self._table = table
        self._lines = wire.LineBuffer(max_length)
        self._has_begun = False
        self.admission_changed()

    @property
    def max_length(self) -> int:
        """The longest line that is accepted, in bytes."""
        return self._lines.max_length

    @max_length.setter
    def max_length(self, length: int) -> None:
        self._lines.max_length = length

    @property
    def partial_bytes(self) -> int:
        """The length of the line that is not complete yet."""
        return len(self._lines.partial)

    @property
    def held_bytes(self) -> int:
        """The same as ``partial_bytes``: no complete request is kept."""
        return len(self._lines.partial)

    def use_verbs(self, verbs: Verbs) -> None:
        """Accept these verbs from the next request on."""
        self._understood = verbs
        self._verbs = verbs.commands

    def admission_changed(self) -> None:
        table = self._table
        self.use_verbs(table.everything if self._protocol.admitted else table.only_auth)

    def lost(self) -> None:
        del self._protocol

    def feed(self, data: bytes) -> list[bytes]:
        try:
            lines = self._lines.feed(data)
        except LineTooLong as error:
            self._refuse_other_protocol(error.lines)
            raise BrokenFraming(error.lines, self.too_long) from None
        if not self._has_begun:
            self._refuse_other_protocol(lines)
        return lines

    def _refuse_other_protocol(self, lines: list[bytes]) -> None:
        """Close, without executing anything, if the first request is HTTP or TLS.

        A page in a browser can send any lines to this port, but only after an HTTP request line or
        the start of a TLS handshake, which may contain bytes that the page has chosen.
        """
        if self._has_begun:
            return
        line = next(filter(None, lines), b"")
        self._has_begun = bool(line)
        if not line:
            line = bytes(self._lines.partial[:_METHOD_BYTES])
        refusal = Rejection.HTTP if wire.is_http(line) else Rejection.TLS
        if refusal is Rejection.HTTP or line.startswith(wire.TLS_HANDSHAKE):
            protocol = self._protocol
            protocol.factory.listener.refused(protocol.connection.peer, refusal)
            self._lines.clear()
            raise BrokenFraming([], b"")

    def take_fast(self, data: bytes) -> bool:
        protocol = self._protocol
        store = protocol.store
        if data[:4] == b"GET\t" and store is not None:
            keys = wire.only_gets(data)
            if keys is not None:
                if len(keys) == 1:
                    protocol.get_one(store, keys[0], wire.value, wire.NOT_FOUND)
                else:
                    protocol.get_many(store, keys, wire.values, _get)
                return True
        if not wire.is_one_line(data):
            return False
        if len(data) > 1:
            protocol.execute_one(data[:-1])
        return True

    def execute(self, line: bytes) -> Reply:
        fields = line.split(b"\t", 4)
        verb = fields[0]
        # An earlier command may have changed the accepted verbs.
        command = self._verbs.get(verb)
        if command is None:
            command, verb = self._look_again(verb)
        self._protocol.count(verb)
        return command(self._protocol, fields)

    def _look_again(self, verb: bytes) -> tuple[Function, bytes]:
        """Return the command for a verb in mixed case or an unknown verb, and the verb to count."""
        upper = verb.upper()
        command = self._verbs.get(upper)
        return (self._understood.otherwise, b"unknown") if command is None else (command, upper)

    def concerns_one_key(self, line: bytes) -> bool:
        return line.partition(b"\t")[0].upper() in self._understood.one_key

    def error(self, error: CommandError) -> bytes:
        return wire.error(error.code)

    def summary(self, line: bytes) -> tuple[bytes, bytes | None]:
        verb, _, rest = line.partition(b"\t")
        verb = verb.strip().upper()
        argument: bytes | None = rest.partition(b"\t")[0].rstrip(b"\r\n")
        if verb not in self._verbs:
            # This may be the end of a long line, or an unknown verb: never show it.
            last = self._protocol.connection.last_verb.upper()
            verb, argument = last if last in self._verbs else UNKNOWN.encode(), None
        if verb == b"AUTH" or not argument:
            argument = None
        return verb, argument


def _get(key: bytes) -> bytes:
    return b"GET\t" + key
