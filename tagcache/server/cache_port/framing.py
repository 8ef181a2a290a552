"""The interface between a connection of the cache port and the protocol of its client."""

from __future__ import annotations

from typing import Any

from zope.interface import Attribute, Interface

from tagcache.errors import CommandError
from tagcache.native import NativeAnswers
from tagcache.server.commands.table import Reply

# The most bytes that are split into requests at once.
PIECE = 64 * 1024


class IFraming(Interface):
    """Requests and replies of one protocol, for one connection.

    A request is what ``feed`` returns; the connection executes requests in order.
    """

    max_length: int = Attribute("The longest request that is accepted, in bytes.")
    too_long: bytes = Attribute("The closing reply to a request that is too long.")
    partial_bytes: int = Attribute("The memory of the request that is not complete yet, in bytes.")
    held_bytes: int = Attribute("``partial_bytes``, and the memory of queued requests, in bytes.")

    native: NativeAnswers | None = Attribute("What the native core may answer now; None: nothing.")

    def feed(data: bytes) -> list[Any]:
        """Return the requests that ``data`` completes; empty ones are ignored.

        Raises BrokenFraming.
        """

    def take_fast(data: bytes) -> bool:
        """Execute ``data`` if it is an ordinary chunk of complete requests; return whether it was.

        This is a fast path: it has the same effect as ``feed`` and ``execute``.
        """

    def execute(request: Any) -> Reply:
        """Execute a request; return its reply, or a Deferred of it. Raises Disconnect."""

    def concerns_one_key(request: Any) -> bool:
        """Return whether a request concerns one key, so that the engine keeps its order."""

    def error(error: CommandError) -> bytes:
        """Return the reply to a request that failed."""

    def summary(request: Any) -> tuple[bytes, bytes | None]:
        """Return the verb of a request and its first argument, for the slow log.

        The argument is None if there is none, or if it may be a secret.
        """

    def admission_changed() -> None:
        """Accept the commands that the client may use now."""

    def lost() -> None:
        """Release the lost connection; only ``error`` may be called after that."""


class BrokenFraming(Exception):
    """Raised by a framing that has lost the boundaries of requests.

    ``requests`` (list) are complete requests from before; ``reply`` (bytes) is sent before the
    connection closes.
    """

    def __init__(self, requests: list[Any], reply: bytes) -> None:
        super().__init__(reply)
        self.requests = requests
        self.reply = reply
