"""The length and the number of a stored value.

A value is stored as it is, or after a header if it is compressed, or itself begins like a header:
see ``wire/values.py``. Earlier versions wrote marks, and escaped what follows. Limits and counters
apply to the value itself.
"""

from __future__ import annotations

import struct

# No UTF-8 text, pickle, JSON or MessagePack begins with it.
HEADER_BYTE = b"\xc1"
RAW = b"\xc1r"
COMPRESSED = b"\xc1z"
# The header before a stored value that says when it expires, and the cost to compute it.
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
