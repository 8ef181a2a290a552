"""Sessions whose cache is away, for parts of a request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from tagcache.client import Client
from tagcache.contrib.pytest_plugin import Server
from tagcache.errors import Unavailable

from tests.contrib.django_project import blog  # isort: skip - the sessions need its settings
from tagcache.contrib.django.sessions import SessionStore

AWAY = "tagcache://127.0.0.1:1"


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Any:
    """Call a method of a session, or the coroutine of the same name."""

    def run(session: SessionStore, name: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            return getattr(session, name)(*args, **kwargs)
        return asyncio.run(getattr(session, f"a{name}")(*args, **kwargs))

    return run


@pytest.fixture(params=[False, True])
def ignore(request: pytest.FixtureRequest) -> bool:
    """Whether errors of the cache are ignored."""
    return bool(request.param)


@pytest.fixture(autouse=True)
def project(tagcache_server: Server, tagcache_client: Client) -> Iterator[None]:
    with blog(tagcache_server.url):
        yield


@pytest.fixture
def away(ignore: bool) -> Any:
    """Settings with a cache that is away."""
    options = {"ignore_exc": ignore, "breaker_seconds": 0}
    backend = "tagcache.contrib.django.TagCache"
    default = {"BACKEND": backend, "LOCATION": AWAY, "OPTIONS": options}
    return override_settings(CACHES={"default": default})


def test_sessions(call: Any) -> None:
    session = SessionStore()
    session["user"] = 7
    call(session, "save")
    again = SessionStore(session.session_key)
    assert call(again, "load") == {"user": 7}
    assert call(again, "exists", session.session_key) is True
    call(again, "cycle_key")
    assert again.session_key != session.session_key
    assert call(SessionStore(session.session_key), "load") == {}
    call(again, "delete")
    assert call(again, "exists", again.session_key) is False


def test_a_session_that_is_away_is_not_overwritten(
    call: Any, away: Any, caplog: pytest.LogCaptureFixture
) -> None:
    session = SessionStore()
    session["user"] = 7
    session.save()
    key = session.session_key
    with away:
        absent = SessionStore(key)
    # The cache is back before the page ends.
    absent["user"] = 8
    assert absent.session_key == key
    assert not absent.is_empty()
    absent._cache._cache = session._cache._cache
    with caplog.at_level(logging.WARNING, "tagcache.contrib"):
        call(absent, "save")
    assert "a change of a session is lost" in caplog.text
    assert SessionStore(key)["user"] == 7


def test_a_session_whose_cache_goes_away(call: Any, away: Any) -> None:
    session = SessionStore()
    session["user"] = 7
    session.save()
    with away:
        absent = SessionStore()
    loaded = SessionStore(session.session_key)
    loaded["user"] = 8
    loaded._cache._cache = absent._cache._cache
    call(loaded, "save")
    assert SessionStore(session.session_key)["user"] == 7


def test_a_new_session(call: Any, away: Any, ignore: bool) -> None:
    with away:
        session = SessionStore()
        call(session, "create")
        assert session.session_key
        if ignore:
            call(session, "flush")
        else:
            with pytest.raises(Unavailable):
                call(session, "flush")


def test_an_unreadable_session(call: Any, tagcache_client: Client) -> None:
    session = SessionStore("k" * 32)
    tagcache_client.put(":1:" + session.cache_key, "not pickled")
    assert call(session, "load") == {}
    assert session.session_key is None
    assert call(SessionStore("k" * 2000), "load") == {}


@pytest.mark.parametrize("alias", ["dummy", "local"])
def test_other_caches(alias: str) -> None:
    with (
        override_settings(SESSION_CACHE_ALIAS=alias),
        pytest.raises(ImproperlyConfigured, match=r"DummyCache|LocMemCache"),
    ):
        SessionStore()
