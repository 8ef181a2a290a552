"""``twistd --reactor=uvloop``: Twisted's asyncio reactor on uvloop's event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


def install() -> None:
    """Install the reactor. Raises ImportError, which twistd reports, if uvloop is not installed."""
    try:
        import uvloop
    except ImportError:
        raise ImportError("it needs an extra: pip install 'tagcache-server[uvloop]'") from None
    from twisted.internet import asyncioreactor

    loop = uvloop.new_event_loop()
    loop.set_exception_handler(report)
    asyncioreactor.install(loop)


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report unhandled errors as asyncio does, except those of name look-ups.

    When a connection attempt is cancelled, uvloop lets its look-up continue, and nobody handles its
    error. The code that cancelled it has already reported the reason.
    """
    future = context.get("future")
    if isinstance(context.get("exception"), socket.gaierror) and not isinstance(
        future, asyncio.Task
    ):
        return
    loop.default_exception_handler(context)
