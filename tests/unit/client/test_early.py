"""Probabilistic early refresh: when a caller computes anew what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from math import exp
from random import Random
from typing import Any, NoReturn

import pytest

from tagcache.client import Early
from tagcache.client.fake import FakeClient
from tagcache.contrib.cached import cached
from tagcache.errors import BadArgument
from tagcache.model import stored_values
from tagcache.wire import values


class Time:
    """A clock, and a producer that takes 2 seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.computed = 0

    def produce(self) -> str:
        self.now += 2
        self.computed += 1
        return f"made {self.computed}"


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def client(time: Time) -> Iterator[FakeClient]:
    with closing(FakeClient(monotonic=lambda: time.now)) as client:
        yield client


def never() -> NoReturn:
    raise AssertionError("the value is there")


def before_end(seconds: float) -> Callable[[], float]:
    """Return the random number that refreshes so long before the end what took 2 seconds."""
    return lambda: 1 - exp(-seconds / 2)


def test_one_refreshes_before_the_end(client: FakeClient, time: Time) -> None:
    random = before_end(5)
    early = Early(now=lambda: time.now, random=lambda: random())
    options: dict[str, Any] = {"tags": ["t"], "ttl": 60, "grace": 30, "early": early}
    assert client.get_or_set("k", time.produce, **options) == "made 1"
    assert client.get("k") == "made 1"
    time.now += 54.9
    assert client.get_or_set("k", never, **options) == "made 1"
    time.now += 0.2

    def produce() -> str:
        # The others have the old value meanwhile.
        assert client.get_or_set("k", never, **options) == "made 1"
        return time.produce()

    assert client.get_or_set("k", produce, **options) == "made 2"
    random = before_end(0)
    assert client.get_or_set("k", never, **options) == "made 2"
    assert client.keys_by_tag("t") == ["k"]


def test_who_fails_to_refresh_gets_the_old_value(client: FakeClient, time: Time) -> None:
    def fail() -> str:
        raise KeyError("the database is down")

    early = Early(now=lambda: time.now, random=before_end(61))
    options: dict[str, Any] = {"ttl": 60, "grace": 30, "early": early}
    client.get_or_set("k", time.produce, **options)
    assert client.get_or_set("k", fail, **options) == "made 1"
    assert client.get_or_set("k", time.produce, **options) == "made 2"


def test_an_invalidation_during_the_refresh_refuses_it(client: FakeClient, time: Time) -> None:
    def produce() -> str:
        client.invalidate_tag("t")
        return "outdated"

    early = Early(now=lambda: time.now, random=before_end(61))
    options: dict[str, Any] = {"tags": ["t"], "ttl": 60, "grace": 30, "early": early}
    client.get_or_set("k", time.produce, **options)
    assert client.get_or_set("k", produce, **options) == "outdated"
    assert client.get("k") is None


def test_a_cached_function_refreshes_early(client: FakeClient, time: Time) -> None:
    early = Early(beta=2, now=lambda: time.now, random=before_end(5))
    render = cached(client, key="k", ttl="1m", grace="30s", early=early)(time.produce)
    assert [render(), render()] == ["made 1", "made 1"]
    time.now += 51
    assert render() == "made 2"


def test_values_without_times_are_not_refreshed(client: FakeClient, time: Time) -> None:
    early = Early(now=lambda: time.now, random=before_end(61))
    client.put("k", "old", ttl=60)
    assert client.get_or_set("k", never, ttl=60, grace=30, early=early) == "old"


@pytest.mark.parametrize("options", [{"early": 1.0}, {"early": 1, "ttl": 60}, {"early": 0}])
def test_early_needs_a_time_to_live_and_a_grace(client: FakeClient, options: Any) -> None:
    with pytest.raises(BadArgument, match="early"):
        client.get_or_set("k", never, **options)
    with pytest.raises(BadArgument, match="early"):
        cached(client, key="k", **options)


def test_the_share_of_callers_who_refresh_grows_as_in_the_paper() -> None:
    """At a time t before the end it is exp(-t / (cost * beta))."""
    early = Early(beta=0.5, now=lambda: 97.0, random=Random(7).random)
    share = sum(early.is_due(100.0, 2.0) for _ in range(100_000)) / 100_000
    assert abs(share - exp(-3 / (2 * 0.5))) < 0.003
    assert all(early.is_due(97.0, 2.0) for _ in range(1000))


@pytest.mark.parametrize(
    "content", [b"", b"value", values.stored(b"\xc1t"), values.compressed(b"a")]
)
def test_times_are_in_front_of_any_stored_value(content: bytes) -> None:
    stored = values.timed(content, 1000.5, 2.0)
    assert values.timing(stored) == (1000.5, 2.0)
    assert values.original(stored) == values.original(content)
    assert stored_values.length(stored) == stored_values.length(content)
    assert values.timing(content) is None


def test_broken_times() -> None:
    twice = values.timed(values.timed(b"v", 1, 1), 1, 1)
    with pytest.raises(ValueError, match="two headers"):
        values.original(twice)
    assert values.timing(b"\xc1t123") is None
    assert values.plain(b"\xc1t123", 10) == b""


def test_other_threads_get_the_old_value(client: FakeClient, time: Time) -> None:
    early = Early(now=lambda: time.now, random=before_end(61))
    options: dict[str, Any] = {"ttl": 60, "grace": 30, "early": early}
    client.get_or_set("k", time.produce, **options)
    with ThreadPoolExecutor(1) as pool:

        def produce() -> str:
            other = pool.submit(client.get_or_set, "k", never, **options)
            assert other.result(60) == "made 1"
            return time.produce()

        assert client.get_or_set("k", produce, **options) == "made 2"
