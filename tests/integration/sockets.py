"""What the kernel says of a socket."""

from __future__ import annotations

import socket
import struct


def listen_queue(sock: socket.socket) -> int:
    """The most connections that may wait on a listening socket."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    limit: int = struct.unpack_from("=I", info, 28)[0]
    return limit
