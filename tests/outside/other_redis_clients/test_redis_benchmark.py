"""redis-benchmark. What counts is that every request was answered, and correctly, not how fast."""

from __future__ import annotations

import csv
import io
import subprocess

import pytest

from tests.distributed.redis_server import CLI
from tests.integration.running import TIMEOUT
from tests.outside.other_redis_clients.target import HOST, PASSWORD, USER, Target, only_ours

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "redis-benchmark")

# The names of the tests in its report, by those of its option -t.
TESTS = {
    "ping_mbulk": "PING_MBULK",
    "set": "SET",
    "get": "GET",
    "incr": "INCR",
    "mset": "MSET (10 keys)",
}


def run(port: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["redis-benchmark", "-h", HOST, "-p", str(port), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )


def measured(port: int, *arguments: str) -> list[str]:
    """The names of the tests that it measured. It ends at the first error."""
    done = run(port, "-q", "--csv", *arguments)
    assert done.returncode == 0, done
    assert "rror" not in done.stderr, done
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert all(float(row["rps"]) > 0 for row in rows)
    return [row["test"] for row in rows]


def ask(port: int, *command: str) -> str:
    done = subprocess.run(
        [CLI, "-p", str(port), *command], capture_output=True, text=True, timeout=TIMEOUT
    )
    return done.stdout.rstrip("\n")


@pytest.mark.parametrize("pipeline", ["1", "16"])
@pytest.mark.parametrize(
    "more", [[], ["-3"], ["--threads", "2"]], ids=["RESP2", "RESP3", "threads"]
)
def test_its_tests_end_without_errors(target: Target, pipeline: str, more: list[str]) -> None:
    arguments = ("-n", "2000", "-c", "20", "-P", pipeline, "-t", ",".join(TESTS), *more)
    assert measured(target.port, *arguments) == list(TESTS.values())
    assert ask(target.port, "get", "counter:__rand_int__") == "2000"
    assert ask(target.port, "strlen", "key:__rand_int__") == "3"


def test_many_keys(target: Target) -> None:
    measured(target.port, "-n", "2000", "-c", "10", "-P", "10", "-r", "100", "-t", "set,incr")
    keys = ask(target.port, "--scan", "--pattern", "key:*").split()
    counters = ask(target.port, "--scan", "--pattern", "counter:*").split()
    # Random keys: some of the hundred may be left out, but hardly half of them.
    assert 50 < len(keys) <= 100
    assert 50 < len(counters) <= 100
    assert sum(map(int, ask(target.port, "mget", *counters).split())) == 2000


def test_large_values(target: Target) -> None:
    measured(target.port, "-n", "50", "-c", "5", "-P", "4", "-d", "200000", "-t", "set,get")
    assert ask(target.port, "strlen", "key:__rand_int__") == "200000"


def test_a_connection_for_each_request(target: Target) -> None:
    measured(target.port, "-n", "200", "-c", "10", "-k", "0", "-t", "set,get")


def test_with_a_password(locked: Target) -> None:
    arguments = ("-n", "100", "-c", "5", "-t", "set,get")
    assert measured(locked.port, "-a", PASSWORD, *arguments) == ["SET", "GET"]
    assert measured(locked.port, "--user", USER, "-a", PASSWORD, *arguments) == ["SET", "GET"]
    assert "NOAUTH" in run(locked.port, *arguments).stderr


def test_a_command_of_ones_own(target: Target) -> None:
    command = ["set", "key:__rand_int__", "v", "EX", "100"]
    assert measured(target.port, "-n", "100", "-r", "10", *command) == [" ".join(command)]
    assert 0 < int(ask(target.port, "dbsize")) <= 10


@only_ours
def test_tagged_entries(target: Target) -> None:
    command = ["tag.set", "key:__rand_int__", "v", "tags", "2", "all", "part:__rand_int__"]
    measured(target.port, "-n", "1000", "-c", "10", "-P", "5", "-r", "50", *command)
    count = ask(target.port, "tag.count", "all")
    assert count == ask(target.port, "dbsize")
    assert 25 < int(count) <= 50


@only_ours
def test_inline_commands_end_it(target: Target) -> None:
    """A connection that does not begin with RESP speaks the line protocol."""
    done = run(target.port, "-n", "10", "-q", "-t", "ping_inline")
    assert done.returncode == 1
    assert "Protocol error" in done.stderr
