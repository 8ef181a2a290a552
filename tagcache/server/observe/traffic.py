"""What clients ask for, and how long that takes: counted always, timed in part."""

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
# How many chunks are timed for the histograms after each tick. On a quiet server that is all.
TIMED_A_TICK = 64
# They hash a password, which takes long on purpose, in a thread.
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
    """Durations in seconds: how many there were up to each of BUCKETS, and beyond the last."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


def quantile(counts: list[int], share: float) -> float | None:
    """Return what ``share`` of the durations were within, in seconds; None if there are none.

    It lies somewhere in a bucket, and is taken to lie in proportion.
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

    ``time`` is when it ended, in seconds since 1970; ``command`` a verb, or method and path;
    ``commands`` how many were answered together, which took ``duration_ms`` in all; ``argument``
    is the first one, cut, where there was one command.
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
    """Counts of commands, a sample of their durations, and the slow ones, all of them.

    Attributes:
        verbs: how many commands of the line protocol there were, by verb as it was spelt.
        routes: how many HTTP requests there were, by method and path of the route.
        errors: how many commands were refused, by the error's word.
        failed_requests: how many HTTP requests were answered with 400 and more, by status.
        above: only what took so many seconds or more is noted; who measures compares with this
            first, so that nearly all requests cost no more than that.
        histograms: durations by command, of those that were sampled.
    """

    def __init__(
        self,
        settings: Settings,
        wall: Callable[[], float] = time.time,
        on_slow: Callable[[Slow], object] = lambda slow: None,
    ) -> None:
        self._wall = wall
        self.verbs: defaultdict[bytes, int] = defaultdict(int, {b"unknown": 0})
        self.routes: defaultdict[str, int] = defaultdict(int, {UNKNOWN: 0})
        self.errors: Counter[str] = Counter()
        self.failed_requests: Counter[int] = Counter()
        self.histograms: dict[str, Histogram] = {}
        self.slow_total = 0
        self._on_slow = on_slow
        self._slow: deque[Slow] = deque(maxlen=MOST_SLOW)
        self._log_throttle = LogThrottle(1.0)
        self._left = 0
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take a new threshold."""
        self.slow_ms = settings.logging.slow_command_ms
        self._slow_seconds = self.slow_ms / 1000 if self.slow_ms else float("inf")
        self.above = 0.0 if self._left else self._slow_seconds

    def know_verbs(self, verbs: Iterable[bytes]) -> None:
        """Begin to count these."""
        for verb in verbs:
            self.verbs.setdefault(verb, 0)

    def know_routes(self, labels: Iterable[str]) -> None:
        """Begin to count these."""
        for label in labels:
            self.routes.setdefault(label, 0)

    def tick(self) -> None:
        """Take the next sample; to be called a few times a second."""
        self._left = TIMED_A_TICK
        self.above = 0.0

    def commands(self) -> dict[str, int]:
        """Return how many there were of each verb, in lower case."""
        counts: dict[str, int] = {}
        for verb, count in self.verbs.items():
            name = verb.decode().lower()
            counts[name] = counts.get(name, 0) + count
        return counts

    def describe(self) -> dict[str, Any]:
        """Return the counts since the start as a JSON object; what never came is left out."""
        return {
            "commands": _without_zeros(self.commands()),
            "requests": _without_zeros(self.routes),
            "errors": dict(self.errors),
            "failed_requests": {str(status): n for status, n in self.failed_requests.items()},
        }

    def took(
        self, seconds: float, command: str, commands: int, argument: bytes | None, peer: str
    ) -> None:
        """Note how long it took to answer ``commands`` together, until the reply was written."""
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
        """Return the slow commands, at most ``count``, the newest first."""
        return list(self._slow)[: -count - 1 : -1] if count else []

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
