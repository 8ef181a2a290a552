"""Check for free memory before storing, so that the server still answers at the system's limit.

Without this check, small entries would take the last block that Python has for small objects. After
that, any step of the process can fail, even handling a MemoryError in the event loop, and the
process would end. So stores stop a little earlier: from time to time, they check that some memory
is free, but do not reserve it.
"""

from __future__ import annotations

from mmap import ACCESS_COPY, mmap

# Stores are counted in units of about this many bytes: an entry is one unit; each tag that may be
# new is another, and so is each further part of this size in its value.
UNIT_BYTES = 1024
# How many bytes the system must give, and how many units may be stored after that.
_FREE_BYTES = 8 * 2**20
_UNITS = 512
# If the system does not give them: the lengths of blocks that must be free in this process, and how
# many units may be stored after that.
_BLOCKS = (64 * 1024,) * 8 + (480,) * 1024
_FEW_UNITS = 32


def check() -> int:
    """Return how many units may be stored now; raise MemoryError if so little memory is left."""
    try:
        mmap(-1, _FREE_BYTES, access=ACCESS_COPY).close()
    except OSError:
        # The memory of removed entries is free in this process, though the system does not know.
        list(map(bytes, _BLOCKS))
        return _FEW_UNITS
    return _UNITS
