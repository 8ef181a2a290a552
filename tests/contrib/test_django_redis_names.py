"""What django-redis adds to Django's cache API: the same calls return the same from both."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

import tests.contrib.django_project  # noqa: F401 - django-redis reads the settings
from tagcache.contrib.django import TagCache
from tagcache.contrib.django.lock_requests import LockError, LockNotOwned
from tagcache.contrib.pytest_plugin import Server, _started
from tagcache.errors import ConnectionFailed
from tests.contrib.conftest import Call, Make

SOON = datetime.now(UTC) + timedelta(hours=1)
PAST = datetime.now(UTC) - timedelta(hours=1)
# Each after `set("k", 1, 100)` and `set("n", 1, None)`.
CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("ttl", ("k",), {}),
    ("ttl", ("n",), {}),
    ("ttl", ("absent",), {}),
    ("ttl", ("k",), {"version": 2}),
    ("pttl", ("n",), {}),
    ("pttl", ("absent",), {}),
    ("persist", ("k",), {}),
    ("persist", ("n",), {}),
    ("persist", ("absent",), {}),
    ("expire", ("k", 50), {}),
    ("expire", ("k", timedelta(seconds=50)), {}),
    ("expire", ("n",), {"timeout": 50}),
    ("expire", ("k", 0), {}),
    ("expire", ("k", -1), {}),
    ("expire", ("absent", 50), {}),
    ("pexpire", ("k", 50_500), {}),
    ("pexpire", ("k", timedelta(seconds=50)), {}),
    ("pexpire", ("absent", 50_500), {}),
    ("expire_at", ("k", SOON), {}),
    ("expire_at", ("k", int(SOON.timestamp())), {}),
    ("expire_at", ("k", PAST), {}),
    ("expire_at", ("absent", SOON), {}),
    ("pexpire_at", ("k", SOON), {}),
    ("pexpire_at", ("k", int(SOON.timestamp() * 1000)), {}),
    ("pexpire_at", ("k", PAST), {}),
    ("set", ("k", 2), {"nx": True}),
    ("set", ("new", 2), {"nx": True}),
    ("set", ("k", 2), {"xx": True}),
    ("set", ("new", 2), {"xx": True}),
    ("set", ("k", 2, 0), {}),
    ("set", ("new", 2, 0), {"nx": True}),
    ("keys", ("*",), {}),
    ("keys", ("k?",), {}),
    ("keys", ("[kn]",), {"version": 2}),
    ("delete_pattern", ("k*",), {}),
    ("delete_pattern", ("absent*",), {}),
    ("delete_pattern", ("*",), {"version": 2, "itersize": 1}),
    ("delete_pattern", ("*",), {"prefix": "other"}),
]


@pytest.mark.parametrize(("name", "args", "kwargs"), CALLS, ids=range(len(CALLS)))
def test_the_same_as_django_redis(
    make: Make,
    call: Call,
    tagcache_server: Server,
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    from django_redis.cache import RedisCache

    url = tagcache_server.url.replace("tagcache://", "redis://")
    theirs = RedisCache(url, {"KEY_PREFIX": "a*b:c", "REVERSE_KEY_FUNCTION": last})
    ours = make(KEY_PREFIX="a*b:c")
    outcomes = []
    for run in (partial(plainly, theirs), partial(call, ours)):
        run("clear")
        run("set", "k", 1, 100)
        run("set", "k2", 1, 100)
        run("set", "n", 1, None)
        run("set", "k", 1, version=2)
        found = run(name, *args, **kwargs)
        left = [run("pttl", key) for key in ("k", "n", "new")]
        outcomes.append(
            (
                comparable(found),
                type(found),
                [ms if ms is None else round(ms / 60_000) for ms in left],
                run("get_many", ["k", "k2", "n", "new"]),
            )
        )
    theirs.close()
    theirs.client.disconnect()
    assert outcomes[1] == outcomes[0]


def plainly(cache: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(cache, name)(*args, **kwargs)


def comparable(found: Any) -> Any:
    """Return what does not depend on the order of keys, or on the seconds that the test takes."""
    if isinstance(found, list):
        return sorted(found)
    return round(found, -2) if type(found) is int and found > 50 else found


def last(name: str) -> str:
    return name.rpartition(":")[2]


class TestKeys:
    def test_they_are_as_they_were_given(self, make: Make, call: Call) -> None:
        cache = make(KEY_PREFIX="p:*", OPTIONS={"key_prefix": "[shop]:"})
        other = make(KEY_PREFIX="p:x", OPTIONS={"key_prefix": "[shop]:"})
        for key in ("a:1", "a:2", "b:ü"):
            cache.set(key, 1)
            other.set(key, 1)
        cache.set("a:3", 1, version=2)
        assert sorted(call(cache, "keys", "*")) == ["a:1", "a:2", "b:ü"]
        assert call(cache, "keys", "a:*", version=2) == ["a:3"]
        assert call(cache, "delete_pattern", "a:*") == 2
        assert sorted(call(other, "keys", "a:*")) == ["a:1", "a:2"]
        assert sorted(cache.iter_keys("*", itersize=1)) == ["b:ü"]

    def test_many_keys(self, cache: TagCache, call: Call) -> None:
        cache.set_many({f"k{number}": number for number in range(1200)})

        async def found() -> set[str]:
            return {key async for key in cache.aiter_keys("k*", itersize=50)}

        assert len(asyncio.run(found())) == 1200
        assert call(cache, "delete_pattern", "k1*") == 311
        assert len(call(cache, "keys", "*")) == 889

    def test_a_key_function_needs_another_one(self, make: Make, call: Call) -> None:
        def backwards(key: str, prefix: str, version: str | int) -> str:
            return f"{key}.{version}"

        cache = make(KEY_FUNCTION=backwards)
        call(cache, "set", "k", 1)
        with pytest.raises(ImproperlyConfigured, match="REVERSE_KEY_FUNCTION"):
            call(cache, "keys", "*")
        both = make(
            KEY_FUNCTION=backwards, REVERSE_KEY_FUNCTION=lambda name: name.partition(".")[0]
        )
        assert call(both, "keys", "*") == ["k"]

    @pytest.mark.slow
    def test_several_servers(
        self, make: Make, call: Call, tagcache_server: Server, tmp_path_factory: Any
    ) -> None:
        second = _started(tmp_path_factory.mktemp("second"))
        try:
            cache = make([tagcache_server.url, next(second).url, "tagcache://127.0.0.1:1"])
            cache.set_many({f"k{number}": number for number in range(60)})
            there = call(cache, "get_many", [f"k{number}" for number in range(60)])
            assert 10 < len(there) < 60
            assert set(call(cache, "keys", "k*")) == set(there)
            assert 200 < call(cache, "ttl", next(iter(there))) <= 300
            assert call(cache, "delete_pattern", "k*") == len(there)
        finally:
            second.close()


class TestLock:
    @pytest.fixture(params=["sync", "async"])
    def lock(self, request: pytest.FixtureRequest, cache: TagCache) -> Iterator[Any]:
        """Make a lock whose methods may be called as functions."""

        class Blocking:
            def __init__(self, lock: Any) -> None:
                self.lock = lock

            def __getattr__(self, name: str) -> Any:
                return lambda *a, **k: runner.run(getattr(self.lock, name)(*a, **k))

            def __enter__(self) -> Any:
                return runner.run(self.lock.__aenter__())

            def __exit__(self, *details: Any) -> None:
                runner.run(self.lock.__aexit__(*details))

        if request.param == "sync":
            yield cache.lock
            return
        with asyncio.Runner() as runner:
            yield lambda *a, **k: Blocking(cache.alock(*a, **k))

    def test_one_holds_it(self, lock: Any, cache: TagCache) -> None:
        one, other = lock("l", timeout=60), lock("l", timeout=60, blocking=False)
        assert not one.locked()
        assert one.acquire()
        assert one.locked()
        assert one.owned()
        assert not other.acquire()
        assert not other.owned()
        assert 0 < (cache.ttl("l") or 0) <= 60
        one.release()
        assert other.acquire(blocking=True, blocking_timeout=0.05)
        other.release()
        assert not other.locked()

    def test_as_a_context(self, lock: Any) -> None:
        with lock("l"):
            assert lock("l").locked()
            with (
                pytest.raises(LockError, match=":1:l was not acquired in time"),
                lock("l", sleep=0.01, blocking_timeout=0.02),
            ):
                raise AssertionError
        assert not lock("l").locked()

    def test_who_waits_gets_it(self, cache: TagCache) -> None:
        held = cache.lock("l")
        held.acquire()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(cache.lock("l", sleep=0.01).acquire)
            held.release()
            assert waiting.result(60)

    def test_more_time(self, lock: Any, cache: TagCache) -> None:
        one = lock("l", timeout=60)
        one.acquire()
        assert one.extend(60) is True
        assert 100 < (cache.ttl("l") or 0) <= 120
        assert one.extend(300, replace_ttl=True) is True
        assert 250 < (cache.ttl("l") or 0) <= 300
        assert one.reacquire() is True
        assert 0 < (cache.ttl("l") or 0) <= 60

    def test_a_lock_whose_time_is_over(self, lock: Any, cache: TagCache) -> None:
        one = lock("l", timeout=60)
        one.acquire()
        cache.delete("l")
        for late in (one.reacquire, partial(one.extend, 5), one.release):
            with pytest.raises(LockNotOwned, match=":1:l is not held any more"):
                late()
        with pytest.raises(LockError, match="not held here"):
            one.release()

    def test_mistakes(self, lock: Any) -> None:
        one = lock("l")
        with pytest.raises(LockError, match="not held here"):
            one.release()
        for name in ("extend", "reacquire"):
            with pytest.raises(LockError, match="no timeout"):
                getattr(one, name)(*[1][: name == "extend"])

    def test_threads(self, cache: TagCache) -> None:
        lock = cache.lock("l")
        lock.acquire()
        found: list[str] = []

        def release() -> None:
            try:
                lock.release()
            except LockError as error:
                found.append(str(error))

        thread = threading.Thread(target=release)
        thread.start()
        thread.join(60)
        assert re.match("the lock :1:l is not held here", found[0])
        shared = cache.lock("m", thread_local=False)
        shared.acquire()
        with ThreadPoolExecutor(1) as pool:
            pool.submit(shared.release).result(60)

    def test_without_a_cache(self) -> None:
        away = TagCache("tagcache://127.0.0.1:1", {"OPTIONS": {"ignore_exc": True}})
        with pytest.raises(LockError, match="is away"):
            away.lock("l").acquire()
        with pytest.raises(ConnectionFailed):
            TagCache("tagcache://127.0.0.1:1", {}).lock("l").acquire()
        assert away.ttl("k") == 0
        assert away.keys("*") == []
        assert away.expire("k", 5) is False
