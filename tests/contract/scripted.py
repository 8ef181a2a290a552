"""A server that runs scripts of the tests, for replies that a real server never sends."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Thread


class ScriptedServer:
    """Runs the next script for each connection, and the last one for all further connections."""

    def __init__(self, *scripts: Callable[[socket.socket], None]) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self.received: list[bytes] = []
        self._scripts = list(scripts)
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            Thread(target=self._run, args=(script, sock), daemon=True).start()

    def _run(self, script: Callable[[socket.socket], None], sock: socket.socket) -> None:
        # A client that stops waiting resets its connection.
        with sock, suppress(ConnectionError):
            script(sock)

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()


def answering(*replies: bytes) -> Callable[[socket.socket], None]:
    """Send one reply for each chunk that arrives, then close."""

    def script(sock: socket.socket) -> None:
        for reply in replies:
            if not sock.recv(65536):
                return
            sock.sendall(reply)

    return script


def silent(sock: socket.socket) -> None:
    """Read until the client closes the connection."""
    while sock.recv(65536):
        pass


@contextmanager
def black_hole() -> Iterator[int]:
    """Yield a port whose backlog is full, so that the system drops further connections."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        port: int = listening.getsockname()[1]
        while True:
            filling = stack.enter_context(socket.socket())
            filling.settimeout(0.5)
            try:
                filling.connect(("127.0.0.1", port))
            except TimeoutError:
                break
        yield port
