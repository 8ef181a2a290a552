"""Values that come back as the type that they went in with: serde=msgspec, and signed pickle."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import pickle
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

import attrs
import pydantic
import pytest

from tagcache.client import AsyncClient, Client, Options, ShardedClient
from tagcache.client.fake import FakeClient
from tagcache.contrib.cached import cached
from tagcache.contrib.django import TagCache as DjangoCache
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument, CannotDecode

NOW = datetime.datetime(2026, 11, 26, 12, 30, 1, 5, datetime.UTC)


class Colour(enum.Enum):
    RED = "red"


@dataclass
class Author:
    name: str
    born: datetime.date


@dataclass
class Post:
    number: int
    author: Author
    tags: set[str] = field(default_factory=set)
    replies: list[Post] = field(default_factory=list)


@dataclass
class Renamed:
    title: str


@attrs.define
class Point:
    x: float
    y: float


class Row(TypedDict):
    id: uuid.UUID
    price: decimal.Decimal


class Model(pydantic.BaseModel):
    number: int = pydantic.Field(alias="Number")
    at: datetime.datetime

    @pydantic.computed_field
    def twice(self) -> int:
        return self.number * 2


AUTHOR = Author("Ann", datetime.date(1990, 1, 2))
POST = Post(7, AUTHOR, {"a", "b"}, [Post(8, AUTHOR)])
MODEL = Model(Number=7, at=NOW)
VALUES: list[tuple[Any, Any]] = [
    (Post, POST),
    (Point, Point(1.5, float("inf"))),
    (Row, {"id": uuid.UUID(int=7), "price": decimal.Decimal("1.10")}),
    (datetime.datetime, NOW),
    (datetime.datetime, NOW.replace(tzinfo=None)),
    (datetime.timedelta, datetime.timedelta(days=1, microseconds=1)),
    (uuid.UUID, uuid.UUID(int=7)),
    (decimal.Decimal, decimal.Decimal("0.1")),
    (Colour, Colour.RED),
    (tuple[int, str], (1, "a")),
    (set[int], {1, 2}),
    (frozenset[str], frozenset({"a"})),
    (dict[int, bytes], {1: b"\xff"}),
    (list[Post] | None, [POST]),
    (list[Post] | None, None),
    (Annotated[Any, {}], {"a": [1, None]}),
    (Model, MODEL),
    (dict[str, list[Model]], {"a": [MODEL]}),
    (Model | None, None),
]


@pytest.fixture
def client() -> Iterator[FakeClient]:
    with closing(FakeClient(serde="msgspec")) as client:
        yield client


def never() -> Any:
    raise AssertionError("the value is there")


@pytest.mark.parametrize(("kind", "value"), VALUES, ids=lambda each: str(each)[:30])
def test_get_or_set_with_a_type(client: FakeClient, kind: Any, value: Any) -> None:
    assert client.get_or_set("k", lambda: value, type=kind) == value
    found = client.get_or_set("k", never, type=kind)
    assert found == value
    assert type(found) is type(value)


def test_the_annotation_of_a_cached_function(client: FakeClient) -> None:
    class Page:
        @cached(client, key="copy:{self.number}", tags=["author:{result.author.name}"])
        def post(self) -> Post:
            made.append(1)
            return POST

        number = 7

    made: list[int] = []
    page = Page()
    assert page.post() == page.post() == POST
    assert len(made) == 1
    assert client.keys_by_tag("author:Ann") == ["copy:7"]
    assert client.invalidate_tag("author:Ann") == 1

    @cached(client, key="model", type=Model)
    def model():  # type: ignore[no-untyped-def]
        return MODEL

    assert [model(), model()] == [MODEL, MODEL]


def test_coroutines(tagcache_server: Server, tagcache_client: Client) -> None:
    async def run() -> None:
        async with AsyncClient.from_url(
            tagcache_server.url, timeout=60.0, serde="msgspec"
        ) as client:

            @cached(client, key="post")
            async def post() -> Post:
                return POST

            assert [await post(), await post()] == [POST, POST]
            assert await client.get_or_set("post", never, type=Post) == POST

    asyncio.run(run())


def test_a_value_that_does_not_fit_any_more_is_a_miss(tagcache_server: Server) -> None:
    """It was stored by an earlier version of the program."""
    nodes = [tagcache_server.url]
    for ignore_exc in (False, True):
        with ShardedClient(nodes, serde="msgspec", ignore_exc=ignore_exc, timeout=60) as client:
            client.flush()
            client.put("post", {"number": "seven"})
            assert client.get_or_set("post", lambda: POST, type=Post) == POST
            assert client.get_or_set("post", never, type=Post) == POST
            client.put("post", 7)

            @cached(client, key="post", tags=["t"])
            def post() -> Post:
                return POST

            assert [post(), post()] == [POST, POST]
            assert client.keys_by_tag("t") == ["post"]


def test_a_stale_value_that_does_not_fit_is_not_served(client: FakeClient) -> None:
    client.get_or_set("k", lambda: 7, tags=["t"], grace=60)
    client.invalidate_tag("t", soft=True)
    assert client.get_or_set("k", lambda: POST, tags=["t"], type=Post) == POST
    assert client.get_or_set("k", never, type=Post) == POST


def test_without_a_type(client: FakeClient) -> None:
    client.put("k", AUTHOR)
    assert client.get("k") == {"name": "Ann", "born": "1990-01-02"}
    client.put("k", (1, {2}))
    assert client.get("k") == [1, [2]]


def test_a_result_that_is_of_another_type_is_an_error(client: FakeClient) -> None:
    @cached(client, key="k")
    def render() -> Post:
        return Renamed("x")  # type: ignore[return-value]

    with pytest.raises(BadArgument, match="msgspec cannot hold this"):
        render()
    with pytest.raises(BadArgument, match="tuple would come back as list"):
        client.get_or_set("l", lambda: (1,), type=list[int])
    with pytest.raises(BadArgument, match="object is not a type of msgspec"):
        client.get_or_set("l", object, type=object)


def test_types_need_a_serde_that_knows_them(tagcache_client: Client) -> None:
    with pytest.raises(BadArgument, match="serde=json knows no types: use serde=msgspec"):
        tagcache_client.get_or_set("k", lambda: POST, type=Post)

    @cached(FakeClient(serde="msgspec"), key="k")
    def unknown() -> Nowhere:  # type: ignore[name-defined]  # noqa: F821
        return 7

    with pytest.raises(BadArgument, match="annotations of .* cannot be read .*: pass type="):
        unknown()


SECRET = "a secret of the application"


def test_signed_pickle(tagcache_server: Server, tagcache_client: Client) -> None:
    options = {"serde": "signed_pickle", "serde_secret": SECRET, "timeout": 60.0}
    with Client.from_url(tagcache_server.url, **options) as client:
        client.put("k", POST)
        assert client.get("k") == POST
        assert SECRET not in repr(client.options)
        for other in (pickle.dumps(POST), b"", b"x" * 100):
            tagcache_client.put("k", other.decode("latin-1"))
            with Client.from_url(tagcache_server.url, serde="bytes", timeout=60.0) as attacker:
                attacker.put("k", other)
            with pytest.raises(CannotDecode, match="its signature is wrong"):
                client.get("k")


def test_the_secret_of_signed_pickle_comes_from_the_settings() -> None:
    url = "tagcache://127.0.0.1?serde=signed_pickle&serde_secret=" + "s" * 16
    assert Options.from_url(url).serde_secret == "s" * 16
    for secret in (None, "", "s" * 15):
        with pytest.raises(BadArgument, match="needs serde_secret of at least 16 bytes"):
            Client(serde="signed_pickle", serde_secret=secret)
    django = DjangoCache(
        "tagcache://127.0.0.1", {"OPTIONS": {"serde": "signed_pickle", "serde_secret": SECRET}}
    )
    assert django.client._requests._values._serde.name == "signed_pickle"


def test_the_example_of_the_documentation(
    tagcache_server: Server, tagcache_client: Client, tmp_path: Path
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "clients.md").read_text()
    code = text.partition("## Typed values")[2].partition("```python\n")[2].partition("```")[0]
    file = tmp_path / "example.py"
    file.write_text(code.replace("127.0.0.1:1984", f"127.0.0.1:{tagcache_server.port}"))
    subprocess.run([sys.executable, file], check=True, timeout=60)
    assert tagcache_client.keys_by_tag("post:7") == ["post:7"]
