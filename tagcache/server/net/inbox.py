"""Received data that is not parsed yet."""

from __future__ import annotations

import sys
from collections import deque

# The overhead of a chunk: an object, and its place in a list.
OBJECT_BYTES = sys.getsizeof(b"") + 8


class Inbox:
    """Chunks in the order of arrival; ``size`` is their total length in bytes."""

    __slots__ = ("_chunks", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self.size = 0

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def held_bytes(self) -> int:
        """Return how much memory the chunks take."""
        return self.size + len(self._chunks) * OBJECT_BYTES

    def put(self, chunk: bytes) -> None:
        """Append a chunk."""
        self._chunks.append(chunk)
        self.size += len(chunk)

    def peek(self) -> bytes:
        """Return the oldest chunk."""
        return self._chunks[0]

    def take(self, most: int | None = None) -> bytes:
        """Remove and return the oldest chunk, or at most its first ``most`` bytes."""
        chunk = self._chunks.popleft()
        if most is not None and len(chunk) > most:
            self._chunks.appendleft(chunk[most:])
            chunk = chunk[:most]
        self.size -= len(chunk)
        return chunk

    def clear(self) -> None:
        """Remove all chunks."""
        self._chunks.clear()
        self.size = 0
