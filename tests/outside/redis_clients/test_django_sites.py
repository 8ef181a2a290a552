"""Django sites on Django's own backend for Redis, and on django-redis."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.outside.uvicorn_site import UvicornSite

BACKENDS = {
    "django": ("django.core.cache.backends.redis.RedisCache", {}),
    "django-redis": ("django_redis.cache.RedisCache", {}),
    "compressed": (
        "django_redis.cache.RedisCache",
        {"COMPRESSOR": "django_redis.compressors.zlib.ZlibCompressor"},
    ),
    "JSON": (
        "django_redis.cache.RedisCache",
        {"SERIALIZER": "django_redis.serializers.json.JSONSerializer"},
    ),
}


@pytest.fixture
def site(request: pytest.FixtureRequest, redis_url: str, tmp_path: Path) -> Iterator[httpx.Client]:
    backend, options = BACKENDS[request.param]
    environ = {"CACHE_BACKEND": backend, "CACHE_OPTIONS": json.dumps(options)}
    module = "redis_clients.django_site"
    with (
        UvicornSite(tmp_path, module, CACHE_URL=redis_url, **environ) as running,
        running.client() as client,
    ):
        yield client


def backends(*names: str) -> Any:
    return pytest.mark.parametrize("site", names, indirect=True)


@backends("django", "django-redis")
def test_pages_fragments_and_sessions(site: httpx.Client) -> None:
    assert [site.get("/page").text for _ in range(3)] == ["rendering 1"] * 3
    assert [site.get("/page?b").text for _ in range(2)] == ["rendering 2"] * 2
    assert [site.get("/fragment").text for _ in range(2)] == ["rendering 3"] * 2
    seen = [site.get("/visits").json()["visits"] for _ in range(3)]
    assert seen == [1, 2, 3]
    site.get("/leave")
    assert site.get("/visits").json() == {"visits": 1}
    assert site.get("/values").json() == {
        "get many": {"a": 1, "b": [2, {"c": None}]},
        "incr": 42,
        "add": [False, True],
        "touch": [True, False],
        "get or set": "once",
        "left": [False, False, True],
        "delete": [True, False],
    }


@backends("django-redis", "compressed", "JSON")
def test_what_django_redis_adds(site: httpx.Client) -> None:
    assert site.get("/django-redis").json() == {
        "ttl": [60, 0],
        "persist": [True, None],
        "expire": [True, 30],
        "pexpire": [True, True],
        "keys": ["post:1", "post:2"],
        "iter_keys": ["post:1", "post:2"],
        "incr": [2, 1],
        "incr of a new key": 1,
        "nx": [False, "v"],
        "delete_pattern": [3, []],
        "lock": False,
        "after the lock": False,
        "long": True,
    }
