"""``twistd --reactor=uvloop``: Twisted's asyncio reactor on uvloop's event loop."""

from __future__ import annotations


def install() -> None:
    """Install the reactor. Raises ImportError if uvloop is not installed."""
    import uvloop
    from twisted.internet import asyncioreactor

    asyncioreactor.install(uvloop.new_event_loop())
