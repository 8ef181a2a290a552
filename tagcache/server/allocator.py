"""Gives memory back to the system that was freed, and that the C library keeps."""

from __future__ import annotations

import ctypes


def trim() -> None:
    """Return free memory to the system; does nothing where the C library can not.

    It takes some milliseconds, in which other threads go on.
    """
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
