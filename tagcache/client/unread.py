"""Whether there is anything to read on an idle connection."""

from __future__ import annotations

import select
from collections.abc import Callable


def watch(descriptor: int) -> Callable[[int], list[tuple[int, int]]]:
    """Return a function that, called with 0, returns a list, empty if there is nothing to read.

    Between two requests that can only be the end of the stream, or an unexpected reply, which
    would be taken for the reply to the next request, and so on.
    """
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return poll.poll
