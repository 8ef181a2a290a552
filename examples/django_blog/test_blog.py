"""Runs the tests of the blog, which are Django's, with a real cache."""

from __future__ import annotations

import os
import subprocess
import sys

from tagcache import Client
from tagcache.contrib.pytest_plugin import Server


def manage(url: str, *arguments: str) -> str:
    """Return what a command of the blog writes."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "examples.django_blog.manage", *arguments],
        env={**os.environ, "TAGCACHE_URL": url},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def test_the_blog(tagcache_server: Server, tagcache_client: Client) -> None:
    # A short timeout would let a slow machine work without the cache.
    url = f"{tagcache_server.url}?timeout=60"
    said = manage(url, "test", "examples.django_blog")
    assert "OK" in said
    assert tagcache_client.stats().hits > 0


def test_its_migrations_are_complete(tagcache_server: Server) -> None:
    manage(tagcache_server.url, "makemigrations", "--check")
