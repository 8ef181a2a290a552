"""``twistd --reactor=uvloop``: Twisted's asyncio reactor on uvloop's event loop."""

from __future__ import annotations

import asyncio
import socket
from typing import Any


def install() -> None:
    """Install the reactor. Raises ImportError, which twistd tells of, if uvloop is not there."""
    try:
        import uvloop
    except ImportError:
        raise ImportError("it needs an extra: pip install 'tagcache-server[uvloop]'") from None
    from twisted.internet import asyncioreactor

    loop = uvloop.new_event_loop()
    loop.set_exception_handler(report)
    asyncioreactor.install(loop)


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Tell of what nobody caught, as asyncio does, but not of a look-up of a name.

    When a connection is given up, uvloop lets its look-up go on, and leaves the error of that to
    nobody. Who gave up has told why.
    """
    future = context.get("future")
    if isinstance(context.get("exception"), socket.gaierror) and not isinstance(
        future, asyncio.Task
    ):
        return
    loop.default_exception_handler(context)
