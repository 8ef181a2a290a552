"""Flask-Caching: the backend, and tags in its decorators."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import flask_caching
import pytest
from cachelib.serializers import JSONSerializer
from flask import Flask, abort

from tagcache.client import Client, cache_tag
from tagcache.contrib.flask_caching import Cache, TagCache
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument
from tests.integration.running import eventually


class Page:
    """An app with a cache, and the number of times its views ran."""

    def __init__(self, **config: Any) -> None:
        self.app = Flask("page")
        self.app.debug = True
        self.app.config.update(config)
        self.cache = Cache(self.app)
        self.runs = 0

    def run(self) -> str:
        self.runs += 1
        return f"run {self.runs}"

    def get(self, path: str) -> str:
        return self.app.test_client().get(path).text


@pytest.fixture
def page(tagcache_server: Server, tagcache_client: Client) -> Iterator[Page]:
    page = Page(
        CACHE_TYPE="tagcache.contrib.flask_caching.TagCache",
        CACHE_TAGCACHE_URL=tagcache_server.url,
        CACHE_DEFAULT_TIMEOUT=60,
        CACHE_OPTIONS={"timeout": 60.0, "ignore_exc": False},
    )
    yield page
    for backend in page.app.extensions["cache"].values():
        if isinstance(backend, TagCache):
            backend.close()


def test_the_configuration_reaches_the_backend(page: Page, tagcache_client: Client) -> None:
    with page.app.app_context():
        backend: Any = page.cache.cache
        assert type(backend) is TagCache
        assert backend.default_timeout == 60
        assert backend.client.options.timeout == 60.0
        assert page.cache.set("k", 1, tags=["t"])
        assert page.cache.add("l", [2], tags=["t"])
        assert page.cache.set_many({"m": 3}, tags=["t"]) == ["m"]
        assert page.cache.get_many("k", "l", "m") == [1, [2], 3]
        assert sorted(tagcache_client.keys_by_tag("t")) == [f"flask_cache_{k}" for k in "klm"]
        assert page.cache.invalidate_tag("t") == 3


@pytest.mark.parametrize("serializer", [JSONSerializer, JSONSerializer()])
def test_the_serializer_of_the_configuration(
    tagcache_server: Server, tagcache_client: Client, serializer: Any
) -> None:
    page = Page(
        CACHE_TYPE="tagcache.contrib.flask_caching.TagCache",
        CACHE_TAGCACHE_URL=tagcache_server.url,
        CACHE_SERIALIZER=serializer,
    )

    @page.app.get("/")
    @page.cache.cached(key_prefix="page", tags=["t"])
    def show() -> str:
        return page.run()

    assert [page.get("/"), page.get("/")] == ["run 1"] * 2
    assert tagcache_client.get("flask_cache_page") == "run 1"
    with page.app.app_context():
        assert page.cache.invalidate_tag("t") == 1
        backend: Any = page.cache.cache
        backend.close()


def test_the_serde_of_the_options(tagcache_server: Server, tagcache_client: Client) -> None:
    page = Page(
        CACHE_TYPE="tagcache.contrib.flask_caching.TagCache",
        CACHE_TAGCACHE_URL=tagcache_server.url,
        CACHE_OPTIONS={"serde": "json"},
    )
    with page.app.app_context():
        page.cache.set("k", {"a": 1})
        backend: Any = page.cache.cache
        backend.close()
    assert tagcache_client.get("flask_cache_k") == {"a": 1}


def test_views_with_tags(page: Page) -> None:
    @page.app.get("/posts/<int:post_id>")
    @page.cache.cached(tags=lambda post_id: [f"post:{post_id}", "posts"])
    def show(post_id: int) -> str:
        # It does not have the tags of the view.
        page.cache.set("other", post_id)
        return f"{post_id} {page.run()}"

    assert [page.get("/posts/7"), page.get("/posts/7")] == ["7 run 1"] * 2
    assert page.get("/posts/8") == "8 run 2"
    with page.app.app_context():
        assert page.cache.invalidate_tags(["post:7", "posts"], mode="all") == 1
        assert page.cache.get("other") == 8
    assert [page.get("/posts/7"), page.get("/posts/8")] == ["7 run 3", "8 run 2"]
    with page.app.app_context():
        assert page.cache.invalidate_tags(["post:7", "post:8"]) == 2


@pytest.mark.parametrize("kind", ["text", "generator", "async", "error", "tuple"])
def test_every_kind_of_result_has_the_tags(page: Page, kind: str) -> None:
    def text() -> Any:
        return page.run()

    def generator() -> Any:
        yield page.run()
        yield "!"

    async def asynchronous() -> Any:
        return page.run()

    def error() -> Any:
        abort(404, page.run())

    def pair() -> Any:
        return page.run(), 201

    views = [text, generator, asynchronous, error, pair]
    view: Callable[[], Any] = dict(
        zip(["text", "generator", "async", "error", "tuple"], views, strict=True)
    )[kind]
    page.app.get("/")(page.cache.cached(tags=["t"])(view))
    first = page.get("/")
    assert "run 1" in first
    assert page.get("/") == first
    with page.app.app_context():
        assert page.cache.invalidate_tag("t") == 1
    assert "run 2" in page.get("/")


def test_a_result_that_a_filter_declines_leaves_no_tags_behind(page: Page) -> None:
    @page.cache.cached(key_prefix="k", tags=["t"], response_filter=lambda value: False)
    def declined() -> str:
        return page.run()

    with page.app.test_request_context():
        assert [declined(), declined()] == ["run 1", "run 2"]
        page.cache.set("other", "run 5")
        assert page.cache.invalidate_tag("t") == 0


@pytest.mark.parametrize("is_inner", ["missing", "cached", "declined"])
def test_nested_functions_pass_their_tags(
    page: Page, tagcache_client: Client, is_inner: str
) -> None:
    @page.cache.cached(
        key_prefix="inner", tags=["i"], response_filter=lambda value: is_inner != "declined"
    )
    def inner() -> str:
        cache_tag("known inside")
        return page.run()

    @page.cache.memoize(tags=["m"], make_name=lambda name: "middle")
    def middle() -> str:
        return inner() + "?"

    @page.cache.cached(key_prefix="outer", tags=["o"])
    def outer() -> str:
        return middle() + "!"

    with page.app.test_request_context():
        if is_inner == "cached":
            assert inner() == "run 1"
        assert outer() == "run 1?!"
        has_inner = ["flask_cache_inner"] if is_inner != "declined" else []
        for tag in ("i", "known inside", "m"):
            assert "flask_cache_outer" in tagcache_client.keys_by_tag(tag)
        assert tagcache_client.keys_by_tag("o") == ["flask_cache_outer"]
        assert len(tagcache_client.keys_by_tag("i")) == 2 + len(has_inner)
        assert page.cache.invalidate_tag("known inside") == 2 + len(has_inner)
        assert outer() == "run 2?!"


def test_a_stale_value_is_not_stored_in_what_is_made_of_it(
    page: Page, tagcache_client: Client
) -> None:
    def fail() -> str:
        raise KeyError("the database is down")

    @page.cache.cached(key_prefix="outer")
    def outer() -> str:
        return tagcache_client.get_or_set("s", fail, grace=60)

    tagcache_client.get_or_set("s", lambda: "old", tags=["s"], grace=60)
    tagcache_client.invalidate_tag("s", soft=True)
    with page.app.test_request_context():
        assert outer() == "old"
    assert tagcache_client.get("flask_cache_outer") is None
    assert leases(tagcache_client)[1] == 0


def test_callables_may_look_up_other_keys(page: Page, tagcache_client: Client) -> None:
    def key() -> str:
        return f"key {page.cache.get('no version')}"

    def accepts(value: str) -> bool:
        return page.cache.get("no flag") is None

    @page.cache.cached(make_cache_key=key, response_filter=accepts, tags=["t"])
    def compute() -> str:
        return page.run()

    with page.app.test_request_context():
        assert [compute(), compute()] == ["run 1", "run 1"]
    assert tagcache_client.keys_by_tag("t") == ["flask_cache_key None"]
    assert leases(tagcache_client)[1] == 0


def test_a_stale_result_is_replaced_whatever_decides_so(
    page: Page, tagcache_client: Client
) -> None:
    def is_stale(value: str) -> bool:
        return page.cache.get("no version") is None

    @page.cache.cached(key_prefix="k", is_stale=is_stale, tags=["t"])
    def compute() -> str:
        return page.run()

    with page.app.test_request_context():
        assert [compute(), compute()] == ["run 1", "run 2"]
        assert page.cache.get("k") == "run 2"
    assert tagcache_client.keys_by_tag("t") == ["flask_cache_k"]
    assert leases(tagcache_client)[1] == 0


def test_memoized_functions_with_tags(page: Page, tagcache_client: Client) -> None:
    @page.cache.memoize(tags=lambda a, b=2: [f"a:{a}", "all"])
    def add(a: int, b: int = 2) -> str:
        return f"{a + b} {page.run()}"

    with page.app.test_request_context():
        assert [add(1), add(1, 2), add(2)] == ["3 run 1", "3 run 1", "4 run 2"]
        # Entries of Flask-Caching itself are not removed.
        assert len(tagcache_client.keys_by_tag("all")) == 2
        assert page.cache.invalidate_tag("a:1") == 1
        assert [add(1), add(2)] == ["3 run 3", "4 run 2"]
        page.cache.delete_memoized(add, 2)
        assert add(2) == "4 run 4"
        page.cache.delete_memoized(add)
        assert add(1) == "3 run 5"
        assert add.uncached(5) == "7 run 6"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def leases(client: Client) -> tuple[int, int]:
    """Return how many leases were granted, and how many are out."""
    cache = client.info()["cache"]
    return cache["leases_granted"], cache["leases"]


@pytest.mark.parametrize("kind", ["cached", "memoize"])
def test_one_process_computes_for_all(
    page: Page, tagcache_client: Client, pool: ThreadPoolExecutor, kind: str
) -> None:
    """The other app stands for another process: it shares nothing with the first."""
    other = Page(**page.app.config)
    runs: list[int] = []

    def decorated(page: Page) -> Callable[[int], str]:
        decorate: Any = page.cache.memoize(tags=["t"], make_name=lambda name: "compute")
        if kind == "cached":
            decorate = page.cache.cached(tags=["t"], make_cache_key=lambda number: f"k{number}")

        @decorate
        def compute(number: int) -> str:
            runs.append(number)
            if number:
                eventually(lambda: tagcache_client.info()["cache"]["waiting_fetches"])
            return f"{len(runs)}"

        def call(number: int) -> str:
            with page.app.test_request_context():
                return str(compute(number))

        return call

    functions = [decorated(page), decorated(other)]
    # Flask-Caching keeps a version of a memoized function, which its first caller makes.
    functions[0](0)
    before, _ = leases(tagcache_client)
    calls = [pool.submit(function, 7) for function in functions for _ in range(3)]
    assert {call.result(60) for call in calls} == {"2"}
    assert leases(tagcache_client) == (before + 1, 0)
    with other.app.app_context():
        assert other.cache.invalidate_tag("t") == 2
        backend: Any = other.cache.cache
        backend.close()


def test_an_outdated_result_is_not_stored(page: Page, tagcache_client: Client) -> None:
    @page.cache.memoize(tags=["t"])
    def compute() -> str:
        if page.runs == 0:
            tagcache_client.invalidate_tag("t")
        return page.run()

    with page.app.test_request_context():
        assert [compute(), compute(), compute()] == ["run 1", "run 2", "run 2"]
    assert leases(tagcache_client)[1] == 0


@pytest.mark.parametrize("ends", ["declined", "raises", "expired"])
def test_what_is_not_stored_gives_the_lease_back(
    page: Page, tagcache_client: Client, ends: str
) -> None:
    @page.cache.cached(
        key_prefix="k",
        timeout=-1 if ends == "expired" else 60,
        response_filter=lambda value: ends != "declined",
    )
    def compute() -> str:
        if ends == "raises":
            raise KeyError("the database is down")
        return page.run()

    with page.app.test_request_context():
        for _ in range(2):
            with pytest.raises(KeyError) if ends == "raises" else nullcontext():
                compute()
            assert leases(tagcache_client)[1] == 0
    assert page.runs == (0 if ends == "raises" else 2)


def test_tags_that_only_the_function_knows(page: Page, tagcache_client: Client) -> None:
    @page.cache.cached(key_prefix="k", tags=["t"])
    def compute() -> str:
        cache_tag("author:7")
        # It has nothing to do with the lease.
        page.cache.set("other", page.cache.get("nothing") or "x")
        return page.run()

    with page.app.test_request_context():
        assert [compute(), compute()] == ["run 1", "run 1"]
        assert sorted(tagcache_client.keys_by_tag("author:7")) == ["flask_cache_k"]
        compute.cache_timeout = 30
        assert page.cache.invalidate_tag("author:7") == 1
        assert compute() == "run 2"
    assert tagcache_client.keys_by_tag("t") == ["flask_cache_k"]


def test_a_null_cache_ignores_tags() -> None:
    page = Page(CACHE_TYPE="NullCache", CACHE_NO_NULL_WARNING=True)

    @page.cache.cached(key_prefix="k", tags=["t"])
    def run() -> str:
        return page.run()

    with page.app.test_request_context():
        assert [run(), run()] == ["run 1", "run 2"]
        page.cache.set("k", 1, tags=["t"])
        assert page.cache.invalidate_tag("t") == page.cache.invalidate_tags(["t"]) == 0


def test_a_backend_without_tags_is_an_error() -> None:
    page = Page(CACHE_TYPE="SimpleCache")
    with page.app.app_context(), pytest.raises(BadArgument, match="SimpleCache has no tags"):
        page.cache.invalidate_tag("t")


def test_flask_cachings_own_cache(tagcache_server: Server, page: Page) -> None:
    """It has no tags in its decorators."""
    app = Flask("other")
    plain = flask_caching.Cache(app, config=dict(page.app.config))
    with app.app_context():
        backend: Any = plain.cache
        plain.set("k", 1, tags=["t"])
        assert backend.invalidate_tag("t") == 1
        backend.close()


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"CACHE_TAGCACHE_URL": ""}, "CACHE_TAGCACHE_URL names no server"),
        ({"CACHE_ARGS": ["tagcache://h"]}, "CACHE_ARGS cannot take effect"),
        ({"CACHE_OPTIONS": {"nope": 1}}, "nope is not an option"),
    ],
)
def test_invalid_settings(config: dict[str, Any], why: str) -> None:
    base = {
        "CACHE_TYPE": "tagcache.contrib.flask_caching.TagCache",
        "CACHE_TAGCACHE_URL": "tagcache://127.0.0.1:1984",
    }
    with pytest.raises(BadArgument, match=why):
        Page(**{**base, **config})


def test_tags_must_be_a_collection() -> None:
    page = Page(CACHE_TYPE="NullCache", CACHE_NO_NULL_WARNING=True)
    with pytest.raises(BadArgument, match="must be a collection"):
        page.cache.cached(tags="t")
