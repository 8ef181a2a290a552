"""Readers and writers race for a database behind two servers: nobody reads what is outdated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from tagcache.client import Client, ShardedClient
from tagcache.contrib.cached import cached
from tests.integration.running import RunningServer

ROWS = ("a", "b", "c")


class Database:
    """Rows with versions, and what was invalidated after a change. Each has one writer."""

    def __init__(self) -> None:
        self.versions = dict.fromkeys(ROWS, 0)
        self.invalidated = dict.fromkeys(ROWS, 0)

    def change(self, client: ShardedClient, row: str) -> None:
        self.versions[row] += 1
        version = self.versions[row]
        client.invalidate_tag(row)
        self.invalidated[row] = version


class Reader:
    """Reads pages that are made of two rows each, from the cache or from the database."""

    def __init__(self, client: ShardedClient, database: Database, seed: int, way: str) -> None:
        self._client = client
        self._database = database
        self._random = Random(seed)
        self.made = self.read = 0
        self.outdated: list[tuple[dict[str, int], dict[str, int]]] = []
        page = cached(client, key="{first}{second}", tags=["{first}", "{second}"])(self._make)
        self._page: Callable[[str, str], dict[str, int]] = (
            page if way == "cached" else self._get_or_set
        )

    def _make(self, first: str, second: str) -> dict[str, int]:
        self.made += 1
        found = {row: self._database.versions[row] for row in (first, second)}
        # To render the page takes a while: others come meanwhile, before and after a change.
        time.sleep(0.001)
        return found

    def _get_or_set(self, first: str, second: str) -> dict[str, int]:
        return self._client.get_or_set(
            first + second, lambda: self._make(first, second), tags=[first, second]
        )

    def look(self) -> None:
        rows = sorted(self._random.sample(ROWS, 2))
        invalidated = self._database.invalidated.copy()
        found = self._page(*rows)
        self.read += 1
        if any(found[row] < invalidated[row] for row in rows):
            self.outdated.append((found, invalidated))


@pytest.fixture
def clients(running: RunningServer, second: RunningServer) -> Iterator[list[ShardedClient]]:
    """Two clients, like two processes."""
    nodes = [f"tagcache://127.0.0.1:{server.port}" for server in (running, second)]
    for server in (running, second):
        with Client(port=server.port, timeout=60) as client:
            client.flush()
    made = [ShardedClient(nodes, timeout=60) for _ in range(2)]
    yield made
    for each in made:
        each.close()


def race(clients: list[ShardedClient], way: str, goes_on: Callable[[int], bool]) -> list[Reader]:
    """Let them race; a writer goes on while ``goes_on(changes)``."""
    database = Database()
    over = threading.Event()
    readers = [Reader(clients[seed % 2], database, seed, way) for seed in range(8)]

    def reads(reader: Reader) -> None:
        while not over.is_set():
            reader.look()

    def writes(row: str) -> None:
        changes = 0
        while goes_on(changes):
            changes += 1
            database.change(clients[changes % 2], row)
            # So that some are read twice.
            over.wait(0.002)

    reading = [threading.Thread(target=reads, args=(reader,)) for reader in readers]
    writing = [threading.Thread(target=writes, args=(row,)) for row in ROWS]
    for thread in (*reading, *writing):
        thread.start()
    for thread in writing:
        thread.join()
    over.set()
    for thread in reading:
        thread.join()
    return readers


def refused(client: ShardedClient) -> int:
    return sum(int(node.info()["cache"]["fills_refused"]) for node in client.nodes.values())


@pytest.mark.parametrize("way", ["get_or_set", "cached"])
def test_no_reader_gets_what_was_invalidated_before_it_asked(
    clients: list[ShardedClient], way: str
) -> None:
    readers = race(clients, way, lambda changes: changes < 200)
    assert [reader.outdated for reader in readers] == [[]] * len(readers)
    assert sum(reader.made for reader in readers) < sum(reader.read for reader in readers)


@pytest.mark.slow
def test_nor_in_ten_seconds(clients: list[ShardedClient]) -> None:
    before = refused(clients[0])
    end = time.monotonic() + 10
    readers = race(clients, "get_or_set", lambda changes: time.monotonic() < end)
    assert [reader.outdated for reader in readers] == [[]] * len(readers)
    assert refused(clients[0]) > before


@pytest.mark.parametrize("leases", [True, False])
def test_what_happens_without_leases(clients: list[ShardedClient], leases: bool) -> None:
    """The same race, step by step: the outdated value stays."""
    reader, writer = clients
    vars(reader)["_leases"] = leases
    database = Database()

    def make() -> dict[str, Any]:
        found = database.versions.copy()
        database.change(writer, "a")
        return found

    reader.get_or_set("page", make, tags=["a"])
    page = reader.get_or_set("page", database.versions.copy, tags=["a"])
    assert page["a"] == (1 if leases else 0)
