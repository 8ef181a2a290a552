"""The line protocol before a remote engine: many commands under way, replies in order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from tagcache.server.protocol import MOST_AT_ONCE, CacheProtocol, Verbs
from tagcache.server.rates import Rates
from tagcache.server.serving import ServingFactory
from tagcache.server.traffic import Traffic

# Commands of one client that may be under way.
_MOST_UNDER_WAY = 1000
_MOST_LEASES = 1024
# What concerns one key: the engine keeps the order of these by itself. All others wait for what
# came before, and what comes after waits for them.
_ORDERED = frozenset((b"GET", b"PUT", b"ADD", b"INCR", b"DECR", b"TOUCH", b"DEL"))


class _Slot:
    """A command under way, when it came, and its reply: empty until it is there."""

    __slots__ = ("line", "reply", "since")

    def __init__(self, line: bytes, since: float, reply: bytes = b"") -> None:
        self.line = line
        self.since = since
        self.reply = reply


class PipelinedProtocol(CacheProtocol):
    """One client; its commands travel to the engine without waiting for each other.

    ``leases`` are the look-ups of this client that found nothing: by key, what came with them. A
    command that ends a lease ends that of a look-up still under way, too.
    """

    def __init__(
        self,
        factory: ServingFactory,
        verbs: Verbs,
        max_line_length: int,
        rates: Rates,
        traffic: Traffic,
    ) -> None:
        super().__init__(factory, verbs, max_line_length, rates, traffic)
        self.leases: OrderedDict[bytes, int] = OrderedDict()
        # By key, the number of its last look-up under way whose lease has not ended.
        self._looking_up: dict[bytes, int] = {}
        self._look_ups = 0
        # The commands under way, in order, and how many of them have no reply yet.
        self._slots: deque[_Slot] = deque()
        self._unanswered = 0
        # Bytes of replies that came since some were sent.
        self._held = 0
        # Sends the replies that are there.
        self._soon: IDelayedCall | None = None
        # Stands for all of them.
        self._under_way: Deferred[bytes] = Deferred()

    def begin_look_up(self, key: bytes) -> int:
        """Note that a key is looked up; returns what ``end_look_up`` is to be given."""
        self._look_ups += 1
        self._looking_up[key] = self._look_ups
        return self._look_ups

    def end_look_up(self, key: bytes, number: int, lease: int | None = None) -> None:
        """Note that a look-up is over; with ``lease`` the client may now compute what it missed."""
        if self._looking_up.get(key) != number:
            return
        del self._looking_up[key]
        if lease is None:
            return
        self.leases.pop(key, None)
        self.leases[key] = lease
        if len(self.leases) > _MOST_LEASES:
            self.leases.popitem(last=False)

    def take_lease(self, key: bytes) -> int | None:
        """Return the lease for a key, and end it."""
        self._looking_up.pop(key, None)
        return self.leases.pop(key, None)

    def end_leases(self) -> None:
        """End the leases of all keys."""
        self._looking_up.clear()
        self.leases.clear()

    def _execute_one(self, line: bytes) -> None:
        self._execute([line])

    def _take(self, lines: list[bytes]) -> None:
        if self._pending is None or (self._slots and not self._queued):
            self._execute(lines)
        else:
            self._queued += lines

    def _execute(self, lines: list[bytes]) -> None:
        for number, line in enumerate(lines):
            if not line:
                continue
            fields = line.split(b"\t", 4)
            verb = fields[0].upper()
            ordered = verb in _ORDERED and verb in self._verbs and not self._rates.limited
            if self._slots and (not ordered or len(self._slots) >= _MOST_UNDER_WAY):
                self._wait(lines[number:])
                return
            if ordered:
                self._count(1, fields)
                self._count_run(verb, 1)
                self._start(line, fields, verb)
            else:
                super()._execute([line])
                if self._farewell is not None and self.finished:
                    return
                if self._pending is not None:
                    self._queued = lines[number + 1 :] + self._queued
                    return
            if self.dropped:
                return
        self._note_slots()

    def _start(self, line: bytes, fields: list[bytes], verb: bytes) -> None:
        try:
            reply = self._verbs[verb](self, fields)
        except Exception as error:
            reply = self._error(error, verb)
        if isinstance(reply, bytes):
            if self._slots:
                self._slots.append(_Slot(line, self.now, reply))
            else:
                self.send(reply)
            return
        slot = _Slot(line, self.now)
        self._slots.append(slot)
        self._unanswered += 1
        reply.addErrback(self._failed)
        reply.addCallback(self._arrived, slot)

    def _arrived(self, reply: bytes, slot: _Slot) -> None:
        slot.reply = reply
        took = self._monotonic() - slot.since
        if took >= self._traffic.above and not self.finished:
            self._note_line(slot.line, took)
        self._unanswered -= 1
        self._held += len(reply)
        if not self._unanswered or self._held > MOST_AT_ONCE:
            self._send_ready()
        elif self._soon is None and self._slots and self._slots[0] is slot:
            # Replies mostly come many at once, and then leave in one write.
            self._soon = self.factory.reactor.callLater(0, self._send_soon)

    def _send_soon(self) -> None:
        self._soon = None
        self._send_ready()

    def _send_ready(self) -> None:
        """Send the replies that nothing before them is missing of."""
        slots = self._slots
        self._held = 0
        ready: list[bytes] = []
        size = 0
        while slots and slots[0].reply and not self.finished:
            ready.append(slots.popleft().reply)
            size += len(ready[-1])
            if size > MOST_AT_ONCE:
                self._send(ready)
                ready, size = [], 0
        if self.finished:
            return
        self._send(ready)
        if not slots and self._pending is self._under_way:
            self._drained()

    def _note_slots(self) -> None:
        if self._slots and self._pending is None:
            self._pending = self._under_way
            self._look_around()

    def _wait(self, lines: Sequence[bytes]) -> None:
        """Go on with these when what is under way has been answered."""
        self._note_slots()
        self._queued = [*lines, *self._queued]
        self.transport.pauseProducing()

    def _drained(self) -> None:
        self._pending = None
        self.now = self._monotonic()
        queued, self._queued = self._queued, []
        self._execute(queued)
        self._look_around()
        self._carry_on()

    def _carry_on(self) -> None:
        if self._pending is None or (self._pending is self._under_way and not self._queued):
            self.transport.resumeProducing()
        if self._pending is None and self._farewell is not None and not self.finished:
            self.finish(self._farewell)

    def gone(self) -> None:
        self._slots.clear()
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._pending is self._under_way:
            self._pending = None
        super().gone()
