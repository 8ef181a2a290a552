"""What the kernel knows about a socket."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PIDFD_GETFD = 438  # the same on every architecture


def listen_queue(sock: socket.socket) -> int:
    """The backlog of a listening socket."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    limit: int = struct.unpack_from("=I", info, 28)[0]
    return limit


@contextmanager
def sockets_of(pid: int) -> Iterator[list[socket.socket]]:
    """Borrow every open socket of another process: the same socket, not a copy."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    borrowed = []
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(FileNotFoundError):
                if entry.readlink().name.startswith("socket:"):
                    descriptor = libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
                    if descriptor < 0:
                        error = ctypes.get_errno()
                        if error == errno.EBADF:
                            continue  # closed in the meantime
                        raise OSError(error, "pidfd_getfd")
                    borrowed.append(socket.socket(fileno=descriptor))
        yield borrowed
    finally:
        for sock in borrowed:
            sock.close()
        os.close(pidfd)


@contextmanager
def accepted(pid: int, client: socket.socket) -> Iterator[socket.socket]:
    """Borrow the server's end of a connection."""
    ours = client.getsockname()
    with sockets_of(pid) as found:
        for sock in found:
            with suppress(OSError):
                # A UNIX client has no name. The server's listening socket has no peer.
                if sock.getpeername() == ours and sock.family == client.family:
                    yield sock
                    return
        raise LookupError("the server has no such connection")


@contextmanager
def listening(pid: int, port: int) -> Iterator[socket.socket]:
    """Borrow the server's listening socket."""
    with sockets_of(pid) as found:
        for sock in found:
            if sock.family in (socket.AF_INET, socket.AF_INET6):
                is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
                if is_listening and sock.getsockname()[1] == port:
                    yield sock
                    return
        raise LookupError("the server does not listen there")
