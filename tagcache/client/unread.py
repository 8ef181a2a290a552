"""Check whether there is anything to read on an idle connection."""

from __future__ import annotations

import select
from collections.abc import Callable


def watch(descriptor: int) -> Callable[[int], list[tuple[int, int]]]:
    """Return a function that, called with 0, returns an empty list if there is nothing to read.

    Between two requests, only the end of the stream or an unexpected reply can arrive. Such a
    reply would be taken for that to the next request, and so on.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll
