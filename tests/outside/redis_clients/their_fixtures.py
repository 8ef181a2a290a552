"""A plugin of pytest for the own tests of clients: what their environment provides otherwise.

The server is at the port TAGCACHE_TEST_PORT. Their coroutines are run by the plugin of anyio.
"""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from typing import Any

import pytest
import redis

PORT = os.environ["TAGCACHE_TEST_PORT"]


def provide(name: str, **contents: Any) -> None:
    """Provide a module that is not installed."""
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(contents)


# cachelib and Flask-Caching start servers of their own with it.
provide("xprocess", ProcessStarter=object)
# The plugin of anyio runs coroutines, and fixtures that are coroutines.
provide("pytest_asyncio", fixture=pytest.fixture)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="class")
def xprocess() -> None:
    """Nothing is started: the server runs."""


@pytest.fixture
def redis_dsn() -> str:
    return f"redis://127.0.0.1:{PORT}/0"


@pytest.fixture
def backend_factory() -> Callable[..., Any]:
    def factory(kind: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        return kind(*arguments, **options)

    return factory


@pytest.fixture
def cache(redis_dsn: str) -> Any:
    """A cache of cashews. It is not closed, because there are tests that are not coroutines."""
    from cashews import Cache

    with redis.Redis.from_url(redis_dsn) as client:
        client.flushdb()
    made = Cache()
    made.setup(redis_dsn, suppress=False)
    return made
