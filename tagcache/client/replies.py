"""Parse the replies of the server from a stream of bytes, and convert them. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from tagcache.errors import AuthenticationFailed, ConnectionFailed, Refused, UnexpectedReply
from tagcache.wire.resp_replies import ErrorReply, ReplyReader, only_string

# Each stretch of this many bytes of a reply restarts the timeout, as a reply does.
_STRETCH = 1024 * 1024
_MOST_REFUSAL = 1024
# The codes of errors that the server sends in the words of Redis.
_CODES = {
    "NOAUTH": "auth_required",
    "WRONGPASS": "auth_failed",
    "OOM": "out_of_memory",
    "ERR DB index is out of range": "invalid_db",
    "ERR value is not an integer or out of range": "value is not an integer",
    "ERR increment or decrement would overflow": "integer overflow",
}
_OURS = re.compile(r"ERR ([a-z][a-z0-9_]*)(?:: (.*))?", re.DOTALL)
# The server closes the connection after these replies.
_CLOSING = ("ERR Protocol error", "ERR max_connections")


class Replies:
    """Parses the replies on one connection from chunks; ``expect`` begins an exchange.

    ``progress`` grows with every reply, and with every mebibyte of a long one.
    """

    __slots__ = ("_bytes", "_count", "_found", "_reader", "_refusal")

    def __init__(self) -> None:
        self._reader = ReplyReader()
        # A full server refuses the connection with a line of text, because it does not know the
        # protocol yet. None once something else has arrived.
        self._refusal: bytes | None = b""
        self.expect(0)

    def expect(self, count: int) -> None:
        """Collect ``count`` replies from the next chunk on."""
        self._count = count
        self._found: list[Any] = []
        self._bytes = 0

    @property
    def progress(self) -> int:
        return len(self._found) + self._bytes // _STRETCH

    def feed(self, chunk: bytes) -> list[Any] | None:
        """Add a chunk; return the replies once all have arrived.

        Raises UnexpectedReply if there are more than expected, or if this is not RESP.
        """
        if self._count == 1 and not self._bytes and (string := only_string(chunk)) is not None:
            self._bytes = 1
            return [string]
        if self._refusal is not None:
            if self._refusal or chunk.startswith(b"E"):
                return self._feed_refusal(self._refusal + chunk)
            self._refusal = None
        try:
            found = self._reader.feed(chunk)
        except UnexpectedReply:
            raise UnexpectedReply(f"this is not a reply to the request: {chunk[:80]!r}") from None
        self._bytes += len(chunk)
        self._found += found
        found = self._found
        missing = self._count - len(found)
        if missing < 0 or (not missing and not self._reader.is_empty):
            raise UnexpectedReply("the server sent more replies than there were requests")
        return None if missing else found

    def _feed_refusal(self, line: bytes) -> list[Any] | None:
        """Read what has arrived of the line with which a server refuses the connection."""
        self._refusal = line
        if b"\n" not in line and len(line) <= _MOST_REFUSAL:
            return None
        if not line.startswith(b"ERR ") or not line.endswith(b"\n"):
            raise UnexpectedReply(f"this is not a reply to the request: {line[:80]!r}")
        return [ErrorReply(line.decode("ascii", "replace").strip())] * self._count


def read_value(reply: Any) -> bytes | None:
    """Return the value in a reply, or None if there is none."""
    if reply is None or type(reply) is bytes:
        return reply
    raise error_in(reply)


def read_integer(reply: Any) -> int:
    """Return the integer in a reply."""
    if type(reply) is int:
        return reply
    raise error_in(reply)


def read_list(reply: Any) -> list[Any]:
    """Return the list in a reply."""
    if type(reply) is list:
        return reply
    raise error_in(reply)


def read_json(reply: Any) -> Any:
    """Return the content of a reply that is JSON."""
    if type(reply) is bytes:
        return json.loads(reply)
    raise error_in(reply)


def is_word(word: bytes, absent: bool = False) -> Callable[[Any], bool]:
    """Return a function that tells whether a reply is ``word``; with ``absent``, or null."""

    def read(reply: Any) -> bool:
        if reply == word:
            return True
        if absent and reply is None:
            return False
        raise error_in(reply)

    return read


def closes(reply: Any) -> bool:
    """Return whether the server closes the connection after this reply."""
    return isinstance(reply, ErrorReply) and reply.message.startswith(_CLOSING)


def error_in(reply: Any) -> AuthenticationFailed | ConnectionFailed | Refused | UnexpectedReply:
    """Return the error to raise for a reply that is not a result."""
    if not isinstance(reply, ErrorReply):
        return UnexpectedReply(f"this is not a reply to the request: {str(reply)[:80]}")
    code, detail = _code_of(reply.message)
    if code in ("auth_required", "auth_failed"):
        return AuthenticationFailed(f"the server said: {code}")
    if code in ("max_connections", "backend_unavailable"):
        return ConnectionFailed(f"the server said: {code}")
    return Refused(code, detail)


def _code_of(message: str) -> tuple[str, str]:
    """Return the code and the detail of an error; the code of an unknown one is ``bad_request``."""
    code = _CODES.get(message) or _CODES.get(message.partition(" ")[0])
    if code is not None:
        return code, ""
    ours = _OURS.fullmatch(message)
    return (ours[1], ours[2] or "") if ours else ("bad_request", message)
