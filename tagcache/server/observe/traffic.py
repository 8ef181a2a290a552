"""Counts all requests of clients, and times a sample of them."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.server.observe.log_throttle import LogThrottle

MOST_SLOW = 256
# How much of a path, a key or a tag the slow log shows.
_MOST_ARGUMENT_BYTES = 128
# How many chunks are timed for the histograms after each tick; on a quiet server, that is all.
TIMED_A_TICK = 64
# So many of them may be requests over HTTP that the native core answered.
_HTTP_TIMED = TIMED_A_TICK // 4
# The labels of the routes that it answers, by its verbs.
NATIVE_ROUTES = {b"GET": "GET /get/{key}", b"POST": "POST /put"}
# These commands hash a password in a thread, which is slow on purpose.
_HASHING = frozenset(
    {"auth", "POST /auth/login", "POST /auth/change_password", "POST /auth/rotate"}
)
# Upper bounds in seconds.
BUCKETS = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025),
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
MIXED = "mixed"
UNKNOWN = "unknown"

log = Logger(namespace="tagcache.slow")


class Histogram:
    """Durations in seconds: the count in each of BUCKETS, and beyond the last."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


def quantile(counts: list[int], share: float) -> float | None:
    """Return the duration in seconds that ``share`` of all did not exceed; None if there are none.

    The result is interpolated linearly within its bucket.
    """
    total = sum(counts)
    if not total:
        return None
    wanted = share * total
    below = 0.0
    for bound, count in zip(BUCKETS, counts, strict=False):
        if count >= wanted:
            return below + (bound - below) * wanted / count
        wanted -= count
        below = bound
    return below


@dataclass(frozen=True, slots=True)
class Slow:
    """One entry of the slow log.

    ``time`` is when it ended, in seconds since 1970; ``command`` is a verb, or method and path;
    ``commands`` is how many were answered together, which took ``duration_ms`` in total;
    ``argument`` is the first argument, truncated, if there was one command.
    """

    id: int
    time: float
    duration_ms: float
    command: str
    commands: int
    argument: str | None
    peer: str

    def describe(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return {
            "id": self.id,
            "time": self.time,
            "duration_ms": self.duration_ms,
            "command": self.command,
            "commands": self.commands,
            "argument": self.argument,
            "peer": self.peer,
        }


class Traffic:
    """Counts of all commands, a sample of their durations, and all slow ones.

    Attributes:
        verbs: the number of commands on the cache port, by verb as the client spelled it.
        routes: the number of HTTP requests, by method and path of the route.
        errors: the number of refused commands, by error word.
        failed_requests: the number of HTTP requests with a status of 400 or higher, by status.
        above: callers record only durations of at least this many seconds; for nearly all
            requests, this comparison is the only cost.
        histograms: sampled durations by command.

    ``catch_up`` is called before counts are read. ``pump`` is the pump of the native core, which
    times the requests that it answers; None if there is none.
    """

    def __init__(
        self,
        settings: Settings,
        wall: Callable[[], float] = time.time,
        on_slow: Callable[[Slow], object] = lambda slow: None,
        catch_up: Callable[[], None] = lambda: None,
        pump: Any = None,
    ) -> None:
        self._wall = wall
        self.verbs: defaultdict[bytes, int] = defaultdict(int, {b"unknown": 0})
        self.routes: defaultdict[str, int] = defaultdict(int, {UNKNOWN: 0})
        self.errors: Counter[str] = Counter()
        self.failed_requests: Counter[int] = Counter()
        self.histograms: dict[str, Histogram] = {}
        self.slow_total = 0
        self._on_slow = on_slow
        self._catch_up = catch_up
        self._pump = pump
        self._slow: deque[Slow] = deque(maxlen=MOST_SLOW)
        self._log_throttle = LogThrottle(1.0)
        self._left = 0
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take a new threshold."""
        self.slow_ms = settings.logging.slow_command_ms
        self._slow_seconds = self.slow_ms / 1000 if self.slow_ms else float("inf")
        if self._pump is not None:
            self._pump.slow_seconds = self._slow_seconds
        self.above = 0.0 if self._left else self._slow_seconds

    def know_verbs(self, verbs: Iterable[bytes]) -> None:
        """List these verbs in the counts, starting at 0."""
        for verb in verbs:
            self.verbs.setdefault(verb, 0)

    def know_routes(self, labels: Iterable[str]) -> None:
        """List these routes in the counts, starting at 0."""
        for label in labels:
            self.routes.setdefault(label, 0)

    def tick(self) -> None:
        """Start the next sample; called a few times a second."""
        self._left = TIMED_A_TICK
        self.above = 0.0
        if self._pump is not None:
            for verb, seconds in self._pump.take_durations(_HTTP_TIMED, True):
                self.took(seconds, NATIVE_ROUTES[verb], 1, None, "")
            for verb, seconds in self._pump.take_durations(TIMED_A_TICK):
                self.took(seconds, verb.decode().lower(), 1, None, "")

    def commands(self) -> dict[str, int]:
        """Return the number of commands by verb, in lower case."""
        self._catch_up()
        counts: dict[str, int] = {}
        for verb, count in self.verbs.items():
            name = verb.decode().lower()
            counts[name] = counts.get(name, 0) + count
        return counts

    def describe(self) -> dict[str, Any]:
        """Return the counts since the start as a JSON object, without zeros."""
        return {
            "commands": _without_zeros(self.commands()),
            "requests": _without_zeros(self.routes),
            "errors": dict(self.errors),
            "failed_requests": {str(status): n for status, n in self.failed_requests.items()},
        }

    def took(
        self, seconds: float, command: str, commands: int, argument: bytes | None, peer: str
    ) -> None:
        """Record how long ``commands`` took together, until the reply was written."""
        if self._left:
            self._left -= 1
            if not self._left:
                self.above = self._slow_seconds
            histogram = self.histograms.get(command)
            if histogram is None:
                histogram = self.histograms[command] = Histogram()
            histogram.add(seconds)
        if seconds >= self._slow_seconds and command not in _HASHING:
            self._note_slow(seconds, command, commands, argument, peer)

    def slow(self, count: int = MOST_SLOW) -> list[Slow]:
        """Return the slow commands, at most ``count``, newest first."""
        return list(self._slow)[: -count - 1 : -1] if count else []

    def forget_slow(self) -> None:
        """Empty the list of slow commands."""
        self._slow.clear()

    def _note_slow(
        self, seconds: float, command: str, commands: int, argument: bytes | None, peer: str
    ) -> None:
        self.slow_total += 1
        shown = (
            None if argument is None else argument[:_MOST_ARGUMENT_BYTES].decode("utf-8", "replace")
        )
        slow = Slow(
            self.slow_total,
            round(self._wall(), 3),
            round(seconds * 1000, 3),
            command,
            commands,
            shown,
            peer,
        )
        self._slow.append(slow)
        self._on_slow(slow)
        more = self._log_throttle.now()
        if more is not None:
            log.info(
                "slow: {command} from {peer} took {ms} ms{more}",
                command=command,
                peer=peer,
                ms=slow.duration_ms,
                more=more,
            )


def _without_zeros(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}
