"""A program on gevent, as workers of gunicorn are: greenlets share one thread."""

from __future__ import annotations

import sys

from gevent import monkey

monkey.patch_all()

import gevent  # noqa: E402
from gevent import socket  # noqa: E402

from tagcache.client import Client  # noqa: E402
from tagcache.errors import TimedOut  # noqa: E402

port = int(sys.argv[1])
client = Client(port=port, pool_size=4, timeout=20)
turns: list[int] = []


def compute() -> str:
    # The others wait for the value meanwhile, and the loop goes on.
    gevent.sleep(0)
    turns.append(0)
    return "x" * 900_000


pages = [gevent.spawn(client.get_or_set, "page", compute, tags=["t"]) for _ in range(20)]
assert {page.get() for page in pages} == {"x" * 900_000}
assert len(turns) == 1
assert client.invalidate_tag("t") == 1
client.close()

# A server that does not answer: other greenlets run until the time is over.
with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    silent = Client(port=listener.getsockname()[1], timeout=0.2)

    def count() -> None:
        while True:
            turns.append(1)
            gevent.sleep(0.001)

    counting = gevent.spawn(count)
    try:
        silent.get("k")
    except TimedOut as error:
        print(error)
    else:
        raise AssertionError("a silent server answered")
    counting.kill()
    assert turns.count(1) > 1
