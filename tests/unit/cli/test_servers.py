"""The servers that the commands ask, without a running server."""

from __future__ import annotations

import click
import pytest
from zope.interface.verify import verifyObject

from tagcache.cli.api import Credentials, HttpServer, IServer
from tagcache.cli.cache_port import CachePortServer
from tagcache.cli.main import _server_at

GIVEN = Credentials("admin", "hunter2", None)


def test_both_kinds_provide_the_interface() -> None:
    over_http = HttpServer("http://[::1]:8080", GIVEN)
    over_lines = CachePortServer("tagcache://[::1]:1985", GIVEN)
    assert verifyObject(IServer, over_http)
    assert verifyObject(IServer, over_lines)
    assert over_http.host == over_lines.host == "::1"
    assert over_lines.port == 1985
    assert "hunter2" not in repr(over_http)


@pytest.mark.parametrize(
    "url", ["http://", "http://h:abc", "http://h:99999", "http://h?tls_ca_file=x"]
)
def test_invalid_http_urls(url: str) -> None:
    with pytest.raises(click.UsageError):
        _server_at(url, GIVEN, True)


@pytest.mark.parametrize("url", ["tagcache://h:abc", "unix://path", "tagcache://h?nope=1"])
def test_invalid_urls_of_the_line_protocol(url: str) -> None:
    with pytest.raises(click.UsageError):
        CachePortServer(url, GIVEN)


@pytest.mark.parametrize("scheme", ["http", "tagcache"])
@pytest.mark.parametrize("rest", ["hun#ter2@h", "hun/ter2@h", "hunter2@[h", "hun\u2100ter2@h"])
def test_an_error_does_not_reveal_an_unescaped_password(scheme: str, rest: str) -> None:
    with pytest.raises(click.UsageError) as raised:
        _server_at(f"{scheme}://ada:{rest}", GIVEN, True)
    assert "ter2" not in raised.value.message


def test_commands_that_only_http_supports_fail_with_a_hint() -> None:
    server = CachePortServer("tagcache://127.0.0.1", GIVEN)
    with pytest.raises(click.UsageError, match="--url http://HOST:8080"):
        server.call("GET", "/tags")
