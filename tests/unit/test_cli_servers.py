"""The servers that commands ask, as far as that needs no server."""

from __future__ import annotations

import click
import pytest
from zope.interface.verify import verifyObject

from tagcache.cli.api import Credentials, HttpServer, IServer
from tagcache.cli.line import LineServer

GIVEN = Credentials("admin", "hunter2", None)


def test_both_kinds_provide_what_commands_need() -> None:
    over_http = HttpServer("http://[::1]:8080", GIVEN)
    over_lines = LineServer("tagcache://[::1]:1985", GIVEN)
    assert verifyObject(IServer, over_http)
    assert verifyObject(IServer, over_lines)
    assert over_http.host == over_lines.host == "::1"
    assert over_lines.port == 1985
    assert "hunter2" not in repr(over_http)


@pytest.mark.parametrize(
    "url", ["http://", "http://h:abc", "http://h:99999", "http://h?tls_ca_file=x"]
)
def test_a_bad_url_of_http(url: str) -> None:
    with pytest.raises(click.UsageError):
        HttpServer(url, GIVEN)


@pytest.mark.parametrize("url", ["tagcache://h:abc", "unix://path", "tagcache://h?nope=1"])
def test_a_bad_url_of_the_line_protocol(url: str) -> None:
    with pytest.raises(click.UsageError):
        LineServer(url, GIVEN)


def test_what_only_http_can_do_is_refused_with_a_hint() -> None:
    server = LineServer("tagcache://127.0.0.1", GIVEN)
    with pytest.raises(click.UsageError, match="--url http://HOST:8080"):
        server.call("GET", "/tags")
