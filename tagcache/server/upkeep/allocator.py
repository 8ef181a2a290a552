"""Return memory to the system that is free, but kept by the C library."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path


def trim() -> None:
    """Return free memory to the system; do nothing if the C library cannot.

    It takes some milliseconds, during which other threads continue.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def resident_bytes() -> int:
    """Return the resident set of this process in bytes; 0 if the system does not provide it."""
    try:
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    except OSError:
        return 0
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
