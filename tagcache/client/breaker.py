"""The circuit breaker: marks a server as unavailable, and decides when to try it again."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from random import random as uniform
from time import monotonic as now

from tagcache.client.options import Options
from tagcache.errors import CircuitOpen, ConnectionFailed, Unavailable

_LONGEST_PAUSE = 30.0


class State(Enum):
    """What a client knows of its server: available, unavailable, or being tried again."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class _View:
    """The state of a breaker, replaced as a whole, so that an interruption leaves it consistent.

    ``since`` and ``again_at`` are monotonic times, ``pause`` is in seconds.
    """

    state: State = State.CLOSED
    since: float = 0.0
    pause: float = 0.0
    again_at: float = 0.0
    reason: str = ""


_CLOSED = _View()


class Breaker:
    """A circuit breaker stops commands to a failed server, and tries one again after a pause.

    The first pause is ``pause`` seconds long (0: the breaker never opens), and each further one
    twice as long, up to 30 s. ``random`` (0 to 1) adds up to a half to each, so that the clients
    of a server do not all return at once. Safe for threads.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_answered_at",
        "_lock",
        "_monotonic",
        "_pause",
        "_random",
        "_view",
    )

    def __init__(
        self,
        address: str,
        pause: float,
        monotonic: Callable[[], float] = now,
        random: Callable[[], float] = uniform,
    ) -> None:
        self._address = address
        self._pause = pause
        self._monotonic = monotonic
        self._random = random
        self._view = _CLOSED
        self._answered_at = float("-inf")
        self._unlock()
        _breakers.add(self)

    def _unlock(self) -> None:
        # Reentrant: a signal handler or a finalizer may use the breaker while its thread holds it.
        self._lock = threading.RLock()

    @property
    def state(self) -> State:
        """CLOSED, OPEN, or HALF_OPEN while one command tries the server."""
        return self._view.state

    def begin(self) -> float:
        """Admit a command, and return the time. Raises CircuitOpen."""
        began = self._monotonic()
        if self._view.state is not State.CLOSED:
            with self._lock:
                view = self._view
                if view.state is not State.CLOSED:
                    if began < view.again_at:
                        raise self._refusal(view, began)
                    # If this command is interrupted, another may try after the same pause.
                    self._view = replace(
                        view, state=State.HALF_OPEN, again_at=began + self._spread(view.pause)
                    )
        return began

    def check(self) -> None:
        """Raise CircuitOpen if the breaker is open; for a caller that waits for a connection."""
        view = self._view
        if view.state is State.OPEN:
            raise self._refusal(view, self._monotonic())

    def answered(self) -> None:
        """Record that the server answered."""
        self._answered_at = self._monotonic()
        if self._view.state is not State.CLOSED:
            self._view = _CLOSED

    def failed(self, error: BaseException, began: float | None = None, used: bool = False) -> None:
        """Record that a command failed; ``used`` says that its connection had been used before.

        If another command has been answered since it ``began``, the server works and was slow with
        this command only; without ``began``, answers do not matter. If a used connection breaks,
        the server may still work. Errors other than Unavailable say nothing about the server.
        """
        if not self._pause or not isinstance(error, Unavailable):
            return
        if used and isinstance(error, ConnectionFailed):
            return
        if began is not None and self._answered_at >= began:
            return
        with self._lock:
            view, failed_at = self._view, self._monotonic()
            if view.state is State.OPEN:
                # The command began before the breaker opened, so its failure is nothing new.
                return
            if view.state is State.CLOSED:
                view = replace(view, since=failed_at, pause=self._pause)
            else:
                view = replace(view, pause=min(view.pause * 2, _LONGEST_PAUSE))
            self._view = replace(
                view,
                state=State.OPEN,
                again_at=failed_at + self._spread(view.pause),
                reason=str(error),
            )

    def _spread(self, pause: float) -> float:
        return pause * (1 + self._random() / 2)

    def _refusal(self, view: _View, at: float) -> CircuitOpen:
        return CircuitOpen(
            f"{self._address} has been unavailable for {at - view.since:.1f} s; the next attempt"
            f" is in {max(view.again_at - at, 0.0):.1f} s ({view.reason})"
        )


_breakers: weakref.WeakSet[Breaker] = weakref.WeakSet()


def _forked() -> None:
    # A thread of the parent may have held the lock; it does not exist in the child.
    for breaker in list(_breakers):
        breaker._unlock()


os.register_at_fork(after_in_child=_forked)


def breaker_for(
    options: Options,
    monotonic: Callable[[], float] = now,
    random: Callable[[], float] = uniform,
) -> Breaker:
    """Return the breaker of a client with these options.

    ``monotonic`` (seconds) is its clock, and ``random`` (0 to 1) varies the length of its pauses.
    """
    pause = options.breaker_seconds
    if pause is None:
        pause = 0.5 if options.timeout is None else options.timeout / 2
    return Breaker(options.address, pause, monotonic, random)
