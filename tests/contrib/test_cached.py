"""The decorator: results, keys and tags, and single flight."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from datetime import date
from enum import Enum
from functools import wraps
from typing import Any

import pytest

from tagcache.client import AsyncClient, AsyncShardedClient, Client, ShardedClient
from tagcache.client.fake import FakeClient
from tagcache.contrib.cached import cached
from tagcache.contrib.keys import KeyMaker
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument, ConnectionFailed

WAIT = 60.0


class Colour(Enum):
    RED = 1


def loop_run(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    return run


@asynccontextmanager
async def opened(server: Server, **options: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient.from_url(server.url, timeout=WAIT, **options) as client:
        yield client


class Calls:
    """A function that counts its calls, and can be made to wait."""

    def __init__(self) -> None:
        self.count = 0
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, value: Any = None) -> Any:
        self.count += 1
        self.entered.set()
        assert self.go_on.wait(WAIT)
        if isinstance(value, Exception):
            raise value
        return f"{value} {self.count}"


@pytest.fixture
def calls() -> Calls:
    return Calls()


def test_a_result_is_kept_until_its_tag_is_invalidated(
    tagcache_client: Client, calls: Calls
) -> None:
    @cached(tagcache_client, tags=lambda post: [f"post:{post}", "posts"], ttl=60)
    def render(post: int) -> str:
        """Show a post."""
        return str(calls(post))

    assert [render(7), render(7), render(post=7), render(8)] == ["7 1", "7 1", "7 1", "8 2"]
    assert tagcache_client.invalidate_tag("post:7") == 1
    assert [render(7), render(8)] == ["7 3", "8 2"]
    assert tagcache_client.invalidate_tag("posts") == 2
    assert render.__name__ == "render"
    assert render.__doc__ == "Show a post."
    assert render.__wrapped__(1) == "1 4"


def test_a_result_expires(tagcache_client: Client, calls: Calls) -> None:
    @cached(tagcache_client, ttl=0.05)
    def now() -> str:
        return str(calls())

    assert now() == "None 1"
    deadline = threading.Event()
    for _ in range(200):
        if now() != "None 1":
            break
        deadline.wait(0.01)
    assert calls.count == 2


def test_none_and_false_are_results_too(tagcache_client: Client) -> None:
    count = 0

    @cached(tagcache_client)
    def nothing(value: bool | None) -> bool | None:
        nonlocal count
        count += 1
        return value

    assert [nothing(None), nothing(None), nothing(False), nothing(False)] == [None] * 2 + [
        False
    ] * 2
    assert count == 2


def test_one_result_is_invalidated_by_its_arguments(tagcache_client: Client, calls: Calls) -> None:
    @cached(tagcache_client, key="post:{post}:{lang}", tags=["posts"])
    def render(post: int, lang: str = "en") -> str:
        return str(calls(post))

    assert render.key(7) == render.key(post=7, lang="en") == "post:7:en"
    assert not render.invalidate(7)
    render(7)
    assert tagcache_client.get("post:7:en") == "7 1"
    assert tagcache_client.keys_by_tag("posts") == ["post:7:en"]
    assert not render.invalidate(7, lang="de")
    assert render.invalidate(7)
    assert render(7) == "7 2"


def test_methods_are_cached_by_key(tagcache_client: Client, calls: Calls) -> None:
    class Page:
        def __init__(self, number: int) -> None:
            self.number = number

        @cached(tagcache_client, key="page:{self.number}:{lang}")
        def render(self, lang: str) -> str:
            return str(calls(self.number))

        @cached(tagcache_client)
        def unkeyed(self) -> None:
            raise AssertionError("not reached")

    assert [Page(1).render("en"), Page(2).render("en"), Page(1).render("en")] == [
        "1 1",
        "2 2",
        "1 1",
    ]
    assert Page(1).render.key("en") == "page:1:en"
    assert Page(1).render.invalidate("en")
    assert Page(1).render("en") == "1 3"
    assert Page(2).render("en") == "2 2"
    with pytest.raises(BadArgument, match="an argument of type Page: pass key="):
        Page(1).unkeyed()


class TestKeys:
    @staticmethod
    def function(*args: Any, **kwargs: Any) -> None: ...

    def test_keys_have_the_name_and_the_arguments(self) -> None:
        assert KeyMaker(self.function)(1, "a\tb", x=[None, {2: b"c"}]) == (
            "tests.contrib.test_cached.TestKeys.function"
            "(args=tuple[1,'a\\tb'],kwargs=dict['x':list[None,dict[2:b'c']]])"
        )

    def test_different_arguments_have_different_keys(self) -> None:
        make = KeyMaker(self.function)
        different: list[Any] = [1, 1.0, True, "1", b"1", None, "None", (1,), [1], {1}, {1: 1}]
        different += [frozenset([1]), Colour.RED, Colour, date(2026, 1, 1), (1, 1), ((1,), 1)]
        different += ["x" * 500, "y" * 500, "1,2", ("1", "2"), {"a": 1}, {"a": 2}, loop_run]
        keys = [make(value) for value in different]
        keys += [make(a=1), make(a=1, b=2), make(), make(1, a=1)]
        assert len(set(keys)) == len(keys)
        assert max(map(len, keys)) <= 250

    def test_equal_arguments_have_the_same_key(self) -> None:
        make = KeyMaker(self.function)
        assert make({"a": 1, "b": 2}) == make({"b": 2, "a": 1})
        assert make({"a", "b", "c"}) == make({"c", "b", "a"})
        assert make(a=1, b=2) == make(b=2, a=1)

    def test_a_callable_makes_the_key(self) -> None:
        assert KeyMaker(self.function, lambda x, y: f"{x}-{y}")(1, y=2) == "1-2"

    @pytest.mark.parametrize("value", [object(), lambda: 1, iter(())])
    def test_arguments_that_no_key_can_be_made_of(self, value: Any) -> None:
        with pytest.raises(BadArgument, match="pass key="):
            KeyMaker(self.function)(value)

    def test_wrong_arguments_raise_the_error_of_the_call(self) -> None:
        def function(value: object) -> None: ...

        with pytest.raises(TypeError, match="missing a required argument: 'value'"):
            KeyMaker(function)()

    def test_lambdas_have_no_unique_name(self) -> None:
        with pytest.raises(BadArgument, match="has no unique name: pass key="):
            KeyMaker(lambda value: value)
        assert KeyMaker(lambda value: value, "lambda:{value}")(5) == "lambda:5"

    @pytest.mark.parametrize(
        ("key", "why"), [("a{nope}", "names 'nope'"), ("a{", "not a format string")]
    )
    def test_invalid_formats_are_errors_at_once(self, key: str, why: str) -> None:
        with pytest.raises(BadArgument, match=why):
            KeyMaker(self.function, key)


def test_invalid_arguments_are_errors_when_decorating(tagcache_client: Client) -> None:
    async def coroutine() -> None: ...

    def plain() -> None: ...

    with pytest.raises(BadArgument, match="must be a plain function"):
        cached(tagcache_client)(coroutine)
    with pytest.raises(BadArgument, match="must be a coroutine function"):
        cached(AsyncClient())(plain)  # type: ignore[arg-type]
    with pytest.raises(BadArgument, match="must be a collection"):
        cached(tagcache_client, tags="posts")(plain)
    with pytest.raises(BadArgument, match="ttl must be more than 0"):
        cached(tagcache_client, ttl=0)(plain)
    deferred = object()
    with pytest.raises(BadArgument, match="a blocking client or one for asyncio"):
        cached(deferred)(plain)  # type: ignore[call-overload]


def test_tags_are_format_strings_over_the_arguments_and_the_result(
    tagcache_client: Client,
) -> None:
    tags: list[Any] = ["post:{number}", "author:{result[author]}", b"{literal}", "{{braces}}"]

    @cached(tagcache_client, key="post:{number}", tags=tags)
    def find(number: int, lang: str = "en") -> dict[str, Any]:
        return {"number": number, "author": "{number}"}

    assert find(7) == find(7) == {"number": 7, "author": "{number}"}
    for tag in ("post:7", "author:{number}", "{literal}", "{braces}"):
        assert tagcache_client.keys_by_tag(tag) == ["post:7"], tag
    for wrong in ("{nope}", "{"):
        with pytest.raises(BadArgument, match="tags="):
            cached(tagcache_client, key="k", tags=[wrong])(find.__wrapped__)


def test_tags_are_a_function_of_the_arguments_and_the_result(tagcache_client: Client) -> None:
    @cached(
        tagcache_client,
        key="post:{number}",
        tags=lambda number, result: [f"post:{number}", f"author:{result}"],
    )
    def author_of(number: int) -> str:
        return f"Ann {number}"

    @cached(tagcache_client, key="own:{result}", tags=["own:{result}"])
    def own(result: int) -> str:
        """Its parameter has the name of the result."""
        return "x"

    author_of(7)
    own(8)
    assert tagcache_client.keys_by_tag("author:Ann 7") == ["post:7"]
    assert tagcache_client.keys_by_tag("post:7") == ["post:7"]
    assert tagcache_client.keys_by_tag("own:8") == ["own:8"]


@pytest.mark.parametrize("ttl", ["80ms", lambda result: result["ttl"], lambda result: None])
def test_a_time_to_live_as_text_or_of_the_result(ttl: Any) -> None:
    now = 0.0
    with closing(FakeClient(monotonic=lambda: now)) as client:
        calls = 0

        @cached(client, key="k", ttl=ttl)
        def render() -> dict[str, float]:
            nonlocal calls
            calls += 1
            return {"ttl": 0.08}

        render()
        now = 0.079
        render()
        assert calls == 1
        now = 0.081
        render()
        has_limit = isinstance(ttl, str) or ttl({"ttl": 0}) is not None
        assert calls == (2 if has_limit else 1)


@pytest.mark.parametrize("ttl", ["5", "5 m", "m", "0s", "-1m"])
def test_times_to_live_that_are_not_durations(tagcache_client: Client, ttl: str) -> None:
    with pytest.raises(BadArgument, match="like 5m|more than 0"):
        cached(tagcache_client, key="k", ttl=ttl)


def test_a_single_str_as_tags_is_an_error_before_the_call(
    tagcache_client: Client, calls: Calls
) -> None:
    @cached(tagcache_client, tags=lambda: "posts")
    def render() -> Any:
        return calls()

    with pytest.raises(BadArgument, match="must be a collection"):
        render()
    assert calls.count == 0


class TestThreads:
    @pytest.fixture
    def pool(self) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(8) as pool:
            yield pool

    def waiting(self, client: Client, count: int) -> None:
        """Wait until ``count`` threads wait for another, of which one may do so on the server."""
        pause = threading.Event()
        for _ in range(int(100 * WAIT)):
            if client._flights.waiting + client.info()["cache"]["waiting_fetches"] == count:
                return
            pause.wait(0.01)
        raise AssertionError("the threads do not wait")

    @pytest.mark.parametrize("fails", [False, True])
    def test_one_produces_for_all(
        self, tagcache_client: Client, calls: Calls, pool: ThreadPoolExecutor, fails: bool
    ) -> None:
        @cached(tagcache_client, key="k")
        def render() -> Any:
            return calls(KeyError("x") if fails else "made")

        calls.go_on.clear()
        futures = [pool.submit(render) for _ in range(6)]
        self.waiting(tagcache_client, 5)
        calls.go_on.set()
        if fails:
            assert {type(future.exception(WAIT)) for future in futures} == {KeyError}
            assert tagcache_client.get("k") is None
        else:
            assert {future.result(WAIT) for future in futures} == {"made 1"}
        assert calls.count == 1
        assert not tagcache_client._flights._calls

    def test_other_arguments_do_not_wait(
        self, tagcache_client: Client, calls: Calls, pool: ThreadPoolExecutor
    ) -> None:
        @cached(tagcache_client)
        def render(number: int) -> Any:
            return calls(number) if number == 1 else number

        calls.go_on.clear()
        first = pool.submit(render, 1)
        assert calls.entered.wait(WAIT)
        assert render(2) == 2
        calls.go_on.set()
        assert first.result(WAIT) == "1 1"

    def test_a_caller_that_is_slightly_late_finds_the_result(
        self, tagcache_client: Client, calls: Calls
    ) -> None:
        """Its look-up missed, but the other stored before it became the owner."""

        class Late(Client):
            def get(self, key: Any, default: Any = None) -> Any:
                found = super().get(key, default)
                if not self.looked:
                    self.looked = True
                    self.put(key, "of the other")
                return found

            looked = False

        with Late(tagcache_client.options) as client:

            @cached(client)
            def render() -> Any:
                return calls()

            assert render() == "of the other"
            assert calls.count == 0

    def test_a_result_invalidated_meanwhile_is_neither_stored_nor_given_to_later_callers(
        self, tagcache_client: Client, calls: Calls, pool: ThreadPoolExecutor
    ) -> None:
        @cached(tagcache_client, key="k")
        def render() -> Any:
            return calls("made")

        calls.go_on.clear()
        old = pool.submit(render)
        assert calls.entered.wait(WAIT)
        render.invalidate()
        calls.entered.clear()
        new = pool.submit(render)
        assert calls.entered.wait(WAIT)
        calls.go_on.set()
        old.result(WAIT)
        new.result(WAIT)
        assert calls.count == 2
        assert render() == tagcache_client.get("k") == new.result()

    def test_an_invalidated_result_does_not_reach_the_cache(
        self, tagcache_client: Client, calls: Calls
    ) -> None:
        @cached(tagcache_client, key="k")
        def render() -> Any:
            render.invalidate()
            return calls("stale")

        assert render() == "stale 1"
        assert tagcache_client.get("k") is None

    def test_an_invalidation_during_the_store_wins(self, tagcache_client: Client) -> None:
        class Slow(Client):
            def _run(self, work: Any) -> Any:
                done = super()._run(work)
                if b"TAG.SET" in work.payload:
                    self._flights.forget(b"k")
                return done

        with Slow(tagcache_client.options) as client:

            @cached(client, key="k")
            def render() -> str:
                return "stale"

            assert render() == "stale"
            assert client.get("k") is None

    def test_another_caller_produces_when_the_owner_is_interrupted(
        self, tagcache_client: Client, calls: Calls, pool: ThreadPoolExecutor
    ) -> None:
        @cached(tagcache_client, key="k")
        def render() -> Any:
            found = calls("made")
            if calls.count == 1:
                raise SystemExit
            return found

        calls.go_on.clear()

        def interrupted() -> str:
            try:
                render()
            except SystemExit:
                return "interrupted"
            return "not interrupted"

        first = pool.submit(interrupted)
        assert calls.entered.wait(WAIT)
        second = pool.submit(render)
        self.waiting(tagcache_client, 1)
        calls.go_on.set()
        assert first.result(WAIT) == "interrupted"
        assert second.result(WAIT) == "made 2"

    def test_a_recursive_function_does_not_wait_for_itself(self, tagcache_client: Client) -> None:
        depth = 0

        @cached(tagcache_client, key="k")
        def render() -> int:
            nonlocal depth
            depth += 1
            return depth if depth == 3 else render()

        assert render() == 3


def test_an_unavailable_cache_raises_or_is_ignored(calls: Calls) -> None:
    with Client(port=1, ignore_exc=False) as client, pytest.raises(ConnectionFailed):
        cached(client, key="k")(calls.__call__)(1)
    with Client(port=1, ignore_exc=True) as client:
        render = cached(client, key="k")(calls.__call__)
        assert [render("x"), render("x")] == ["x 1", "x 2"]


def test_it_works_over_several_servers(tagcache_server: Server, tagcache_client: Client) -> None:
    with ShardedClient([tagcache_server.url]) as client:
        count = 0

        @cached(client, tags=["t"])
        def render() -> int:
            nonlocal count
            count += 1
            return count

        assert [render(), render()] == [1, 1]
        client.invalidate_tag("t")
        assert render() == 2


class TestTasks:
    @loop_run
    async def test_a_result_is_kept_until_its_tag_is_invalidated(
        self, tagcache_server: Server, tagcache_client: Client, calls: Calls
    ) -> None:
        async with opened(tagcache_server) as client:

            @cached(client, key="p:{post}", tags=lambda post: [f"post:{post}"], ttl=60)
            async def render(post: int) -> Any:
                return calls(post)

            assert asyncio.iscoroutinefunction(render)
            assert [await render(7), await render(7), await render(8)] == ["7 1", "7 1", "8 2"]
            assert await client.invalidate_tag("post:7") == 1
            assert await render(7) == "7 3"
            assert render.key(7) == "p:7"
            assert await render.invalidate(7)
            assert not await render.invalidate(7)
            assert await render(7) == "7 4"

    @pytest.mark.parametrize("fails", [False, True])
    @loop_run
    async def test_one_produces_for_all(
        self, tagcache_server: Server, tagcache_client: Client, calls: Calls, fails: bool
    ) -> None:
        async with opened(tagcache_server) as client:
            go_on = asyncio.Event()

            @cached(client, key="k")
            async def render() -> Any:
                await go_on.wait()
                return calls(KeyError("x") if fails else "made")

            tasks = [asyncio.create_task(render()) for _ in range(6)]
            await self.waiting(client, 5)
            go_on.set()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            if fails:
                assert {type(result) for result in results} == {KeyError}
            else:
                assert set(results) == {"made 1"}
            assert calls.count == 1

    async def waiting(self, client: AsyncClient, count: int) -> None:
        """Wait until so many tasks wait for another, of which one may do so on the server."""
        for _ in range(int(100 * WAIT)):
            on_server = (await client.info())["cache"]["waiting_fetches"]
            if client._flights.waiting + on_server == count:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("the function does not run")

    @loop_run
    async def test_a_cancelled_task_does_not_cancel_the_others(
        self, tagcache_server: Server, tagcache_client: Client, calls: Calls
    ) -> None:
        async with opened(tagcache_server) as client:
            go_on = asyncio.Event()

            @cached(client, key="k")
            async def render() -> Any:
                await go_on.wait()
                return calls("made")

            first, second, third = (asyncio.create_task(render()) for _ in range(3))
            await self.waiting(client, 2)
            first.cancel()
            second.cancel()
            await asyncio.sleep(0.05)
            go_on.set()
            assert await third == "made 1"
            assert first.cancelled()
            assert second.cancelled()

    @loop_run
    async def test_a_result_invalidated_meanwhile_is_not_stored(
        self, tagcache_server: Server, tagcache_client: Client, calls: Calls
    ) -> None:
        async with opened(tagcache_server) as client:

            @cached(client, key="k")
            async def render() -> Any:
                await render.invalidate()
                return calls("stale")

            assert await render() == "stale 1"
            assert await client.get("k") is None

    @loop_run
    async def test_a_recursive_function_does_not_wait_for_itself(
        self, tagcache_server: Server, tagcache_client: Client
    ) -> None:
        async with AsyncShardedClient([tagcache_server.url]) as client:
            depth = 0

            @cached(client, key="k")
            async def render() -> int:
                nonlocal depth
                depth += 1
                return depth if depth == 3 else await render()

            assert await render() == 3

    def test_single_flight_is_per_loop(
        self, tagcache_server: Server, tagcache_client: Client, calls: Calls
    ) -> None:
        client = AsyncClient.from_url(tagcache_server.url, timeout=WAIT)

        @cached(client, key="k")
        async def render() -> Any:
            return calls("made")

        async def twice() -> list[Any]:
            try:
                return [await render(), await render()]
            finally:
                client._pools.here().close()
                await asyncio.sleep(0)

        assert asyncio.run(twice()) == ["made 1"] * 2
        tagcache_client.flush()
        assert asyncio.run(twice()) == ["made 2"] * 2
