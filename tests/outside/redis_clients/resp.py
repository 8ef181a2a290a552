"""A connection that speaks RESP2 or RESP3 and keeps the types of replies."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

TIMEOUT = 60.0


@dataclass(frozen=True)
class Reply:
    """A reply: the byte that begins it, and what it holds.

    ``content`` is bytes for ``+ - $ = , (``, an int for ``:``, a bool for ``#``, a list of replies
    for ``* ~ > %`` (keys and values in turn), and None for all nulls.
    """

    kind: str
    content: Any

    @property
    def is_error(self) -> bool:
        return self.kind in "-!"


class Connection:
    """A blocking connection to a server on 127.0.0.1."""

    def __init__(self, port: int, protocol: int = 2) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self._file = self._sock.makefile("rb")
        if protocol == 3:
            assert self.ask(b"HELLO", b"3").kind == "%"

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def send(self, *words: bytes) -> None:
        self._sock.sendall(packed(*words))

    def ask(self, *words: bytes) -> Reply:
        self.send(*words)
        return self.read()

    def read(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError(f"the server closed after {line!r}")
        kind, rest = chr(line[0]), line[1:-2]
        if kind in "+-,(":
            return Reply(kind, rest)
        if kind == ":":
            return Reply(kind, int(rest))
        if kind == "#":
            return Reply(kind, {b"t": True, b"f": False}[rest])
        if kind == "_":
            assert rest == b""
            return Reply(kind, None)
        length = int(rest)
        if length == -1 and kind in "$*":
            return Reply(kind, None)
        assert length >= 0, line
        if kind in "$=!":
            data = self._file.read(length + 2)
            assert data[-2:] == b"\r\n", data[-100:]
            return Reply(kind, data[:-2])
        assert kind in "*~>%", line
        return Reply(kind, [self.read() for _ in range(length * (2 if kind == "%" else 1))])


def packed(*words: bytes) -> bytes:
    """Return a command as bytes."""
    parts = [b"*%d\r\n" % len(words)]
    parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in words]
    return b"".join(parts)
