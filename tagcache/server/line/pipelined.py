"""The line protocol before a remote engine: many commands under way, replies in order."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from twisted.internet.interfaces import IDelayedCall

from tagcache.server.auth.rates import Rates
from tagcache.server.commands.table import Verbs
from tagcache.server.line.protocol import MOST_AT_ONCE, CacheProtocol
from tagcache.server.net.serving import AWAITING, BLOCKED, READY
from tagcache.server.observe.traffic import Traffic
from tagcache.server.upkeep.slices import SLICE_SECONDS

if TYPE_CHECKING:
    from tagcache.server.line.factory import CacheFactory

# How many commands of one client may be under way: before its first reply, and at least and at most
# after it; and how many bytes of replies they may bring, if these are as long as the last ones.
_FIRST_UNDER_WAY = 64
_FEWEST_UNDER_WAY = 8
_MOST_UNDER_WAY = 1000
_MUCH_TO_COME = 4 * 2**20


class _Slot:
    """A command, when it came, and its reply: empty until it is there.

    ``under_way`` is false until it is in the queue: before that, its reply may leave at once.
    """

    __slots__ = ("line", "reply", "since", "under_way")

    def __init__(self, line: bytes, since: float) -> None:
        self.line = line
        self.since = since
        self.reply = b""
        self.under_way = False


class PipelinedProtocol(CacheProtocol):
    """One client; its commands travel to the engine without waiting for each other."""

    def __init__(
        self,
        factory: CacheFactory,
        verbs: Verbs,
        max_line_length: int,
        rates: Rates,
        traffic: Traffic,
    ) -> None:
        super().__init__(factory, verbs, max_line_length, rates, traffic)
        # The commands under way, in order, and how many of them have no reply yet.
        self._slots: deque[_Slot] = deque()
        self._unanswered = 0
        self._most_under_way = _FIRST_UNDER_WAY
        # Bytes of replies that wait for those before them, and of those that came since some
        # were sent.
        self._held = self._came = 0
        # Sends the replies that are there.
        self._soon: IDelayedCall | None = None

    def held_bytes(self) -> int:
        return super().held_bytes() + self._held

    def run(self) -> None:
        if self.flow is READY:
            self._send_ready()
        super().run()

    def _is_busy(self) -> bool:
        return bool(self._slots) or super()._is_busy()

    def _execute_one(self, line: bytes) -> None:
        self._waiting.append(line)
        self._execute(self._waiting)
        self._look_around()

    def _execute(self, lines: deque[bytes]) -> None:
        end = self.now + SLICE_SECONDS
        while lines and self.flow is READY and not self.finished:
            line = lines.popleft()
            if not line:
                continue
            fields = line.split(b"\t", 4)
            verb = fields[0].upper()
            ordered = verb in self._understood.one_key and not self._rates.limited
            if self._slots and (not ordered or len(self._slots) >= self._most_under_way):
                # It goes on when what is under way has been answered.
                lines.appendleft(line)
                self.flow = AWAITING
                self.stop_reading()
            elif ordered:
                self.connection.commands += 1
                self.connection.last_verb = verb
                self._counts[verb] += 1
                self._start(line, fields, verb)
                if lines and self._monotonic() >= end and self.flow is READY:
                    self.end_turn()
            else:
                super()._execute(deque((line,)))

    def _start(self, line: bytes, fields: list[bytes], verb: bytes) -> None:
        slot = _Slot(line, self.now)
        try:
            reply = self._verbs[verb](self, fields)
        except Exception as error:
            reply = self._error(error, verb)
        if isinstance(reply, bytes):
            slot.reply = reply
        else:
            reply.addErrback(self._failed)
            reply.addCallback(self._arrived, slot)
        if slot.reply and not self._slots:
            self.send(slot.reply)
            return
        slot.under_way = True
        self._slots.append(slot)
        if slot.reply:
            self._held += len(slot.reply)
        else:
            self._unanswered += 1

    def _arrived(self, reply: bytes, slot: _Slot) -> None:
        slot.reply = reply
        if not slot.under_way or self.finished:
            return
        took = self._monotonic() - slot.since
        if took >= self._traffic.above:
            self._note_line(slot.line, took)
        self._unanswered -= 1
        self._held += len(reply)
        self._came += len(reply)
        if self.flow is BLOCKED:
            self.note_held()
        elif not self._unanswered or self._came > MOST_AT_ONCE:
            self._send_and_go_on()
        elif self._soon is None and self._slots and self._slots[0] is slot:
            # Replies mostly come many at once, and then leave in one write.
            self._soon = self.factory.reactor.callLater(0, self._send_soon)

    def _send_soon(self) -> None:
        self._soon = None
        self._send_and_go_on()

    def _send_and_go_on(self) -> None:
        """Send the replies that can leave in order, and execute what waits."""
        if self.finished:
            return
        self._send_ready()
        if self.flow is AWAITING and self._pending is None:
            self.ready()
        self._run_safely()

    def _send_ready(self) -> None:
        slots = self._slots
        self._came = 0
        sent = bytes_sent = 0
        ready: list[bytes] = []
        size = 0
        while slots and slots[0].reply and not self._replies.paused:
            reply = slots.popleft().reply
            ready.append(reply)
            size += len(reply)
            if size > MOST_AT_ONCE:
                self._send(ready)
                bytes_sent += size
                sent += len(ready)
                ready, size = [], 0
        self._send(ready)
        bytes_sent += size
        sent += len(ready)
        self._held -= bytes_sent
        if sent:
            fitting = _MUCH_TO_COME * sent // bytes_sent
            self._most_under_way = min(max(fitting, _FEWEST_UNDER_WAY), _MOST_UNDER_WAY)

    def gone(self) -> None:
        self._slots.clear()
        self._held = 0
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        super().gone()
