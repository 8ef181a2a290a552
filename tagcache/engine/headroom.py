"""The memory that stores leave free, so that the server still answers at a limit of the system.

Without this, small entries take the last block that Python has for its small objects. After that,
any step of the process can fail, even the handling of a MemoryError in the event loop, and the
process ends. So stores stop a little earlier: now and then, they check that some memory is free.
They do not hold it.
"""

from __future__ import annotations

from mmap import ACCESS_COPY, mmap

# What takes memory is counted in units of about this many bytes: an entry is one; each tag that it
# may have brought is another one, and so is each such part of its value.
UNIT_BYTES = 1024
# How much is asked of the system, and how many units may be stored then.
_FREE_BYTES = 8 * 2**20
_UNITS = 512
# If it does not give that: the lengths of blocks that must be free in any case, and how many units
# may be stored then.
_BLOCKS = (64 * 1024,) * 8 + (480,) * 1024
_FEW_UNITS = 32


def check() -> int:
    """Return how many units may be stored now; raise MemoryError if so little memory is left."""
    try:
        mmap(-1, _FREE_BYTES, access=ACCESS_COPY).close()
    except OSError:
        # What removed entries took is free in this process, but the system does not see that.
        list(map(bytes, _BLOCKS))
        return _FEW_UNITS
    return _UNITS
