"""Report the state of the server to systemd, if its unit has Type=notify."""

from __future__ import annotations

import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], *assignments: str) -> None:
    """Send assignments such as ``READY=1`` to the socket that ``NOTIFY_SOCKET`` names, if any.

    The protocol is sd_notify(3). A message that cannot be sent is ignored.
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
