"""A server between a database and its readers: no outdated values, and no stampede."""

from __future__ import annotations

import selectors
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import Protocol

import pytest

from tests.integration.running import TIMEOUT, Client, RunningServer, eventually

ROWS = (b"a", b"b", b"c")


class Database:
    """Rows with versions, and what was invalidated after a change."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(ROWS, 0)
        # Each is written by one thread.
        self.invalidated = dict.fromkeys(ROWS, 0)


class Reader:
    """Reads pages that are made of two rows each, from the cache or from the database.

    Without leases it stores what it has made all the same.
    """

    def __init__(self, client: Client, database: Database, seed: int, leased: bool) -> None:
        self.client = client
        self.database = database
        self.leased = leased
        self.random = Random(seed)
        self.seen: Counter[str] = Counter()
        self.outdated: list[tuple[bytes, dict[bytes, int]]] = []

    def read(self) -> None:
        rows = self.random.sample(ROWS, 2)
        key = b"".join(sorted(rows))
        invalidated = self.database.invalidated.copy()
        request = b"FETCH\t%b\t5000\t2000" if self.leased else b"GET\t%b"
        word, *rest = self.client.ask(request % key).strip().split(b"\t")
        self.seen[word.decode()] += 1
        if word in (b"HIT", b"VALUE"):
            versions = dict(part.split(b"=") for part in rest[0].split())
            if any(int(versions[row]) < invalidated[row] for row in rows):
                self.outdated.append((rest[0], invalidated))
        elif word in (b"LEASE", b"NF"):
            value = b" ".join(b"%b=%d" % (row, self.database.versions[row]) for row in rows)
            store = (b"FILL", rest[0]) if self.leased else (b"PUT",)
            fill = (*store, key, b"-", b",".join(rows), value)
            self.seen[self.client.ask(b"\t".join(fill)).strip().decode()] += 1


def write(client: Client, database: Database, row: bytes) -> None:
    database.versions[row] += 1
    version = database.versions[row]
    assert client.ask(b"INV_TAG\t" + row).startswith(b"INV_TAG\t")
    database.invalidated[row] = version


class Connects(Protocol):
    """A server, or several that share their entries."""

    def connect(self) -> Client:
        """Connect to one of them."""


def race(
    server: Connects, goes_on: Callable[[int, list[Reader]], bool], leased: bool = True
) -> list[Reader]:
    """Let readers and writers race; a writer goes on while ``goes_on(changes, readers)``."""
    database = Database()
    over = threading.Event()

    def writes(client: Client, row: bytes) -> None:
        changes = 0
        while goes_on(changes, readers):
            changes += 1
            write(client, database, row)

    def reads(reader: Reader) -> None:
        while not over.is_set():
            reader.read()

    with ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(8)]
        readers = [
            Reader(client, database, seed, leased) for seed, client in enumerate(clients[:5])
        ]
        reading = [threading.Thread(target=reads, args=(reader,)) for reader in readers]
        writing = [
            threading.Thread(target=writes, args=each)
            for each in zip(clients[5:], ROWS, strict=True)
        ]
        for thread in (*reading, *writing):
            thread.start()
        for thread in writing:
            thread.join()
        over.set()
        for thread in reading:
            thread.join()
    return readers


def test_no_reader_gets_what_was_invalidated_before_it_asked(server: RunningServer) -> None:
    readers = race(server, lambda changes, _: changes < 300)
    assert [reader.outdated for reader in readers] == [[]] * 5
    seen = sum((reader.seen for reader in readers), Counter())
    assert seen["HIT"]
    assert seen["LEASE"] == seen["OK"] + seen["REFUSED"]


@pytest.mark.slow
def test_nor_in_ten_seconds(server: RunningServer) -> None:
    end = time.monotonic() + 10
    readers = race(server, lambda *_: time.monotonic() < end)
    assert [reader.outdated for reader in readers] == [[]] * 5
    assert sum(reader.seen["REFUSED"] for reader in readers)


@pytest.mark.parametrize("leased", [True, False])
def test_what_a_plain_put_does_instead(server: RunningServer, leased: bool) -> None:
    """The same race, step by step: without a lease, the outdated value stays."""
    with server.connect() as reader, server.connect() as writer:
        database = Database()
        token = reader.ask(b"FETCH\tpage\t5000").strip().partition(b"\t")[2]
        value = b"a=%d" % database.versions[b"a"]
        write(writer, database, b"a")
        store = b"FILL\t%b\tpage\t-\ta\t%b" % (token, value)
        if not leased:
            store = b"PUT\tpage\t-\ta\t" + value
        assert reader.ask(store) == (b"REFUSED\n" if leased else b"OK\n")
        found = reader.ask(b"GET\tpage")
        assert found == (b"NF\n" if leased else b"VALUE\ta=0\n")


def stampede(connect: Callable[[], Client], waiting: Callable[[], int]) -> None:
    """Let 200 clients ask for a value at once: one computes it, and all get it.

    ``waiting`` returns how many look-ups wait.
    """
    with ExitStack() as stack, selectors.DefaultSelector() as answered:
        clients = [stack.enter_context(connect()) for _ in range(200)]
        for client in clients:
            answered.register(client.sock, selectors.EVENT_READ, client)
            client.send(b"FETCH\tpage\t60000\t60000\n")
        eventually(lambda: waiting() == 199)
        ((key, _),) = answered.select(TIMEOUT)
        holder: Client = key.data
        word, _, token = holder.line().strip().partition(b"\t")
        assert word == b"LEASE"
        assert holder.ask(b"FILL\t%b\tpage\t-\tt\tvalue" % token) == b"OK\n"
        assert [each.line() for each in clients if each is not holder] == [b"HIT\tvalue\n"] * 199


def test_a_missing_value_is_computed_once(server: RunningServer) -> None:
    with server.connect() as control:
        stampede(server.connect, lambda: int(control.json(b"INFO")["cache"]["waiting_fetches"]))
        figures = control.json(b"INFO")["cache"]
    assert (figures["leases_granted"], figures["fills"], figures["waiting_fetches"]) == (1, 1, 0)


def test_leases_do_not_outlive_a_restart_and_grace_does(
    start: Callable[..., RunningServer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    snapshot = tmp_path_factory.mktemp("kept") / "snapshot"
    sections = {"persistence": {"snapshot_file": str(snapshot)}}
    first = start(sections)
    with first.connect() as client:
        token = client.ask(b"FETCH\tnew\t60000").strip().partition(b"\t")[2]
        client.ask(b"PUT\told\t-+600000\tt\tvalue")
        client.ask(b"PUT\tlive\t1+600000\tu\tvalue")
        assert client.ask(b"SOFT_TAG\tt") == b"SOFT_TAG\t1\n"
    first.stop()
    with start(sections).connect() as client:
        assert client.ask(b"FILL\t%b\tnew\t-\t-\tv" % token) == b"REFUSED\n"
        for key in (b"old", b"live"):
            assert client.ask(b"GET\t" + key) == b"NF\n"
            assert client.ask(b"FETCH\t%b\t5000" % key).startswith(b"STALE\t")
