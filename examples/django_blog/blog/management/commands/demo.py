"""Creates the database with some posts, if it is not there, and runs the blog."""

from __future__ import annotations

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser

from examples.django_blog.blog.models import Author, Post

POSTS = {
    "Ann": [
        ("Why is the page still old?", "Because somebody forgot a key. With tags nobody does."),
        ("Two hard things", "Naming things is left."),
    ],
    "Bob": [("Hello", "This page was made of one post and one author, and has their tags.")],
}


class Command(BaseCommand):
    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("address", nargs="?", default="127.0.0.1:8000")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        if not Author.objects.exists():
            for name, posts in POSTS.items():
                author = Author.objects.create(name=name)
                Post.objects.bulk_create(
                    Post(title=title, text=text, author=author) for title, text in posts
                )
        call_command("runserver", options["address"], use_reloader=False)
