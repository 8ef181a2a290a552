"""Pending replies, in the order of their requests."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

# Replies are sent together up to this many bytes.
MOST_AT_ONCE = 256 * 1024
# How many requests of one client may be in progress: before its first reply, and the minimum and
# maximum after it; and how many bytes their replies may have, judged by the last replies.
_FIRST_UNDER_WAY = 64
_FEWEST_UNDER_WAY = 8
_MOST_UNDER_WAY = 1000
_MUCH_TO_COME = 4 * 2**20


class Slot:
    """A request, its time of arrival in seconds, and its reply (None while it is pending).

    ``queued`` is false until the slot is in the queue: before that, its reply can be sent at once.
    """

    __slots__ = ("queued", "reply", "request", "since")

    def __init__(self, request: Any, since: float) -> None:
        self.request = request
        self.since = since
        self.reply: Any = None
        self.queued = False


class ReplyQueue:
    """The requests of one client in progress, and the replies that wait for earlier ones.

    A request is executed alone, when all earlier ones have ended and before any later one begins;
    or pipelined, together with other pipelined ones. ``size`` returns the length of a reply in
    bytes.

    Attributes:
        slots: the requests, in order.
        alone: the pending request that is executed alone, to be cancelled with the connection.
        held_bytes: the length in bytes of all replies that wait.
    """

    __slots__ = (
        "_arrived_bytes",
        "_limit",
        "_size",
        "_unanswered",
        "alone",
        "held_bytes",
        "slots",
    )

    def __init__(self, size: Callable[[Any], int]) -> None:
        self._size = size
        self.slots: deque[Slot] = deque()
        self._unanswered = 0
        self.alone: Deferred[Any] | None = None
        self._limit = _FIRST_UNDER_WAY
        self.held_bytes = 0
        # The length of the replies that arrived since the last ``take``.
        self._arrived_bytes = 0

    def admits(self, pipelined: bool) -> bool:
        """Return whether another request may be executed now."""
        slots = self.slots
        return not slots or (pipelined and self.alone is None and len(slots) < self._limit)

    def wait(self, slot: Slot, alone: Deferred[Any] | None) -> None:
        """Add a pending request; ``alone`` is its Deferred if it is executed alone."""
        slot.queued = True
        self.slots.append(slot)
        self._unanswered += 1
        self.alone = alone

    def put(self, request: Any, reply: Any) -> None:
        """Add a request that already has its reply, behind the pending ones."""
        slot = Slot(request, 0.0)
        slot.reply = reply
        self.slots.append(slot)
        self.held_bytes += self._size(reply)

    def arrived(self, slot: Slot) -> None:
        """Record that the reply to a request has arrived."""
        self.alone = None
        self._unanswered -= 1
        size = self._size(slot.reply)
        self.held_bytes += size
        self._arrived_bytes += size

    @property
    def due(self) -> bool:
        """Whether replies should be sent now, without waiting for more."""
        return not self._unanswered or self._arrived_bytes > MOST_AT_ONCE

    def is_next(self, slot: Slot) -> bool:
        """Return whether the reply to this request is the next to send."""
        return bool(self.slots) and self.slots[0] is slot

    def take(self) -> list[Slot]:
        """Remove and return, in order, the requests whose replies can be sent in one write."""
        slots = self.slots
        self._arrived_bytes = 0
        taken: list[Slot] = []
        size = 0
        while slots and slots[0].reply is not None and size <= MOST_AT_ONCE:
            slot = slots.popleft()
            taken.append(slot)
            size += self._size(slot.reply)
        if taken:
            self.held_bytes -= size
            fitting = _MUCH_TO_COME * len(taken) // max(size, 1)
            self._limit = min(max(fitting, _FEWEST_UNDER_WAY), _MOST_UNDER_WAY)
        return taken

    def abandon(self) -> None:
        """Forget everything: the client has disconnected."""
        self.slots.clear()
        self.held_bytes = 0
        alone, self.alone = self.alone, None
        if alone is not None:
            alone.cancel()
