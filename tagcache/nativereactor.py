"""``twistd --reactor=tagcache``: Twisted's epoll reactor, with a native pump for connections."""

from __future__ import annotations

from types import ModuleType

from twisted.internet.epollreactor import EPollReactor
from twisted.internet.main import installReactor

from tagcache import native


class NativeReactor(EPollReactor):
    """Waits within ``pump``, which reads and writes the connections of TagCache's own ports.

    Twisted handles everything else in its own epoll set, which the pump watches. The pump returns
    whenever it has run Python code, so that calls which that code scheduled are made in time.
    """

    def __init__(self, core: ModuleType) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.pump = core.Pump(self._poller.fileno())

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events, at most ``timeout`` seconds, and handle them."""
        if self.pump.run(-1.0 if timeout is None else max(timeout, 0.0)):
            super().doPoll(0)  # type: ignore[no-untyped-call]

    doIteration = doPoll


def install() -> None:
    """Install the reactor. Raises ImportError, which twistd reports, without the native core."""
    if native.core is None:
        raise ImportError(f"it needs the native core, which is {native.state.value}")
    installReactor(NativeReactor(native.core))
