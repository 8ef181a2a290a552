"""The last events of each kind, for the operator."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from heapq import merge
from typing import Any

from twisted.logger import ILogObserver, LogLevel, formatEvent
from zope.interface import implementer

from tagcache.server.observe.traffic import Slow

# The limit is per kind, so that many invalidations do not push out a single error.
MOST_OF_A_KIND = 500
_MOST_NAMES = 10
_MOST_NAME_BYTES = 128
_MOST_TEXT = 500

INVALIDATION, SLOW, REFUSED, WARNING, ERROR = KINDS = (
    "invalidation",
    "slow",
    "refused",
    "warning",
    "error",
)
# A kept event: its number, its time, and a function that returns it as a JSON object.
_Kept = tuple[int, float, Callable[[], dict[str, Any]]]


@implementer(ILogObserver)
class EventLog:
    """The last events of each kind; also an observer of the log, for warnings and errors.

    ``wall`` returns seconds since 1970. ``last`` is the number of the last event.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._numbers = itertools.count(1)
        self.last = 0
        self._kept: dict[str, deque[_Kept]] = {kind: deque(maxlen=MOST_OF_A_KIND) for kind in KINDS}

    def invalidated(
        self, peer: str, what: str, names: Sequence[bytes], count: int, database: int = 0
    ) -> None:
        """Record that ``what`` (a command) with these tags or keys removed ``count`` entries.

        A ``database`` other than 0 is shown as ``db``.
        """
        some = [name[:_MOST_NAME_BYTES] for name in names[:_MOST_NAMES]]
        more = len(names) - len(some)

        def describe() -> dict[str, Any]:
            return {
                "peer": peer,
                "command": what,
                "names": [name.decode("utf-8", "replace") for name in some],
                "more_names": more,
                "count": count,
                **({"db": database} if database else {}),
            }

        self._keep(INVALIDATION, self._wall(), describe)

    def slow(self, slow: Slow) -> None:
        """Record a slow command."""

        def describe() -> dict[str, Any]:
            described = slow.describe()
            # The event already has a number and a time.
            del described["id"], described["time"]
            return described

        self._keep(SLOW, slow.time, describe)

    def __call__(self, event: dict[str, Any]) -> None:
        level = event.get("log_level") or LogLevel.info
        if level < LogLevel.warn:
            return
        namespace = event.get("log_namespace", "")
        kind = ERROR if level >= LogLevel.error else WARNING
        if kind == WARNING and "refusal" in event:
            kind = REFUSED
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text = f"{text}: {failure.getErrorMessage()}"
        text = text[:_MOST_TEXT]

        def describe() -> dict[str, Any]:
            return {"level": level.name, "source": namespace, "text": text}

        self._keep(kind, event.get("log_time") or self._wall(), describe)

    def count(self, kind: str) -> int:
        """Return how many events of a kind are kept."""
        return len(self._kept[kind])

    def after(self, number: int, limit: int, kinds: Sequence[str] = KINDS) -> list[dict[str, Any]]:
        """Return the newest ``limit`` events after that number, newest first.

        Each is a JSON object with ``id``, ``time`` (seconds since 1970), ``kind`` and the fields of
        its kind.
        """
        newest = merge(*map(self._newest, kinds), key=lambda each: -each[0])
        found = itertools.takewhile(lambda each: each[0] > number, newest)
        return [
            {"id": id, "time": round(moment, 3), "kind": kind, **describe()}
            for id, moment, kind, describe in itertools.islice(found, limit)
        ]

    def _newest(self, kind: str) -> Iterator[tuple[int, float, str, Callable[[], dict[str, Any]]]]:
        for id, moment, describe in reversed(self._kept[kind]):
            yield id, moment, kind, describe

    def _keep(self, kind: str, moment: float, describe: Callable[[], dict[str, Any]]) -> None:
        self.last = number = next(self._numbers)
        self._kept[kind].append((number, moment, describe))
