"""Tells systemd how far we are, where it asked to be told (Type=notify)."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], *assignments: str) -> None:
    """Send assignments such as ``READY=1`` to the socket that ``NOTIFY_SOCKET`` names, if any.

    Protocol: sd_notify(3). Losing a message is not an error of ours.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        try:
            sock.sendto("\n".join(assignments).encode(), address)
        except OSError:
            return
