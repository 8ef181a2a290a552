"""The dogpile.cache backend: dogpile's own suites for backends, and tags."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from dogpile.cache import make_region
from dogpile.cache.api import NO_VALUE
from dogpile.testing import fixtures

from tagcache.client import Client, cache_tag
from tagcache.contrib.connecting import AnyClient, Connecting
from tagcache.contrib.dogpile import Mutex, TagCacheBackend, TagRegion, tagged
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument
from tests.integration.running import eventually

ARGUMENTS: dict[str, Any] = {"timeout": 60.0}


@pytest.fixture(scope="module", autouse=True)
def where(tagcache_server: Server) -> None:
    ARGUMENTS["url"] = LOCKING["url"] = tagcache_server.url


@pytest.fixture(autouse=True)
def closed(monkeypatch: pytest.MonkeyPatch, tagcache_client: Client) -> Iterator[None]:
    made: list[AnyClient] = []
    make = Connecting.client

    def remembered(self: Connecting) -> AnyClient:
        made.append(make(self))
        return made[-1]

    monkeypatch.setattr(Connecting, "client", remembered)
    yield
    for client in made:
        client.close()


class TestBackend(fixtures._GenericBackendTestSuite):  # type: ignore[misc]
    backend = "tagcache"
    config_args = {"arguments": ARGUMENTS}

    def test_argument_dictionary_unmodified(self) -> None:
        """Replaces dogpile's test, whose arguments do not exist here, which is an error."""
        arguments = {**ARGUMENTS, "region_tag": "r", "ttl": 5, "lock_sleep": 1}
        before = dict(arguments)
        make_region().configure("tagcache", arguments=arguments)
        assert arguments == before


class TestSerializer(fixtures._GenericSerializerTestSuite, TestBackend):  # type: ignore[misc]
    region_args = {
        "serializer": lambda value: json.dumps(value).encode(),
        "deserializer": json.loads,
    }

    # Ten seconds of sleep, as above.
    @pytest.mark.slow
    def test_threaded_get_multi(self) -> None:
        super().test_threaded_get_multi()


def test_the_serde_of_the_arguments() -> None:
    region = make_region().configure("tagcache", arguments={**ARGUMENTS, "serde": "json"})
    region.set("k", {"a": [1]})
    backend = region.actual_backend
    stored = backend.get_serialized("k")
    assert stored.endswith(b'|{"a":[1]}')
    assert region.get("k") == {"a": [1]}
    backend.set_serialized("k", stored.replace(b"[1]", b"["))
    assert region.get("k") is NO_VALUE
    with pytest.raises(TypeError, match="set, which serde=pickle can hold"):
        region.set("k", {1})


def test_the_serializer_of_a_region_replaces_the_serde() -> None:
    region = make_region(**TestSerializer.region_args)
    region.configure("tagcache", arguments={**ARGUMENTS, "serde": "msgpack"})
    region.set("k", [1, 2])
    assert region.actual_backend.get_serialized("k").endswith(b"|[1, 2]")
    assert region.get("k") == [1, 2]


LOCKING: dict[str, Any] = {"timeout": 60.0, "distributed_lock": True, "lock_sleep": 0.01}


class TestDistributedLock(fixtures._GenericMutexTestSuite):  # type: ignore[misc]
    backend = "tagcache"
    config_args = {"arguments": LOCKING}


class TestMutex:
    @pytest.fixture
    def pair(self, tagcache_server: Server) -> tuple[Mutex, Mutex]:
        backend = TagCacheBackend({**LOCKING, "lock_timeout": 0.2})
        found = backend.get_mutex("k"), TagCacheBackend(LOCKING).get_mutex("k")
        assert isinstance(found[0], Mutex)
        assert isinstance(found[1], Mutex)
        return found[0], found[1]

    def test_it_holds_among_processes(self, pair: tuple[Mutex, Mutex]) -> None:
        first, second = pair
        assert second.acquire()
        assert first.locked()
        assert not first.acquire(wait=False)
        second.release()
        assert not first.locked()
        assert first.acquire(wait=False)

    def test_an_expired_lock_is_not_released_for_another(self, pair: tuple[Mutex, Mutex]) -> None:
        short, long = pair
        assert short.acquire()
        assert long.acquire()
        short.release()
        assert long.locked()
        long.release()
        assert not long.locked()

    def test_a_caller_that_has_waited_for_long_proceeds_without_it(
        self, pair: tuple[Mutex, Mutex]
    ) -> None:
        short, long = pair
        assert long.acquire()
        assert short.acquire()
        short.release()
        assert long.locked()

    def test_an_unavailable_cache_does_not_block_callers(self) -> None:
        arguments = {**LOCKING, "url": "tagcache://127.0.0.1:1", "ignore_exc": True}
        region = TagRegion().configure("tagcache", arguments=arguments)
        assert region.get_or_create("k", lambda: 5) == 5

    def test_there_is_none_by_default(self) -> None:
        backend = TagCacheBackend(ARGUMENTS)
        assert backend.get_mutex("k") is None
        assert not backend.has_lock_timeout()


class Calls:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self, value: Any = None) -> str:
        self.count += 1
        return f"{value} {self.count}"


@pytest.fixture
def calls() -> Calls:
    return Calls()


def region_with(**arguments: Any) -> TagRegion:
    return TagRegion().configure(
        "tagcache", expiration_time=60, arguments={**ARGUMENTS, **arguments}
    )


@pytest.fixture
def region() -> TagRegion:
    return region_with()


class TestTags:
    def test_functions(self, region: TagRegion, calls: Calls, tagcache_client: Client) -> None:
        @region.cache_on_arguments(tags=lambda post: [f"post:{post}", "posts"])
        def show(post: int) -> str:
            region.set("other", post)
            return calls(post)

        assert [show(7), show(7), show(8)] == ["7 1", "7 1", "8 2"]
        assert region.invalidate_tag("post:7") == 1
        assert [show(7), show(8)] == ["7 3", "8 2"]
        show.set("set", 9)
        assert show(9) == "set"
        assert show.refresh(9) == "9 4"
        assert show.get(9) == "9 4"
        assert region.invalidate_tags(["post:9", "posts"], mode="all") == 1
        show.invalidate(8)
        assert show(8) == "8 5"
        assert show.original(1) == "1 6"
        # What the function itself stores does not have its tags.
        assert len(tagcache_client.keys_by_tag("posts")) == 2

    def test_every_way_to_store(self, region: TagRegion, calls: Calls) -> None:
        assert region.get_or_create("a", calls, tags=["t", "u"]) == "None 1"
        region.set("b", 2, tags=["t"])
        region.set_multi({"c": 3, "d": 4}, tags=["t"])
        made = region.get_or_create_multi(["c", "e"], lambda *keys: [5] * len(keys), tags=["t"])
        assert list(made) == [3, 5]
        with tagged("t", "w"):
            region.set("f", 6, tags=["x"])
        assert region.invalidate_tags(["t", "u"], mode="all") == 1
        assert region.invalidate_tags(["w", "x"], mode="all") == 1
        assert region.get("a") is NO_VALUE
        assert region.invalidate_tag("t") == 4
        region.set("g", 7)
        assert region.invalidate_tag("t") == 0

    def test_a_function_that_another_region_wraps(
        self, region: TagRegion, tagcache_client: Client
    ) -> None:
        @region.cache_on_arguments(tags=lambda post: [f"post:{post}"])
        def show(post: int) -> int:
            return post

        other = region_with(key_prefix="2")
        assert other.get_or_create("k", show, creator_args=((7,), {})) == 7
        # The value of the other region is made of one with the tag.
        assert len(tagcache_client.keys_by_tag("post:7")) == 2
        other.delete("k")
        assert other.get_or_create("k", lambda: show.original(7)) == 7
        assert len(tagcache_client.keys_by_tag("post:7")) == 1

    def test_constant_tags(self, region: TagRegion, calls: Calls) -> None:
        show = region.cache_on_arguments(tags=["t"])(lambda post: calls(post))
        assert show(1) == "1 1"
        assert region.invalidate_tag("t") == 1
        with pytest.raises(BadArgument, match="must be a collection"):
            region.cache_on_arguments(tags="t")
        with pytest.raises(BadArgument, match="must be a collection"):
            region.set("k", 1, tags="t")

    def test_values_that_are_created_in_the_background(self, calls: Calls) -> None:
        done = threading.Event()

        def background(region: Any, key: str, creator: Any, mutex: Any) -> None:
            def run() -> None:
                try:
                    region.set(key, creator())
                finally:
                    mutex.release()
                    done.set()

            threading.Thread(target=run).start()

        region = TagRegion(async_creation_runner=background).configure(
            "tagcache", expiration_time=0.01, arguments=ARGUMENTS
        )

        @region.cache_on_arguments(tags=lambda post: [f"post:{post}"])
        def show(post: int) -> str:
            return calls(post)

        # The first time there is no old value to return meanwhile.
        assert show(7) == "7 1"
        done.wait(0.05)
        assert show(7) == "7 1"
        assert done.wait(60)
        assert calls.count == 2
        assert region.invalidate_tag("post:7") == 1

    def test_a_region_is_invalidated_for_every_process(self, calls: Calls) -> None:
        mine, theirs = region_with(region_tag="r"), region_with(region_tag="r")
        other = region_with(key_prefix="o:")
        for region in (mine, other):
            region.set("k", 1, tags=["t"])
        assert theirs.get("k") == 1
        mine.invalidate()
        assert theirs.get("k") is NO_VALUE
        assert other.get("k") == 1
        mine.set("k", 2)
        assert mine.get("k") == 2
        # A soft invalidation is dogpile's: callers get the old value while one creates the new.
        mine.invalidate(hard=False)
        assert mine.get("k") is NO_VALUE
        assert theirs.get("k") == 2

    def test_dogpiles_own_region(self, tagcache_client: Client) -> None:
        region = make_region().configure("tagcache", arguments={**ARGUMENTS, "region_tag": "r"})
        with tagged("t"):
            region.set("k", 1)
        region.set("l", 1)
        assert tagcache_client.keys_by_tag("t") == ["k"]
        assert region.actual_backend.client.invalidate_tag("r") == 2

    def test_a_backend_without_tags_is_an_error(self) -> None:
        region = TagRegion().configure("dogpile.cache.memory")
        with pytest.raises(BadArgument, match="MemoryBackend has no tags"):
            region.invalidate_tag("t")


class TestLeases:
    """One process creates a missing value, and an outdated one is not stored."""

    def region(self, **arguments: Any) -> TagRegion:
        return TagRegion().configure("tagcache", arguments={**ARGUMENTS, **arguments})

    @pytest.mark.parametrize("distributed_lock", [False, True])
    def test_a_missing_value_is_created_once(
        self, tagcache_client: Client, distributed_lock: bool
    ) -> None:
        # Two regions share nothing in this process, like two processes.
        regions = [self.region(distributed_lock=distributed_lock, lock_sleep=0.01) for _ in "12"]
        runs: list[str] = []
        entered, go_on = threading.Event(), threading.Event()

        def create(number: int) -> str:
            runs.append("run")
            entered.set()
            assert go_on.wait(60)
            return f"{number} {len(runs)}"

        functions = [region.cache_on_arguments(tags=["t"])(create) for region in regions]
        before = tagcache_client.info()["cache"]["leases_granted"]
        with ThreadPoolExecutor(6) as pool:
            calls = [pool.submit(function, 7) for function in functions for _ in range(3)]
            assert entered.wait(60)
            if not distributed_lock:
                eventually(lambda: tagcache_client.info()["cache"]["waiting_fetches"] == 1)
            go_on.set()
            assert {call.result(60) for call in calls} == {"7 1"}
        cache = tagcache_client.info()["cache"]
        assert (cache["leases_granted"], cache["leases"]) == (before + 1, 0)
        assert tagcache_client.invalidate_tag("t") == 1

    def test_what_was_invalidated_meanwhile_is_not_stored(
        self, tagcache_client: Client, calls: Calls
    ) -> None:
        region = self.region(region_tag="r")

        def create() -> str:
            if not calls.count:
                tagcache_client.invalidate_tag("t")
            cache_tag("known inside")
            # Its own stores are not under the lease.
            region.set("other", 1)
            return calls(7)

        for made in ("7 1", "7 2", "7 2"):
            assert region.get_or_create("k", create, tags=["t"]) == made
        assert tagcache_client.keys_by_tag("known inside") == tagcache_client.keys_by_tag("t")
        assert len(tagcache_client.keys_by_tag("r")) == 2
        assert tagcache_client.info()["cache"]["leases"] == 0

    def test_what_is_not_stored_gives_the_lease_back(self, tagcache_client: Client) -> None:
        region = self.region()

        def fail() -> str:
            raise KeyError("the database is down")

        with pytest.raises(KeyError):
            region.get_or_create("k", fail)
        assert region.get_or_create("k", lambda: 7, should_cache_fn=lambda value: False) == 7
        assert region.get("k") is NO_VALUE
        assert tagcache_client.info()["cache"]["leases"] == 0
        assert region.get_or_create("k", lambda: 8) == region.get("k") == 8

    def test_an_old_value_is_replaced(self) -> None:
        region = self.region()
        region.set("k", "old")
        assert region.get_or_create("k", lambda: "new", expiration_time=0) == "new"
        assert region.get("k") == "new"


class TestNestedCreators:
    @pytest.fixture
    def inner(self) -> TagRegion:
        return region_with(region_tag="inner region")

    @pytest.fixture
    def outer(self) -> TagRegion:
        return region_with(key_prefix="outer ")

    @pytest.mark.parametrize("is_inner", ["missing", "cached", "declined", "several", "old"])
    def test_the_outer_value_has_the_tags_of_the_inner_one(
        self, inner: TagRegion, outer: TagRegion, tagcache_client: Client, is_inner: str
    ) -> None:
        runs: list[str] = []

        def compute(*keys: str) -> Any:
            runs.append("run")
            cache_tag("known inside")
            return [len(runs)] * len(keys) if keys else len(runs)

        def get() -> Any:
            if is_inner == "several":
                return inner.get_or_create_multi(["k", "l"], compute, tags=["i"])
            expires = 0 if is_inner == "old" and not runs else None
            return inner.get_or_create(
                "k", compute, expires, lambda value: is_inner != "declined", tags=["i"]
            )

        if is_inner == "cached":
            get()
        if is_inner == "old":
            inner.set("k", "old")
        for run in (1, 2):
            assert outer.get_or_create("o", get, tags=["t"]) == (
                [run] * 2 if is_inner == "several" else run
            )
            assert len(runs) == run
            for tag in ("i", "known inside", "inner region", "t"):
                assert "outer o" in tagcache_client.keys_by_tag(tag)
            stored = {"declined": 0, "several": 2}.get(is_inner, 1)
            assert len(tagcache_client.keys_by_tag("known inside")) == 1 + stored
            # Only the inner value is there.
            tagcache_client.delete("outer o")
            assert outer.get_or_create("o", get, tags=["t"])
            assert tagcache_client.invalidate_tag("known inside") == 1 + stored
            del runs[run:]
        assert tagcache_client.info()["cache"]["leases"] == 0

    def test_a_value_made_of_a_stale_one_is_not_stored(
        self, outer: TagRegion, tagcache_client: Client
    ) -> None:
        def fail() -> str:
            raise KeyError("the database is down")

        def get() -> str:
            return tagcache_client.get_or_set("s", fail, grace=60)

        tagcache_client.get_or_set("s", lambda: "stale", tags=["s"], grace=60)
        tagcache_client.invalidate_tag("s", soft=True)
        assert outer.get_or_create("o", get) == "stale"
        assert outer.get("o") is NO_VALUE
        outer.set("o", "old")
        assert outer.get_or_create("o", get, expiration_time=0) == "stale"
        assert outer.get("o") == "old"

    def test_old_values_that_are_replaced_in_the_background(self, tagcache_client: Client) -> None:
        pending: list[Callable[[], None]] = []

        def runner(region: Any, key: str, creator: Callable[[], Any], mutex: Any) -> None:
            def replace() -> None:
                region.set(key, creator())
                mutex.release()

            pending.append(replace)

        def compute() -> str:
            cache_tag("known inside")
            return "new"

        region = TagRegion(async_creation_runner=runner)
        region.configure("tagcache", arguments=ARGUMENTS)
        region.set("k", "old")
        assert region.get_or_create("k", compute, expiration_time=0, tags=["t"]) == "old"
        pending.pop()()
        assert tagcache_client.keys_by_tag("known inside") == ["k"]
        assert tagcache_client.keys_by_tag("t") == ["k"]
        assert region.get("k") == "new"


def test_the_time_to_live_on_the_server(tagcache_client: Client) -> None:
    region = region_with(ttl=0.05)
    region.set("k", 1)
    region.set_multi({"l": 2})
    pause = threading.Event()
    for _ in range(200):
        if tagcache_client.info()["cache"]["items"] == 0:
            return
        pause.wait(0.01)
    raise AssertionError("the entries have not expired")


def test_values_without_room(region: TagRegion, caplog: pytest.LogCaptureFixture) -> None:
    region.set("k", "old")
    assert len(region.get_or_create("l", lambda: "x" * 2_000_000)) == 2_000_000
    region.set("k", "x" * 2_000_000)
    assert region.get("k") is NO_VALUE
    assert "k is not cached" in caplog.text


def test_a_configuration_from_text() -> None:
    region = TagRegion().configure_from_config(
        {
            "cache.backend": "tagcache",
            "cache.expiration_time": "60",
            "cache.arguments.url": ARGUMENTS["url"],
            "cache.arguments.region_tag": "r",
            "cache.arguments.pool_size": "2",
        },
        "cache.",
    )
    region.set("k", 1)
    assert region.invalidate_tag("r") == 1
    assert region.actual_backend.client.options.pool_size == 2


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"serializer": json.dumps}, "are arguments of make_region"),
        ({"serde": "xml"}, "serde=xml is not known"),
        ({"url": ""}, "no server is given"),
        ({"nope": 1}, "nope is not an option"),
        ({"ttl": -1}, "ttl must be more than 0"),
        ({"lock_timeout": 0}, "lock_timeout and lock_sleep"),
    ],
)
def test_invalid_arguments(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(BadArgument, match=why):
        TagCacheBackend({**ARGUMENTS, **arguments})
