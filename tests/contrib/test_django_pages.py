"""Pages and fragments with tags: Django's test client, and templates."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import Any

import pytest
from django.core.cache import cache as default
from django.core.cache import caches
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.template import TemplateSyntaxError, engines
from django.test import AsyncClient as AsyncVisitor
from django.test import Client as Visitor

from tagcache.client import Client
from tagcache.contrib.django.pages import cache_page
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument, Refused

from tests.contrib.django_project import blog  # isort: skip - the models need its settings
from tests.contrib.blog.models import Author, Post
from tests.contrib.django_urls import made, meanwhile


@pytest.fixture(autouse=True)
def project(tagcache_server: Server, tagcache_client: Client) -> Iterator[None]:
    made.clear()
    with blog(tagcache_server.url, OPTIONS={"timeout": 30}):
        yield
    meanwhile.clear()


def get(path: str, **headers: str) -> str:
    response = Visitor().get(path, headers=headers)
    assert response.status_code == 200
    return str(response.content.decode())


class TestPages:
    def test_a_page_is_kept_until_its_tag_is_invalidated(self) -> None:
        assert [get("/numbered/7") for _ in range(3)] == ["numbered 7 1"] * 3
        assert get("/numbered/8") == "numbered 8 1"
        assert default.invalidate_tag("page:7") >= 1
        assert [get("/numbered/7") for _ in range(2)] == ["numbered 7 2"] * 2
        assert get("/numbered/8") == "numbered 8 1"
        default.invalidate_tag("GET")
        assert (get("/numbered/7"), get("/numbered/8")) == ("numbered 7 3", "numbered 8 2")

    def test_pages_for_different_headers(self) -> None:
        for _ in range(2):
            assert get("/named/x", **{"X-Language": "de"}) == "de 1"
            assert get("/named/x", **{"X-Language": "en"}) == "en 1"
        default.invalidate_tag("de")
        assert get("/named/x", **{"X-Language": "en"}) == "en 1"
        assert get("/named/x", **{"X-Language": "de"}) == "de 2"
        default.invalidate_tag("name:x")
        assert get("/named/x", **{"X-Language": "en"}) == "en 2"
        default.invalidate_tag("named")
        assert get("/named/x", **{"X-Language": "en"}) == "en 3"

    def test_a_page_knows_what_it_was_made_of(self) -> None:
        one, two = (Post.objects.create(title=title) for title in "ab")
        assert [get("/post/1"), get("/post/1"), get("/post/2")] == ["a 1", "a 1", "b 2"]
        one.title = "c"
        one.save()
        assert [get("/post/1"), get("/post/2")] == ["c 3", "b 2"]
        two.delete()
        assert get("/post/1") == "c 3"

    def test_headers_are_those_of_django(self) -> None:
        first, second = (Visitor().get("/numbered/7") for _ in range(2))
        assert first.headers["Cache-Control"] == second.headers["Cache-Control"] == "max-age=60"
        assert first.headers["Expires"] == second.headers["Expires"]
        visitor = Visitor()
        assert [visitor.head("/numbered/7").status_code for _ in range(2)] == [200, 200]
        assert made["numbered 7"] == 1
        assert [Visitor().head("/numbered/9").status_code for _ in range(2)] == [200, 200]
        assert made["numbered 9"] == 1
        assert get("/numbered/9") == "numbered 9 2"

    def test_what_is_not_kept(self) -> None:
        for path in ("/private", "/cookie", "/not-kept", "/form"):
            name = path[1:].replace("-", " ")
            assert [get(path) for _ in range(2)] == [f"{name} 1", f"{name} 2"]
        assert [Visitor().get("/missing").status_code for _ in range(2)] == [404, 404]
        assert made["missing"] == 2
        assert Visitor().post("/class").content == b"posted 1"
        assert [get("/class"), get("/class")] == ["class 1", "class 1"]
        assert Visitor().post("/class").content == b"posted 2"
        default.invalidate_tag("class")
        assert get("/class") == "class 2"

    def test_the_time_of_the_response(self) -> None:
        assert [get("/aged"), get("/aged")] == ["aged 1", "aged 1"]
        (key,) = default.keys("*cache_page*")
        assert 0 < (default.ttl(key) or 0) <= 30

    def test_templates(self) -> None:
        assert [get("/template") for _ in range(2)] == ["0 posts, 1"] * 2
        Post.objects.create(title="a")
        assert [get("/template") for _ in range(2)] == ["1 posts, 2"] * 2

    def test_mistakes(self, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(ImproperlyConfigured, match="LocMemCache"):
            get("/untagged")
        with pytest.raises(BadArgument, match=r"tags='\{nope\}'.*a tag may name request"):
            get("/mistaken")
        with pytest.raises(TypeError, match="needs method_decorator"):
            cache_page(60)(lambda self: None)(object())
        with pytest.raises(BadArgument, match="not a single str"):
            cache_page(60, tags="tag")
        with caplog.at_level(logging.WARNING, "tagcache.contrib"):
            assert get("/many-tags") == "many tags 1"
        assert "the page /many-tags is not cached: the server said: too_many_tags" in caplog.text


class TestFreshPages:
    @pytest.mark.parametrize("warm", [False, True])
    def test_what_is_invalidated_meanwhile_is_not_kept(self, warm: bool) -> None:
        if warm:
            get("/numbered/7")
            default.invalidate_tag("page:7")
        before = made["numbered 7"]
        meanwhile.append(lambda: default.invalidate_tag("page:7"))
        assert get("/numbered/7") == f"numbered 7 {before + 1}"
        meanwhile.clear()
        assert [get("/numbered/7") for _ in range(2)] == [f"numbered 7 {before + 2}"] * 2

    @pytest.mark.parametrize("warm", [False, True])
    def test_one_visitor_of_many_makes_the_page(self, warm: bool) -> None:
        if warm:
            get("/numbered/7")
            default.invalidate_tag("page:7")
        before, making = made["numbered 7"], Event()
        # Each waits for the others to come, if there are others.
        meanwhile.append(lambda: making.wait(0.3))
        # More than there are connections.
        with ThreadPoolExecutor(12) as pool:
            pages = set(pool.map(lambda _: get("/numbered/7"), range(12)))
        assert pages == {f"numbered 7 {before + 1}"}

    @pytest.mark.parametrize("path", ["/private", "/missing"])
    def test_nobody_waits_for_a_page_that_is_not_kept(self, path: str) -> None:
        def visit() -> int:
            return Visitor().get(path).status_code

        first = visit()
        # Both must be there at the same time.
        meanwhile.append(Barrier(2, timeout=60).wait)
        with ThreadPoolExecutor(2) as pool:
            both = [pool.submit(visit) for _ in range(2)]
            assert [each.result(60) for each in both] == [first, first]

    def test_a_failing_view(self) -> None:
        def fail() -> None:
            raise OSError("no database")

        assert get("/graceful") == "graceful 1"
        default.invalidate_tag("graceful", soft=True)
        meanwhile.append(fail)
        assert get("/graceful") == "graceful 1"
        meanwhile.clear()
        assert [get("/graceful") for _ in range(2)] == ["graceful 3"] * 2
        default.invalidate_tag("graceful")
        meanwhile.append(fail)
        with pytest.raises(OSError, match="no database"):
            get("/graceful")
        meanwhile.clear()
        assert get("/graceful") == "graceful 5"

    def test_an_answer_is_not_a_failure(self) -> None:
        from django.http import Http404

        def gone() -> None:
            raise Http404

        get("/graceful")
        default.invalidate_tag("graceful", soft=True)
        meanwhile.append(gone)
        assert Visitor().get("/graceful").status_code == 404

    def test_what_is_not_committed_is_not_kept(self) -> None:
        with transaction.atomic():
            Author.objects.create(name="Ann")
            assert get("/numbered/7") == "numbered 7 1"
        assert get("/numbered/7") == "numbered 7 2"

    def test_without_room(self, caplog: pytest.LogCaptureFixture) -> None:
        meanwhile.append(lambda: None)
        Post.objects.create(title="x" * 1_100_000)
        assert get("/post/1").endswith(" 1")
        assert "the page /post/1 is not cached" in caplog.text
        assert get("/post/1").endswith(" 2")


class TestAsynchronousPages:
    def test_they_are_kept(self) -> None:
        async def visit() -> list[bytes]:
            visitor = AsyncVisitor()
            return [
                (await visitor.get(path)).content
                for path in ("/asynchronous", "/asynchronous-template")
                for _ in range(2)
            ]

        first = asyncio.run(visit())
        assert first == [b"asynchronous 1"] * 2 + [b"0 posts, 1"] * 2
        Post.objects.create(title="a")
        assert asyncio.run(visit()) == [b"asynchronous 1"] * 2 + [b"1 posts, 2"] * 2
        assert default.invalidate_tag("async") >= 2
        assert asyncio.run(visit())[:2] == [b"asynchronous 2"] * 2

    def test_many_visitors(self) -> None:
        async def visit() -> set[bytes]:
            visitor = AsyncVisitor()
            pages = await asyncio.gather(*(visitor.get("/asynchronous") for _ in range(4)))
            return {page.content for page in pages}

        assert asyncio.run(visit()) == {b"asynchronous 1"}


def render(text: str, /, **context: Any) -> str:
    return str(engines["django"].from_string("{% load tagcache %}" + text).render(context))


class TestFragments:
    def test_a_fragment_is_kept_until_its_tags_are_invalidated(self) -> None:
        text = '{% cache 300 "sidebar" user tags="a:{user} list" %}{{ n }}{% endcache %}'
        assert [render(text, user=7, n=n) for n in (1, 2)] == ["1", "1"]
        assert render(text, user=8, n=3) == "3"
        assert default.invalidate_tag("a:7") == 1
        assert [render(text, user=user, n=4) for user in (7, 8)] == ["4", "3"]
        assert default.invalidate_tag("list") == 2

    def test_it_is_djangos_entry(self) -> None:
        from django.core.cache.utils import make_template_fragment_key

        render("{% cache 300 sidebar 7 %}<b>{{ text }}</b>{% endcache %}", text="<&>")
        found = default.get(make_template_fragment_key("sidebar", [7]))
        assert found == "<b>&lt;&amp;&gt;</b>"
        again = "{% cache 300 sidebar 7 %}{% endcache %}"
        assert render(again) == found
        assert render(again.replace("sidebar", '"sidebar"')) == found

    def test_timeouts(self) -> None:
        render("{% cache None a %}{% endcache %}{% cache seconds b %}{% endcache %}", seconds="9")
        left = sorted(default.ttl(key) or 0 for key in default.keys("*"))
        assert left[0] == 0
        assert 0 < left[1] <= 9

    def test_tags_of_objects_and_lists(self) -> None:
        post = Post.objects.create(title="a")
        for tags in (post, [post], [post, "x"], "blog.post:1"):
            text = "{% cache 300 k tags=tags %}{{ n }}{% endcache %}"
            render(text, tags=tags, n=1)
            assert default.invalidate_tag("blog.post:1") == 1

    def test_what_is_read_gives_its_tags_to_all_around(self) -> None:
        text = """{% cache 300 outer %}{% cache 300 inner %}{{ posts.get.title }}{% endcache %}
        {% endcache %}"""
        Post.objects.create(title="a")
        for _ in range(2):
            assert render(text, posts=Post.objects).strip() == "a"
        post = Post.objects.get()
        post.title = "b"
        post.save()
        assert render(text, posts=Post.objects).strip() == "b"

    def test_grace_and_another_cache(self) -> None:
        text = '{% cache 300 k tags="t" grace=60 using="default" wait=1 %}{{ n }}{% endcache %}'
        assert render(text, n=1) == "1"
        assert default.invalidate_tag("t", soft=True) == 1
        assert render(text, n=2) == "2"
        dummy = '{% cache 300 k using="dummy" tags="t" %}{{ n }}{% endcache %}'
        assert [render(dummy, n=n) for n in (3, 4)] == ["3", "4"]

    def test_in_a_changed_transaction_nothing_is_kept(self) -> None:
        text = "{% cache 300 k %}{{ n }}{% endcache %}"
        with transaction.atomic():
            Author.objects.create(name="Ann")
            assert render(text, n=1) == "1"
        assert [render(text, n=n) for n in (2, 3)] == ["2", "2"]

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("{% cache 300 %}{% endcache %}", "needs a timeout and a name"),
            ("{% cache x k %}{% endcache %}", "unknown variable: x"),
            ("{% cache word k %}{% endcache %}", "not a number: 'word'"),
            ('{% cache 9 k tags="a:{no.pk}" %}{% endcache %}', r"unknown variable: no\.pk"),
            ("{% cache 9 k tags=no %}{% endcache %}", "unknown variable: no"),
            ("{% cache 9 k tags=number %}{% endcache %}", "cannot make tags of 7"),
            ('{% cache 9 k using="no" %}{% endcache %}', "CACHES has no 'no'"),
        ],
    )
    def test_mistakes(self, text: str, why: str) -> None:
        with pytest.raises(TemplateSyntaxError, match=why):
            render(text, word="word", number=7)

    def test_a_cache_without_tags(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="LocMemCache"):
            render('{% cache 9 k using="local" %}{% endcache %}')

    def test_too_many_tags(self) -> None:
        with pytest.raises(Refused, match="too_many_tags"):
            render("{% cache 9 k tags=tags %}{% endcache %}", tags=list(map(str, range(101))))
        assert caches["default"].keys("*") == []
