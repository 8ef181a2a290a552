"""The clients of Node: ioredis and redis, in two releases each."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from tests.outside.other_redis_clients import programs
from tests.outside.other_redis_clients.programs import NODE
from tests.outside.other_redis_clients.target import Target

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "node", "npm")

# The arguments of node.
PROGRAMS = {
    "ioredis": ["ioredis.mjs", "ioredis"],
    "ioredis-5": ["ioredis.mjs", "ioredis5"],
    "redis-RESP2": ["node_redis.mjs", "redis", "2"],
    "redis-RESP3": ["node_redis.mjs", "redis", "3"],
    "redis-4": ["node_redis.mjs", "redis4"],
}
CASES = programs.cases({name: NODE / source for name, (source, *_) in PROGRAMS.items()})
Results = Callable[[str], dict[str, str | None]]


@pytest.fixture(scope="module")
def results(node_modules: None, shared_target: Target, locked: Target) -> Results:
    """Run a program the first time that one of its tests is asked for."""

    @cache
    def run(program: str) -> dict[str, str | None]:
        source, *arguments = PROGRAMS[program]
        return programs.run(NODE / source, arguments, shared_target, locked)

    return run


@pytest.mark.parametrize(("program", "name"), CASES)
def test_client(program: str, name: str, results: Results) -> None:
    error = results(program)[name]
    assert error is None, error
