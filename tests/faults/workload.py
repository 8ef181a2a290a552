"""One of several client processes that send all kinds of requests and record the results.

``python -m tests.faults.workload PORT NUMBER OF SECONDS FILE``: client NUMBER of OF writes only its
own keys, reads those of all, and invalidates any tags. It writes its history to FILE as JSON lines.
With ``-`` there is no history, and nothing is flushed, so that the cache becomes full. The last
line printed is the number of answered requests.

A wrong reply that one client can recognize alone fails at once. ``tests.faults.history`` checks all
histories together.
"""

from __future__ import annotations

import json
import random
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.integration.running import Client

KEYS = 12
TAGS = 10
# The value contains the version of the key. Its length varies, for evictions of all sizes.
LENGTHS = (0, 10, 100, 1000, 5000)
TTLS_MS = (None, None, 20, 200, 2000)


class Worker:
    """Makes requests one by one. ``note`` is called with each event of the history."""

    def __init__(self, client: Client, number: int, of: int, flushes: bool) -> None:
        self._client = client
        self._number = number
        self._of = of
        self._random = random.Random(number)
        self._flushes = flushes
        self._versions: dict[int, int] = {}
        self._tags: dict[int, list[bytes]] = {}
        self._count = 0
        self._removed: set[int] = set()
        self.notes: list[dict[str, Any]] = []
        self.answered = 0

    def ask(self, request: bytes) -> tuple[bytes, float, float]:
        begin = time.monotonic()
        reply = self._client.ask(request)
        end = time.monotonic()
        assert reply.endswith(b"\n"), (request, reply)
        self.answered += 1
        return reply[:-1], begin, end

    def note(self, kind: str, begin: float, end: float, **more: Any) -> None:
        self.notes.append({"kind": kind, "by": self._number, "begin": begin, "end": end, **more})

    def step(self) -> None:
        choice = self._random.random()
        if choice < 0.45:
            self.read()
        elif choice < 0.75:
            self.write()
        elif choice < 0.82:
            self.remove()
        elif choice < 0.90:
            self.count()
        elif choice < 0.94:
            self.add()
        elif choice < 0.97:
            self.list_keys()
        elif choice < 0.998:
            self.invalidate()
        elif choice < 0.9985 and self._flushes:
            _, begin, end = self.ask(b"FLUSH")
            self.note("invalidate", begin, end, tags=[], every=True)
        else:
            reply, _, _ = self.ask(self._random.choice([b"STATS", b"INFO\tcheck", b"CLIENTS"]))
            assert b'"ok":false' not in reply, reply

    def read(self) -> None:
        owner, key = self._random.randrange(self._of), self._random.randrange(KEYS)
        name = b"w%d:%d" % (owner, key)
        reply, begin, end = self.ask(b"GET\t" + name)
        version = None
        if reply != b"NF":
            verb, _, value = reply.partition(b"\t")
            written, text, length, rest = value.split(b"|")
            assert (verb, written) == (b"VALUE", name), (name, reply[:100])
            assert rest == b"x" * int(length), (name, reply[:100])
            version = int(text)
        self.note("read", begin, end, key=name.decode(), version=version)

    def entry(self, key: int) -> tuple[bytes, int | None, list[bytes]]:
        version = self._versions.get(key, 0) + 1
        tags = [b"t%d" % tag for tag in self._random.sample(range(TAGS), self._random.randrange(4))]
        ttl_ms = self._random.choice(TTLS_MS)
        length = self._random.choice(LENGTHS)
        name = b"w%d:%d" % (self._number, key)
        value = b"%s|%d|%d|%s" % (name, version, length, b"x" * length)
        terms = b"%s\t%s" % (b"-" if ttl_ms is None else b"%d" % ttl_ms, b",".join(tags) or b"-")
        return b"%s\t%s\t%s" % (name, terms, value), ttl_ms, tags

    def write(self) -> None:
        key = self._random.randrange(KEYS)
        fields, ttl_ms, tags = self.entry(key)
        reply, begin, end = self.ask(b"PUT\t" + fields)
        assert reply == b"OK", reply
        self.wrote(key, ttl_ms, tags, begin, end)

    def wrote(
        self, key: int, ttl_ms: int | None, tags: list[bytes], begin: float, end: float
    ) -> None:
        self._versions[key] = version = self._versions.get(key, 0) + 1
        self._tags[key] = tags
        self._removed.discard(key)
        self.note(
            *("write", begin, end),
            key=f"w{self._number}:{key}",
            version=version,
            ttl_ms=ttl_ms,
            tags=[tag.decode() for tag in tags],
        )

    def add(self) -> None:
        key = self._random.randrange(KEYS)
        fields, ttl_ms, tags = self.entry(key)
        reply, begin, end = self.ask(b"ADD\t" + fields)
        assert reply in (b"ADDED", b"EXISTS"), reply
        if reply == b"ADDED":
            self.wrote(key, ttl_ms, tags, begin, end)
        else:
            # No other client writes this key, so after a removal it does not exist.
            assert key not in self._removed, key

    def remove(self) -> None:
        key = self._random.randrange(KEYS)
        name = b"w%d:%d" % (self._number, key)
        if self._random.random() < 0.5:
            reply, begin, end = self.ask(b"DEL\t" + name)
            assert reply in (b"DEL ok", b"DEL nf"), reply
            assert reply == b"DEL nf" or key not in self._removed
        else:
            reply, begin, end = self.ask(b"INV_KEYS\t" + name)
            assert reply in (b"INV_KEYS\t0", b"INV_KEYS\t1"), reply
        self._removed.add(key)
        self.note("remove", begin, end, key=name.decode())

    def count(self) -> None:
        """Only this client counts this key: the result is one more, or the first value."""
        reply, _, _ = self.ask(b"INCR\tcount%d\t1\t-\tt0" % self._number)
        value = int(reply.removeprefix(b"VALUE\t"))
        assert value in (self._count + 1, 1), (value, self._count)
        self._count = value

    def list_keys(self) -> None:
        tag = b"t%d" % self._random.randrange(TAGS)
        reply, _, _ = self.ask(b"KEYS\t" + tag)
        ours = b"w%d:" % self._number
        for name in reply.removeprefix(b"KEYS\t").split(b","):
            if name.startswith(ours):
                key = int(name.removeprefix(ours))
                assert tag in self._tags[key], (tag, name)
                assert key not in self._removed, name

    def invalidate(self) -> None:
        count = self._random.choice([1, 1, 1, 2])
        tags = [b"t%d" % tag for tag in self._random.sample(range(TAGS), count)]
        every = self._random.random() < 0.5
        verb = b"INV_TAG" if count == 1 else b"INV_TAGS_ALL" if every else b"INV_TAGS_ANY"
        reply, begin, end = self.ask(verb + b"\t" + b",".join(tags))
        assert int(reply.removeprefix(verb + b"\t")) >= 0
        names = [tag.decode() for tag in tags]
        if count == 1 or every:
            self.note("invalidate", begin, end, tags=names, every=True)
        else:
            for name in names:
                self.note("invalidate", begin, end, tags=[name], every=True)


def main() -> None:
    port, number, of = (int(argument) for argument in sys.argv[1:4])
    seconds, path = float(sys.argv[4]), sys.argv[5]
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 30))
        worker = Worker(Client(sock), number, of, flushes=path != "-")
        file = None if path == "-" else stack.enter_context(Path(path).open("w"))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(100):
                worker.step()
            if file is not None:
                file.writelines(json.dumps(note) + "\n" for note in worker.notes)
            worker.notes.clear()
    print(worker.answered)


if __name__ == "__main__":
    main()
