"""The length and the number of a stored value.

A value is stored as it is, but after a header if it is compressed, or begins like a header itself:
see ``wire/values.py``. Earlier versions wrote marks, and escaped what follows. Limits and counters
apply to the value itself.
"""

from __future__ import annotations

import struct

# It begins no UTF-8 text, no pickle, no JSON and no MessagePack.
HEADER_BYTE = b"\xc1"
RAW = b"\xc1r"
COMPRESSED = b"\xc1z"
# In front of another stored value: until when it is fresh, and what it cost to compute.
TIMED = b"\xc1t"
TIMING = struct.Struct(">dd")
# The marks of earlier versions.
ESCAPED = b"\\:"
ESCAPED_COMPRESSED = b"\\z:"


def length(content: bytes) -> int:
    """Return the length of the value in bytes, without its header, or its mark and escapes."""
    if content.startswith(TIMED):
        content = content[len(TIMED) + TIMING.size :]
    if content.startswith((RAW, COMPRESSED)):
        return len(content) - len(RAW)
    if not content.startswith((ESCAPED, ESCAPED_COMPRESSED)):
        return len(content)
    mark = ESCAPED if content.startswith(ESCAPED) else ESCAPED_COMPRESSED
    return (
        len(content)
        - len(mark)
        - content.count(b"\\", len(mark))
        + content.count(b"\\\\", len(mark))
    )


def number(content: bytes) -> bytes:
    """Return the text of a counter, without surrounding white space."""
    if content.startswith(ESCAPED):
        content = content[len(ESCAPED) :].replace(b"\\n", b"\n").replace(b"\\r", b"\r")
    return content.strip()
