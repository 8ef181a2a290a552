"""Tests of the blog, with the cache of TAGCACHE_URL."""

from __future__ import annotations

from django.core.cache import cache
from django.db import transaction
from django.test import TransactionTestCase

from examples.django_blog.blog.models import Author, Post


# A TestCase of Django never commits, so it would invalidate nothing.
class BlogTests(TransactionTestCase):
    def setUp(self) -> None:
        cache.clear()
        self.ann = Author.objects.create(name="Ann")
        self.bob = Author.objects.create(name="Bob")
        self.first = Post.objects.create(title="First", text="Hello", author=self.ann)
        self.second = Post.objects.create(title="Second", text="Hello again", author=self.bob)

    def page(self, path: str) -> str:
        response = self.client.get(path)
        self.assertEqual(response.status_code, 200)
        self.assertIn("no-cache", response.headers["Cache-Control"])
        return str(response.content.decode())

    def show(self, post: Post) -> str:
        return self.page(f"/posts/{post.pk}")

    def test_a_page_is_cached_until_its_post_changes(self) -> None:
        # The same time of making.
        first, second = self.show(self.first), self.show(self.second)
        self.assertEqual((self.show(self.first), self.show(self.second)), (first, second))
        self.first.title = "New"
        self.first.save()
        self.assertIn("<h2>New</h2>", self.show(self.first))
        self.assertEqual(self.show(self.second), second)

    def test_a_page_is_cached_until_its_author_changes(self) -> None:
        for path in ("/", f"/posts/{self.first.pk}"):
            self.assertIn("by Ann", self.page(path))
        self.ann.name = "Annie"
        self.ann.save()
        for path in ("/", f"/posts/{self.first.pk}"):
            self.assertIn("by Annie", self.page(path))

    def test_a_new_author_is_on_every_page(self) -> None:
        self.assertNotIn("Cid", self.show(self.first))
        Author.objects.create(name="Cid")
        for path in ("/", f"/posts/{self.first.pk}"):
            self.assertIn("<p>Cid</p>", self.page(path))

    def test_a_new_post_is_on_the_front_page(self) -> None:
        self.assertNotIn("Third", self.page("/"))
        Post.objects.create(title="Third", text="text", author=self.bob)
        self.assertIn("Third", self.page("/"))

    def test_nothing_is_invalidated_by_what_is_rolled_back(self) -> None:
        before = self.show(self.first)
        with self.assertRaises(KeyError), transaction.atomic():
            Post.objects.all().delete()
            raise KeyError
        self.assertEqual(self.show(self.first), before)

    def test_the_form(self) -> None:
        self.show(self.first)
        data = {"title": "By form", "text": "text", "author": self.bob.pk}
        response = self.client.post(f"/posts/{self.first.pk}/edit", data, follow=True)
        self.assertContains(response, "By form")
        self.assertContains(response, "by Bob")

    def test_a_browser_that_has_the_page_gets_a_304(self) -> None:
        etag = self.client.get("/").headers["ETag"]
        self.assertEqual(self.client.get("/", headers={"if-none-match": etag}).status_code, 304)
        self.first.delete()
        self.assertEqual(self.client.get("/", headers={"if-none-match": etag}).status_code, 200)

    def test_a_missing_post(self) -> None:
        self.assertEqual(self.client.get("/posts/999999").status_code, 404)
