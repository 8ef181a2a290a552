"""Fixtures for tests of the Django backend; those for a server come with the package."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import pytest

from tagcache.client import Client
from tagcache.contrib.django import TagCache, close_clients
from tagcache.contrib.pytest_plugin import Server

Call: TypeAlias = Callable[..., Any]
Make: TypeAlias = Callable[..., TagCache]


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    close_clients()


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Call a method of a cache, or the coroutine of the same name."""

    def run(cache: TagCache, name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(cache, name)(*args, **kwargs)
        return asyncio.run(getattr(cache, f"a{name}")(*args, **kwargs))

    return run


@pytest.fixture
def make(tagcache_server: Server, tagcache_client: Client) -> Make:
    def cache(location: Any = tagcache_server.url, **params: Any) -> TagCache:
        return TagCache(location, params)

    return cache


@pytest.fixture
def cache(make: Make) -> TagCache:
    return make()
