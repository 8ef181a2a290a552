"""Tags of Django's models: invalidated when a change is committed, collected by what is read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest
from asgiref.sync import sync_to_async
from django.core.cache import cache as default
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, models, transaction
from django.test import override_settings

from tagcache.client import Client
from tagcache.client.collecting import collecting
from tagcache.contrib.django.models import (
    cache_tag,
    invalidate_objects,
    invalidate_on_commit,
    model_tag,
    object_tag,
    reads,
    register,
)
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import BadArgument, ConnectionFailed

from tests.contrib.django_project import blog  # isort: skip - the models need its settings
from tests.contrib.blog.models import Author, Draft, Essay, Post, Review, Topic, Unregistered


@pytest.fixture(autouse=True)
def project(tagcache_server: Server, tagcache_client: Client) -> Iterator[None]:
    with blog(tagcache_server.url):
        yield


def gone(change: Callable[[], object], *tags: str) -> set[str]:
    """Return which of the tags a change invalidates."""
    for tag in tags:
        default.set(tag, 1, tags=[tag])
    change()
    return set(tags) - set(default.get_many(tags))


def collected(read: Callable[[], object]) -> set[str]:
    """Return the tags of what is read."""
    with collecting() as found:
        read()
    return {tag.decode() for tag in found}


ALL = ("blog.post", "blog.post:1", "blog.post:2", "blog.review", "blog.review:1", "blog.author")
ALL += ("blog.author:1", "blog.topic", "blog.topic:1", "blog.topic:2", "blog.unregistered")


class TestNames:
    def test_names(self) -> None:
        assert model_tag(Post) == model_tag(Draft) == "blog.post"
        assert object_tag(Post, 7) == object_tag(Draft(pk=7)) == "blog.post:7"


class TestRegister:
    def test_it_decorates(self) -> None:
        assert register(Post) is Post
        assert register(cache="default")(Post) is Post

    def test_an_abstract_model(self) -> None:
        class Base(models.Model):
            class Meta:
                app_label = "blog"
                abstract = True

        with pytest.raises(ImproperlyConfigured, match="Base is abstract: register the models"):
            register(Base)


class TestChanges:
    def test_saving_and_deleting(self) -> None:
        post = Post(title="a")
        assert gone(post.save, *ALL) == {"blog.post", "blog.post:1", "blog.review", "blog.review:1"}
        Post.objects.create(title="b")
        assert gone(post.save, "blog.post", "blog.post:1", "blog.post:2") == {
            "blog.post",
            "blog.post:1",
        }
        assert gone(post.delete, "blog.post", "blog.post:1", "blog.post:2") == {
            "blog.post",
            "blog.post:1",
        }
        assert gone(Post.objects.all().delete, "blog.post:1", "blog.post:2") == {"blog.post:2"}
        assert gone(Unregistered(name="a").save, *ALL) == set()

    def test_what_is_deleted_with_an_object(self) -> None:
        author = Author.objects.create(name="Ann")
        Post.objects.create(title="a", author=author)
        assert gone(author.delete, *ALL) >= {"blog.author:1", "blog.post:1"}

    def test_proxies_children_and_parents(self) -> None:
        draft = Draft.objects.create(title="a")
        assert gone(draft.save, *ALL) >= {"blog.post", "blog.post:1"}
        assert gone(Draft.objects.get().delete, *ALL) >= {"blog.post", "blog.post:1"}
        review = Review.objects.create(title="a", stars=5)
        both = {f"{name}:{review.pk}" for name in ("blog.post", "blog.review")}
        assert gone(review.save, *both, "blog.post") == {*both, "blog.post"}
        assert gone(Post.objects.get().save, *both) == both
        assert gone(review.delete, *both) == both

    def test_a_child_that_is_not_registered(self) -> None:
        essay = Essay.objects.create(title="a", words=5)
        for change in (essay.save, lambda: Essay.objects.update(title="b"), essay.delete):
            assert gone(change, "blog.post", "blog.post:1", "blog.essay") == {
                "blog.post",
                "blog.post:1",
            }

    def test_many_to_many(self) -> None:
        post, topic = Post.objects.create(title="a"), Topic.objects.create(name="x")
        other = Topic.objects.create(name="y")
        ends = {"blog.post", "blog.post:1", "blog.topic", "blog.topic:1"}
        there = (*ends, "blog.topic:2", "blog.post:2")
        assert gone(lambda: post.topics.add(topic), *there) == ends
        assert gone(lambda: post.topics.add(topic), *there) <= ends
        assert gone(lambda: topic.posts.remove(post), *there) == ends
        assert gone(lambda: topic.posts.set([post]), *there) == ends
        assert gone(topic.posts.clear, *there) == ends
        post.topics.add(topic, other)
        assert gone(post.topics.clear, *there) == {*ends, "blog.topic:2"}
        assert gone(lambda: post.likes.add(Author.objects.create(name="Ann")), *ALL) >= {
            "blog.author:1",
            "blog.post:1",
        }

    def test_bulk_operations_of_the_query_set(self) -> None:
        created = [Post(title="a"), Post(title="b")]
        both = {"blog.post:1", "blog.post:2"}
        assert gone(lambda: Post.objects.bulk_create(created), *ALL) >= both
        rows = gone(lambda: Post.objects.filter(title="b").update(title="c"), *ALL)
        assert rows == {"blog.post", "blog.post:2", "blog.review"}
        assert gone(lambda: Post.objects.filter(title="b").update(title="c"), *ALL) == set()
        assert gone(lambda: Post.objects.bulk_create([]), *ALL) == set()
        for post in created:
            post.title = "d"
        assert gone(lambda: Post.objects.bulk_update(created, ["title"]), *ALL) >= both
        assert list(Post.objects.values_list("title", flat=True)) == ["d", "d"]

    def test_what_django_does_not_signal(self) -> None:
        Author.objects.create(name="Ann")
        assert gone(lambda: Author.objects.update(name="Eve"), *ALL) == set()
        assert gone(lambda: Author.objects.bulk_create([Author()]), *ALL) == set()
        assert gone(lambda: invalidate_objects(Author, [1]), *ALL) == {
            "blog.author",
            "blog.author:1",
        }
        assert gone(lambda: invalidate_objects(Author, ()), *ALL) == {"blog.author"}

    def test_asynchronous_methods(self) -> None:
        async def change() -> None:
            post = await Post.objects.acreate(title="a")
            await post.asave()
            await Post.objects.aupdate(title="b")

        assert gone(lambda: asyncio.run(change()), *ALL) >= {"blog.post", "blog.post:1"}


class TestTransactions:
    def test_on_commit(self) -> None:
        post = Post.objects.create(title="a")

        def change() -> None:
            with transaction.atomic():
                post.save()
                assert default.get("blog.post:1") == 1

        assert gone(change, "blog.post:1") == {"blog.post:1"}

    def test_nothing_if_it_is_rolled_back(self) -> None:
        def change() -> None:
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Post.objects.create(title="a")
                _ = 1 / 0

        assert gone(change, *ALL) == set()

    def test_savepoints(self) -> None:
        one, two = (Post.objects.create(title=title) for title in "ab")
        author = Author.objects.create(name="Ann")

        def change() -> None:
            with transaction.atomic():
                author.save()
                with pytest.raises(ZeroDivisionError), transaction.atomic():
                    one.save()
                    _ = 1 / 0
                with transaction.atomic():
                    two.save()

        there = ("blog.author:1", "blog.post:1", "blog.post:2")
        assert gone(change, *there) == {"blog.author:1", "blog.post:2"}

    def test_many_changes_are_one_request(self) -> None:
        Post.objects.bulk_create([Post(title="a") for _ in range(50)])
        with transaction.atomic():
            for post in Post.objects.all():
                post.save()
            assert len(connection.run_on_commit) == 1

    def test_more_changes_than_fit_into_a_request(self) -> None:
        def change() -> None:
            with transaction.atomic():
                invalidate_objects(Post, range(150_000))

        assert gone(change, "blog.post", "blog.post:0", "blog.post:149999") == {
            *("blog.post", "blog.post:0", "blog.post:149999")
        }

    def test_tags_of_ones_own(self) -> None:
        def change() -> None:
            with transaction.atomic():
                invalidate_on_commit(["a", "b"])
                invalidate_on_commit([])
                assert default.get("a") == 1

        assert gone(change, "a", "b", "c") == {"a", "b"}
        assert gone(lambda: invalidate_on_commit(["c"]), "c") == {"c"}

    def test_caches(self) -> None:
        invalidate_on_commit(["a"], cache="dummy")
        with pytest.raises(ImproperlyConfigured, match=r"CACHES\['local'\].*not a LocMemCache"):
            invalidate_on_commit(["a"], cache="local")

    def test_a_cache_that_is_away(self) -> None:
        away = {"BACKEND": "tagcache.contrib.django.TagCache", "LOCATION": "tagcache://127.0.0.1:1"}
        with override_settings(CACHES={"default": away}), pytest.raises(ConnectionFailed):
            Post.objects.create(title="a")
        ignored = {**away, "OPTIONS": {"ignore_exc": True}}
        with override_settings(CACHES={"default": ignored}):
            Post.objects.create(title="b")
        assert Post.objects.count() == 2


class TestReads:
    @pytest.fixture(autouse=True)
    def posts(self) -> None:
        author = Author.objects.create(name="Ann")
        for title in "ab":
            Post.objects.create(title=title, author=author)

    @pytest.mark.parametrize(
        ("read", "tags"),
        [
            (lambda: Post.objects.get(pk=1), {"blog.post:1"}),
            (lambda: Post.objects.get(title="b").author.name, {"blog.post:2", "blog.author:1"}),
            (
                lambda: Post.objects.select_related("author").get(pk=1),
                {"blog.post:1", "blog.author:1"},
            ),
            (lambda: list(Post.objects.all()), {"blog.post", "blog.post:1", "blog.post:2"}),
            (lambda: Post.objects.first(), {"blog.post", "blog.post:1"}),
            (lambda: Post.objects.latest("title"), {"blog.post", "blog.post:2"}),
            (lambda: (Post.objects.count(), Post.objects.get(pk=1)), {"blog.post", "blog.post:1"}),
            (lambda: list(Post.objects.values("title")), {"blog.post"}),
            (lambda: Post.objects.filter(title="none").exists(), {"blog.post"}),
            (lambda: Post.objects.count(), {"blog.post"}),
            (lambda: Post.objects.aggregate(), {"blog.post"}),
            (lambda: [*Post.objects.iterator()], {"blog.post", "blog.post:1", "blog.post:2"}),
            (lambda: Author.objects.get().name, {"blog.author:1"}),
            (lambda: list(Author.objects.all()), {"blog.author:1"}),
            (lambda: Draft.objects.get(pk=1), {"blog.post:1"}),
            (lambda: list(Unregistered.objects.all()), set()),
            (lambda: Post(title="new"), set()),
        ],
        ids=range(17),
    )
    def test_they_give_tags(self, read: Callable[[], object], tags: set[str]) -> None:
        assert collected(read) == tags

    def test_what_is_not_found_may_be_added(self) -> None:
        def read() -> None:
            with pytest.raises(Post.DoesNotExist):
                Post.objects.get(pk=9)

        assert collected(read) == {"blog.post"}

    def test_children(self) -> None:
        review = Review.objects.create(title="r", stars=5)
        both = {f"blog.post:{review.pk}", f"blog.review:{review.pk}"}
        assert collected(lambda: Review.objects.get(pk=review.pk)) == both
        assert collected(lambda: Post.objects.get(pk=review.pk)) == {f"blog.post:{review.pk}"}
        assert collected(lambda: Essay.objects.count()) == {"blog.post"}

    def test_many_objects_have_one_tag(self) -> None:
        Author.objects.bulk_create([Author() for _ in range(200)])
        found = collected(lambda: list(Author.objects.all()))
        assert len(found) < 100
        assert "blog.author" in found
        Post.objects.bulk_create([Post(title="c") for _ in range(200)])
        found = collected(lambda: [Post.objects.get(pk=1 + number) for number in range(200)])
        assert len(found) < 100
        assert "blog.post" in found

    def test_coroutines(self) -> None:
        async def read() -> None:
            await Post.objects.aget(pk=1)
            [each async for each in Topic.objects.aiterator()]
            [each async for each in Topic.objects.all()]

        assert collected(lambda: asyncio.run(read())) == {"blog.post:1", "blog.topic"}

    def test_a_value_knows_what_it_was_made_of(self) -> None:
        def page() -> str:
            return str(Post.objects.get(pk=1).author.name)

        author = Author.objects.get()
        assert default.get_or_set("page", page) == "Ann"
        author.name = "Eve"
        author.save()
        assert default.get_or_set("page", page) == "Eve"
        Post.objects.get(pk=2).save()
        assert default.get("page") == "Eve"


class TestDecorator:
    def test_it_keeps_results_until_a_model_changes(self) -> None:
        calls: list[int] = []

        @reads(Post, Topic, timeout=60)
        def titles(limit: int) -> list[str]:
            calls.append(limit)
            return [title for (title,) in Post._base_manager.values_list("title")[:limit]]

        assert (titles(5), titles(5), titles(limit=5)) == ([], [], [])
        assert calls == [5]
        Post.objects.create(title="a")
        assert titles(5) == ["a"]
        Topic.objects.create(name="t")
        titles(5)
        assert calls == [5, 5, 5]
        Author.objects.create(name="Ann")
        titles(5)
        assert titles.invalidate(5) is True
        assert titles.invalidate(5) is False
        titles(5)
        assert calls == [5, 5, 5, 5]
        assert titles.key(5).endswith("titles(limit=5)")
        assert titles.__name__ == "titles"

    def test_coroutine_functions(self) -> None:
        calls: list[int] = []

        @reads(key="post:{pk}", tags=lambda pk: [f"own:{pk}"], timeout=60, grace=60, wait=1)
        async def title(pk: int) -> str:
            calls.append(pk)
            cache_tag("more")
            return str((await Post.objects.aget(pk=pk)).title)

        async def twice() -> list[str]:
            return [await title(1), await title(pk=1)]

        Post.objects.create(title="a")
        assert asyncio.run(twice()) == ["a", "a"]
        assert asyncio.iscoroutinefunction(title)
        assert default.invalidate_tags(["own:1", "more", "blog.post:1"], mode="all") == 1
        asyncio.run(twice())
        assert asyncio.run(title.ainvalidate(1)) is True
        assert len(calls) == 2

    def test_any_arguments(self) -> None:
        @reads(Post)
        def echo(text: str) -> str:
            return text

        texts = ["a b", "a%20b", "a\tb", "ü"]
        assert [echo(text) for text in texts * 2] == texts * 2
        assert len({echo.key(text) for text in texts}) == 4

    def test_nobody_sees_what_is_not_committed(self) -> None:
        @reads(Post, key="titles")
        def titles() -> list[str]:
            return [post.title for post in Post.objects.all()]

        assert titles() == []
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            assert titles() == []
            Post.objects.create(title="a")
            assert titles() == ["a"]
            assert default.get("titles") == []
            _ = 1 / 0
        assert titles() == []

    def test_methods(self) -> None:
        class Shelf:
            number = 3

            @reads(Post, key="shelf:{self.number}")
            def show(self) -> str:
                return f"shelf {self.number}"

        assert Shelf().show() == Shelf().show() == "shelf 3"
        assert default.get("shelf:3") == "shelf 3"
        assert Shelf().show.invalidate() is True
        assert Shelf.show.key(Shelf()) == "shelf:3"

    def test_mistakes(self) -> None:
        with pytest.raises(BadArgument, match="names 'nope'"):
            reads(key="{nope}")(lambda a: a)

    def test_a_cache_that_keeps_nothing(self) -> None:
        calls: list[int] = []
        run = reads(cache="dummy", key="k")(lambda: calls.append(1))
        run()
        run()
        assert len(calls) == 2
        assert run.invalidate() is False

    def test_the_race_with_a_writer(self) -> None:
        """A result that was outdated while it was computed is not kept."""
        post = Post.objects.create(title="old")

        @reads(Post)
        def title() -> str:
            found = Post.objects.get(pk=post.pk).title
            if found == "old":
                post.title = "new"
                post.save()
            return str(found)

        assert [title(), title()] == ["old", "new"]


def test_threads_collect_as_well() -> None:
    Post.objects.create(title="a")

    async def read() -> None:
        await sync_to_async(lambda: Post.objects.get(pk=1))()

    assert collected(lambda: asyncio.run(read())) == {"blog.post:1"}
