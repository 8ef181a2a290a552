"""Half a minute of readers and writers who race for a database, behind each kind of cache."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from itertools import cycle
from typing import Any

import pytest

from tagcache.client import ShardedClient
from tests.contract import test_race
from tests.distributed.test_leases import Fronts
from tests.integration import test_fresh_values
from tests.integration.running import RunningServer
from tests.reliability import Measured

SECTION = "races"
EXPECTED = "no reader gets a value that was invalidated before it asked; with plain stores, some do"

SECONDS = int(os.environ.get("TAGCACHE_SOAK_RACE_SECONDS", "30"))
# Of the control.
SHORTER = max(SECONDS // 3, 1)

pytestmark = [pytest.mark.soak, pytest.mark.timeout(2 * SECONDS + 120)]


@pytest.fixture(
    params=[
        "memory engine",
        pytest.param("Redis", marks=pytest.mark.needs("redis-server", "redis-cli")),
        pytest.param("cluster", marks=pytest.mark.needs("redis-server", "redis-cli")),
    ]
)
def place(
    request: pytest.FixtureRequest,
    server: RunningServer,
    front: Callable[..., RunningServer],
    redis: Callable[..., Any],
) -> tuple[str, test_fresh_values.Connects]:
    """What it is, and where clients connect to: one server, or two that share their entries."""
    if request.param == "memory engine":
        return "the memory engine", server
    there = request.getfixturevalue("cluster") if request.param == "cluster" else redis()
    both = [front(there.url) for _ in range(2)]
    name = "a cluster of three" if request.param == "cluster" else "Redis"
    return f"two servers over {name}", Fronts(both[0], both[1], cycle(both))


def test_readers_and_writers(
    place: tuple[str, test_fresh_values.Connects], measured: Measured
) -> None:
    name, connects = place

    def race(seconds: int, leased: bool) -> tuple[Counter[str], int]:
        end = time.monotonic() + seconds

        def goes_on(*_: object) -> bool:
            # So that some values are read before they are invalidated.
            time.sleep(0.005)
            return time.monotonic() < end

        readers = test_fresh_values.race(connects, goes_on, leased)
        seen = sum((reader.seen for reader in readers), Counter())
        return seen, sum(len(reader.outdated) for reader in readers)

    seen, outdated = race(SECONDS, leased=True)
    control, outdated_there = race(SHORTER, leased=False)
    assert outdated == 0
    assert seen["HIT"]
    assert seen["REFUSED"]
    assert outdated_there
    reads = seen.total() - seen["OK"] - seen["REFUSED"]
    measured(
        f"5 readers and 3 writers race for {SECONDS} s: {name}",
        EXPECTED,
        f"{reads:,} reads, {seen['HIT']:,} of them hits; {seen['OK']:,} values stored, "
        f"{seen['REFUSED']:,} refused; 0 outdated values. With `PUT` in {SHORTER} s: "
        f"{outdated_there:,} of {control['VALUE']:,} hits were outdated",
    )


def test_the_sharded_client(start: Callable[..., RunningServer], measured: Measured) -> None:
    nodes = [f"tagcache://127.0.0.1:{start().port}" for _ in range(2)]
    clients = [ShardedClient(nodes, timeout=60) for _ in range(2)]

    def race(seconds: int) -> tuple[list[test_race.Reader], int]:
        end = time.monotonic() + seconds
        readers = test_race.race(clients, "get_or_set", lambda _: time.monotonic() < end)
        return readers, sum(len(reader.outdated) for reader in readers)

    try:
        readers, outdated = race(SECONDS)
        refused = test_race.refused(clients[0])
        for client in clients:
            vars(client)["_leases"] = False
            client.flush()
        control, outdated_there = race(SHORTER)
    finally:
        for client in clients:
            client.close()
    assert outdated == 0
    assert refused
    assert outdated_there
    reads, made = sum(each.read for each in readers), sum(each.made for each in readers)
    measured(
        f"8 readers and 3 writers race for {SECONDS} s: `get_or_set` of two sharded clients, over "
        "two servers",
        EXPECTED,
        f"{reads:,} reads; {made:,} values computed, {refused:,} refused; 0 outdated values. "
        f"Without leases in {SHORTER} s: {outdated_there:,} of "
        f"{sum(each.read for each in control):,} reads were outdated",
    )
