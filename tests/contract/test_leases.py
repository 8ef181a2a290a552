"""get_or_set of every kind of client: computed once, never outdated, old rather than none."""

from __future__ import annotations

import functools
import itertools
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import pytest

from tagcache.client import Client, Early, cache_tag
from tagcache.errors import BadArgument, Refused
from tests.integration.running import RunningServer, eventually

WAIT = 60.0


def never() -> NoReturn:
    raise AssertionError("the value is there")


def broken() -> NoReturn:
    raise KeyError("the database is down")


@pytest.fixture
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of client."""
    return str(request.node.callspec.params["make"])


def test_what_was_invalidated_meanwhile_is_returned_and_not_stored(
    client: Any, kind: str, request: pytest.FixtureRequest
) -> None:
    servers = ["running", "second"] if "sharded" in kind else ["running"]
    ports = [request.getfixturevalue(name).port for name in servers]

    def produce() -> str:
        for port in ports:
            with Client(port=port, timeout=WAIT) as other:
                (client if kind == "fake" else other).invalidate_tag("t")
        return "old"

    assert client.get_or_set("key", produce, tags=["t"]) == "old"
    assert client.get("key") is None
    assert client.get_or_set("key", lambda: "new", tags=["t"]) == "new"
    assert client.get_or_set("key", never) == "new"


def test_a_soft_invalidation_lets_the_old_value_serve(client: Any) -> None:
    options: dict[str, Any] = {"tags": ["t"], "ttl": 60, "grace": 60}
    client.get_or_set("key", lambda: "old", **options)
    assert client.invalidate_tag("t", soft=True) == 1
    assert client.get("key") is None
    # The one who computes gets the old value only if that fails.
    assert client.get_or_set("key", broken, **options) == "old"
    assert client.get_or_set("key", lambda: "new", **options) == "new"
    assert client.get("key") == "new"
    assert client.invalidate_tags(["t", "u"], soft=True) == 1
    assert client.invalidate_tags(["t"], "all") == 0
    with pytest.raises(KeyError):
        client.get_or_set("key", broken, **options)


def test_others_get_the_old_value_while_one_computes(
    client: Any, kind: str, running: RunningServer
) -> None:
    if kind == "fake" or "sharded" in kind:
        pytest.skip("nobody else uses that cache, or another server")
    options: dict[str, Any] = {"tags": ["t"], "grace": 60}
    client.get_or_set("key", lambda: "old", **options)
    client.invalidate_tag("t", soft=True)
    with Client(port=running.port, timeout=WAIT) as other, ThreadPoolExecutor(1) as pool:

        def produce() -> str:
            # In a thread of its own: this value is not made of that one.
            look_up = functools.partial(other.get_or_set, "key", never, **options)
            assert pool.submit(look_up).result(WAIT) == "old"
            return "new"

        assert client.get_or_set("key", produce, **options) == "new"
        assert other.get_or_set("key", never, **options) == "new"


def test_a_producer_that_fails_gives_the_lease_back(client: Any) -> None:
    with pytest.raises(KeyError):
        client.get_or_set("key", broken)
    assert client.get_or_set("key", lambda: "made") == "made"
    assert client.get("key") == "made"


def test_what_cannot_be_stored_gives_the_lease_back(client: Any) -> None:
    with pytest.raises(Refused):
        client.get_or_set("key", lambda: "x" * 2_000_000)
    with pytest.raises(BadArgument):
        client.get_or_set("key", lambda: "v", tags=[""])
    with pytest.raises(BadArgument):
        client.get_or_set("key", never, grace=-1)
    with pytest.raises(BadArgument):
        client.get_or_set("key", never, wait=-1)
    assert client.get_or_set("key", lambda: "made") == "made"
    assert client.get("key") == "made"


def test_others_wait_for_the_value(client: Any, kind: str, running: RunningServer) -> None:
    if kind == "fake" or "sharded" in kind:
        pytest.skip("nobody else uses that cache, or another server")
    with (
        Client(port=running.port, timeout=WAIT) as other,
        Client(port=running.port, timeout=WAIT) as control,
        ThreadPoolExecutor(1) as pool,
    ):
        futures = []

        def produce() -> str:
            futures.append(pool.submit(other.get_or_set, "key", never, wait=WAIT))
            eventually(lambda: control.info()["cache"]["waiting_fetches"] == 1)
            return "made"

        assert client.get_or_set("key", produce) == "made"
        assert futures[0].result(WAIT) == "made"


def test_who_does_not_want_to_wait_computes_for_itself(
    client: Any, kind: str, running: RunningServer
) -> None:
    if kind == "fake" or "sharded" in kind:
        pytest.skip("nobody else uses that cache, or another server")
    with Client(port=running.port, timeout=WAIT) as other:

        def produce() -> str:
            assert other.get_or_set("key", lambda: "its own", wait=0) == "its own"
            assert other.get("key") is None
            return "made"

        assert client.get_or_set("key", produce) == "made"
        assert other.get("key") == "made"


def test_tags_that_only_the_producer_knows(client: Any) -> None:
    def produce() -> str:
        cache_tag("a", b"b")
        return "made"

    assert client.get_or_set("key", produce, tags=["t"]) == "made"
    for tag in ("a", "b", "t"):
        assert client.keys_by_tag(tag) == ["key"]
    assert client.invalidate_tag("a") == 1
    cache_tag("outside")
    with pytest.raises(BadArgument):
        cache_tag("")


def test_tags_and_time_to_live_of_the_result(client: Any) -> None:
    found = client.get_or_set(
        "key", lambda: {"author": "ann"}, tags=lambda post: [post["author"]], ttl=lambda _: "5m"
    )
    assert found == {"author": "ann"}
    assert client.keys_by_tag("ann") == ["key"]
    with pytest.raises(TypeError):
        client.get_or_set("other", lambda: 7, tags=lambda post: post["author"])
    with pytest.raises(BadArgument):
        client.get_or_set("other", lambda: 7, ttl=lambda _: 0)
    assert client.get_or_set("other", lambda: "made") == "made"


def test_a_value_of_a_type(make: Any) -> None:
    client = make(serde="msgspec")
    assert client.get_or_set("key", lambda: {1, 2}, type=set[int]) == {1, 2}
    assert client.get_or_set("key", never, type=set[int]) == {1, 2}
    assert client.get_or_set("key", lambda: {"a"}, type=set[str]) == {"a"}


def test_an_early_refresh(client: Any) -> None:
    # The clock goes on by a second at each look.
    clock = itertools.count(1000.0)
    early = Early(beta=100, now=lambda: next(clock), random=lambda: 0.9)
    options: dict[str, Any] = {"tags": ["t"], "ttl": 60, "grace": 60, "early": early}
    assert client.get_or_set("key", lambda: "old", **options) == "old"
    assert client.get_or_set("key", lambda: "new", **options) == "new"
    assert client.get("key") == "new"
    options["early"] = Early(beta=1e-6, now=early.now)
    assert client.get_or_set("key", never, **options) == "new"
    assert client.invalidate_tag("t") == 1


def test_a_soft_invalidation_by_key(client: Any) -> None:
    client.get_or_set("key", lambda: "old", grace=60)
    assert client.invalidate_keys(["key", "other"], soft=True) == 1
    assert client.get("key") is None
    assert client.get_or_set("key", broken, grace=60) == "old"
