"""TagCache answers as Redis does, whatever commands come: both are sent the same, and compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.distributed.redis_server import RedisServer
from tests.integration.running import ENGINE_URL
from tests.outside.redis_clients import commands
from tests.outside.redis_clients.commands import (
    ANY,
    CONNECTIONS,
    ENTRIES,
    FIRST,
    FLUSHES,
    PLAIN,
    QUEUED,
    RUNS,
    SCRIPTS,
    TRANSACTIONS,
    Command,
    Step,
    any_order,
    broken,
    steps,
    transaction,
)
from tests.outside.redis_clients.resp import Connection, Reply
from tests.outside.redis_clients.server import Server

pytestmark = pytest.mark.needs("redis-server", "redis-cli")
# Each example empties both servers, so it may use their fixture again.
several = settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
# docs/redis-clients.md says of which commands.
NOT_IN_A_TRANSACTION = Reply(
    "-", b"ERR not_in_transaction: this cannot be done in a transaction with the Redis engine"
)
PROTOCOL = st.sampled_from([2, 3])
many = settings(several, max_examples=1000)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("compared"))
    yield server
    server.stop()


class Both:
    """Connections of one number to each of the two servers."""

    def __init__(self, ours: int, theirs: int, protocol: int) -> None:
        self.ours, self.theirs = Connection(ours, protocol), Connection(theirs, protocol)
        # How to compare what EXEC answers.
        self.queued: list[commands.Same] = []

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()

    def check(self, command: Command) -> None:
        ours, theirs = self.ours.ask(*command.words), self.theirs.ask(*command.words)
        if command.whole_scan and theirs.kind == "*":
            ours, theirs = whole(self.ours, command, ours), whole(self.theirs, command, theirs)
            same = any_order(ours, theirs)
        elif command.words[0].upper() == b"EXEC" and theirs.content and theirs.kind == "*":
            same = self.same_results(ours, theirs)
        else:
            same = command.same(ours, theirs)
        assert same, f"{command!r}: {ours}, and Redis: {theirs}"
        if theirs == Reply("+", b"QUEUED"):
            self.queued.append(command.same)
        elif command.words[0].upper() in (b"MULTI", b"RESET") and not theirs.is_error:
            self.queued = []

    def same_results(self, ours: Reply, theirs: Reply) -> bool:
        return (
            ours.kind == theirs.kind
            and len(ours.content) == len(theirs.content)
            and all(
                same(a, b) or (ENGINE_URL is not None and a == NOT_IN_A_TRANSACTION)
                for same, a, b in zip(self.queued, ours.content, theirs.content, strict=True)
            )
        )


def whole(connection: Connection, command: Command, reply: Reply) -> Reply:
    """Follow the cursor; return all keys, each once."""
    found: set[bytes] = set()
    while True:
        cursor, keys = reply.content
        found.update(key.content for key in keys.content)
        if cursor == Reply("$", b"0"):
            return Reply("*", [Reply("$", key) for key in found])
        again = list(command.words)
        again[1] = cursor.content
        reply = connection.ask(*again)


Compare = Callable[[int, list[Step]], None]


@pytest.fixture
def compare(redis_server: Server, redis: RedisServer) -> Iterator[Compare]:
    """Send steps to both servers, with a version of the protocol."""
    first = Both(redis_server.port, redis.port, 2)
    for text in SCRIPTS:
        first.check(Command((b"SCRIPT", b"LOAD", text)))

    def compare_steps(protocol: int, drawn: list[Step]) -> None:
        numbers = {number for number, _ in drawn}
        pairs = {each: Both(redis_server.port, redis.port, protocol) for each in numbers}
        try:
            first.check(Command((b"FLUSHALL",)))
            first.check(Command(FIRST))
            for number, sequence in drawn:
                for command in sequence:
                    pairs[number].check(command)
        finally:
            for pair in pairs.values():
                pair.close()

    yield compare_steps
    first.close()


@several
@given(protocol=PROTOCOL, drawn=steps(*ENTRIES.values()))
def test_entries(compare: Compare, protocol: int, drawn: list[Step]) -> None:
    compare(protocol, drawn)


@pytest.mark.slow
@several
@given(protocol=PROTOCOL, drawn=steps(broken(*ENTRIES.values(), *CONNECTIONS.values()), ANY))
def test_wrong_arguments(compare: Compare, protocol: int, drawn: list[Step]) -> None:
    compare(protocol, drawn)


@several
@given(
    protocol=PROTOCOL, drawn=steps(transaction(), *TRANSACTIONS.values(), *QUEUED, connections=3)
)
def test_transactions(compare: Compare, protocol: int, drawn: list[Step]) -> None:
    compare(protocol, drawn)


@pytest.mark.slow
@several
@given(protocol=PROTOCOL, drawn=steps(*RUNS.values(), ANY))
def test_scripts_of_clients(compare: Compare, protocol: int, drawn: list[Step]) -> None:
    compare(protocol, drawn)


@several
@given(protocol=PROTOCOL, drawn=steps(*CONNECTIONS.values(), *FLUSHES.values(), ANY, connections=2))
def test_connections_and_databases(compare: Compare, protocol: int, drawn: list[Step]) -> None:
    compare(protocol, drawn)


@pytest.mark.slow
@pytest.mark.memory_engine("to notice that an absent entry was stored and deleted again")
@many
@given(
    protocol=PROTOCOL,
    drawn=steps(
        *QUEUED,
        FLUSHES["FLUSHDB"],
        *RUNS.values(),
        *TRANSACTIONS.values(),
        transaction(),
        broken(*PLAIN),
        connections=3,
        most=10,
    ),
)
def test_everything(compare: Compare, protocol: int, drawn: list[Step]) -> None:
    compare(protocol, drawn)
