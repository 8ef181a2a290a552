"""Whether anything waits on a connection that nobody is using."""

from __future__ import annotations

import select
from collections.abc import Callable


def watch(descriptor: int) -> Callable[[int], list[tuple[int, int]]]:
    """Return what says, called with 0, whether there is anything to read: a list, or an empty one.

    Between two requests that is the end of the stream, or what nobody asked for. An answer too
    many would be taken for that to the next request, and so on.
    """
    looking = select.poll()
    looking.register(descriptor, select.POLLIN)
    return looking.poll
