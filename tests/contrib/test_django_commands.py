"""manage.py check and manage.py tagcache, as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.base import InvalidCacheBackendError

from tagcache.client import Client
from tagcache.contrib.django import TagCache
from tagcache.contrib.django.settings import connecting_for
from tagcache.contrib.pytest_plugin import Server

BACKEND = "tagcache.contrib.django.TagCache"
MANAGE = """
import json, os, sys
from django.conf import settings

settings.configure(
    SECRET_KEY="for tests",
    INSTALLED_APPS=json.loads(os.environ["APPS"]),
    MEDIA_ROOT="/tmp/media",
    CACHES=json.loads(os.environ["CACHES"]),
)
from django.core.management import execute_from_command_line

execute_from_command_line(sys.argv)
"""
APPS = ["tagcache.contrib.django"]


def manage(
    folder: Path, *arguments: str, caches: Any, apps: list[str] = APPS, answer: str = ""
) -> tuple[int, str, str]:
    """Run manage.py; return its exit code and what it wrote."""
    file = folder / "manage.py"
    file.write_text(MANAGE, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(file), *arguments],
        env={**os.environ, "CACHES": json.dumps(caches), "APPS": json.dumps(apps)},
        input=answer,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def cache(url: str = "tagcache://127.0.0.1", **params: Any) -> dict[str, Any]:
    return {"BACKEND": BACKEND, "LOCATION": url, **params}


class TestCheck:
    def test_mistakes_are_reported_without_a_traceback(self, tmp_path: Path) -> None:
        caches = {
            "default": cache(OPTIONS={"time_out": 5}),
            "pages": cache("redis://127.0.0.1"),
            "other": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
            "numbers": cache(OPTIONS={"pool_size": "many"}),
        }
        code, _, errors = manage(tmp_path, "check", "--deploy", caches=caches)
        assert code == 1
        assert "Traceback" not in errors
        for told in (
            "CACHES['default']: (tagcache.E001) ",
            "time_out is not an option of a client; the options are breaker_seconds,",
            "CACHES['pages']: (tagcache.E001) ",
            "the URL must begin with tagcache, tagcaches, unix, not 'redis'",
            "pool_size must be an integer, not 'many'",
        ):
            assert told in errors
        assert "CACHES['other']" not in errors

    def test_settings_that_are_right(self, tmp_path: Path) -> None:
        code, output, errors = manage(tmp_path, "check", caches={"default": cache()})
        assert (code, errors) == (0, "")
        assert "no issues" in output

    @pytest.mark.slow
    def test_without_the_application_it_is_an_exception(self, tmp_path: Path) -> None:
        wrong = {"default": cache(OPTIONS={"time_out": 5})}
        code, _, errors = manage(tmp_path, "check", caches=wrong, apps=[])
        assert code == 1
        assert "InvalidCacheBackendError: " in errors


@pytest.mark.parametrize(
    ("location", "params", "why"),
    [
        (None, {}, "LOCATION must be a URL, or a list of them, not None"),
        (["tagcache://h", 5], {}, "LOCATION must be a URL"),
        ("tagcache://h", {"OPTIONS": ["timeout"]}, "OPTIONS must be a dict, not"),
        ("tagcache://h", {"TIMEOUT": "5m"}, "TIMEOUT must be seconds or None, not '5m'"),
        (
            "tagcache://h",
            {"OPTIONS": {"timeout": "5"}},
            "timeout must be a number or None, not '5'",
        ),
        ("tagcache://h", {"OPTIONS": {"timeout": True}}, "timeout must be a number or None"),
        ("tagcache://h", {"OPTIONS": {"ignore_exc": 1}}, "ignore_exc must be True or False, not 1"),
        ("tagcache://h", {"OPTIONS": {"key_prefix": 1}}, "key_prefix must be a text, not 1"),
        ("tagcache://h", {"OPTIONS": {"serde": [1]}}, "serde must be a name, or an object with"),
        ("tagcache://h", {"OPTIONS": {"on_error": 5}}, "on_error must be a function, or its"),
        ("tagcache://h tagcache://h", {}, "a node is given twice"),
    ],
)
def test_mistakes_name_the_setting_and_what_is_allowed(
    location: Any, params: Any, why: str
) -> None:
    with pytest.raises(InvalidCacheBackendError, match=why):
        TagCache(location, params)


def test_every_option_of_the_clients_is_allowed() -> None:
    options = {"timeout": 5, "pool_timeout": 5, "connect_timeout": None, "compress_over": 9}
    options |= {"serde": "json", "username": "u", "password": "p", "tcp_nodelay": None}
    assert connecting_for("tagcache://h", {"OPTIONS": options}, lambda found: None)


class TestCommand:
    def test_invalidate(
        self, tmp_path: Path, tagcache_server: Server, tagcache_client: Client
    ) -> None:
        for key, tags in (("a", ["x", "y"]), ("b", ["x"]), ("c", ["z"])):
            tagcache_client.put(key, 1, tags=tags)
        tagcache_client.get_or_set("d", lambda: 1, tags=["soft"], ttl=60, grace=60)
        caches = {"default": cache(), "pages": cache(tagcache_server.url)}
        for arguments, told in (
            (["x", "y", "--all"], "1 entries removed\n"),
            (["x", "z"], "2 entries removed\n"),
            (["soft", "--soft"], "1 entries are stale\n"),
        ):
            done = manage(
                tmp_path, "tagcache", "invalidate", *arguments, "--cache=pages", caches=caches
            )
            assert done == (0, told, "")

    def test_stats_and_flush(
        self, tmp_path: Path, tagcache_server: Server, tagcache_client: Client
    ) -> None:
        caches = {"default": cache(tagcache_server.url)}
        tagcache_client.put("k", 1)
        tagcache_client.get("k")
        code, output, _ = manage(tmp_path, "tagcache", "stats", caches=caches)
        assert code == 0
        assert {"hits", "misses", "hit ratio", "puts", "invalidations"} == {
            line.partition(":")[0] for line in output.splitlines()
        }
        refused = manage(tmp_path, "tagcache", "flush", caches=caches, answer="no\n")
        assert refused[0] == 1
        assert refused[2] == "CommandError: nothing was removed\n"
        assert tagcache_client.get("k") == 1
        agreed = manage(tmp_path, "tagcache", "flush", caches=caches, answer="yes\n")
        assert agreed[1].endswith("1 entries removed\n")
        assert manage(tmp_path, "tagcache", "flush", "--no-input", caches=caches)[1:] == (
            "0 entries removed\n",
            "",
        )

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("alias", "told"),
        [
            ("away", "CommandError: 127.0.0.1:1"),
            ("dummy", "CommandError: CACHES['dummy'] is a DummyCache"),
            ("local", "CommandError: CACHES['local'] must be a tagcache.contrib.django.TagCache"),
            ("none", "CommandError: The connection 'none' doesn't exist."),
        ],
    )
    def test_errors(self, tmp_path: Path, alias: str, told: str) -> None:
        backends = "django.core.cache.backends"
        caches = {
            "default": cache(),
            "away": cache("tagcache://127.0.0.1:1", OPTIONS={"ignore_exc": True}),
            "dummy": {"BACKEND": f"{backends}.dummy.DummyCache"},
            "local": {"BACKEND": f"{backends}.locmem.LocMemCache"},
        }
        code, output, errors = manage(
            tmp_path, "tagcache", "invalidate", "x", f"--cache={alias}", caches=caches
        )
        assert (code, output) == (1, "")
        assert errors.startswith(told)
        assert "Traceback" not in errors

    def test_one_of_several_servers_is_away(self, tmp_path: Path, tagcache_server: Server) -> None:
        caches = {"default": cache([tagcache_server.url, "tagcache://127.0.0.1:1"])}
        done = manage(tmp_path, "tagcache", "invalidate", "x", caches=caches)
        assert done[:2] == (0, "0 entries removed\n")
        assert done[2] == "127.0.0.1:1 is away; it is flushed before it is used again\n"
