"""The length and the number of a stored value.

A value that a line of the line protocol cannot hold is stored with a mark in front, and escaped:
see ``wire/marks.py``. Limits and counters apply to the value itself.
"""

from __future__ import annotations

ESCAPED = b"\\:"
COMPRESSED = b"\\z:"


def length(content: bytes) -> int:
    """Return the length of the value in bytes, without its mark and escapes."""
    if not content.startswith((ESCAPED, COMPRESSED)):
        return len(content)
    mark = ESCAPED if content.startswith(ESCAPED) else COMPRESSED
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
