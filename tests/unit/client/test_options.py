"""Options from code, a URL and a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tagcache.client import Client, Options
from tagcache.errors import BadArgument


def test_the_defaults() -> None:
    assert Options.from_url("tagcache://") == Options()
    assert Options().address == "127.0.0.1:1984"


def test_a_url_with_everything() -> None:
    options = Options.from_url(
        "tagcaches://a%40b:p%2F%3Aw@[::1]:99/?timeout=0.5&pool_size=3&serde=text&compress_over=10"
        "&key_prefix=x%3A&ignore_exc=yes&tcp_nodelay=off&tcp_keepalive_seconds=&connect_timeout=none"
    )
    assert options == Options(
        host="::1",
        port=99,
        tls=True,
        username="a@b",
        password="p/:w",
        timeout=0.5,
        connect_timeout=None,
        pool_size=3,
        serde="text",
        compress_over=10,
        key_prefix="x:",
        ignore_exc=True,
        tcp_nodelay=False,
        tcp_keepalive_seconds=None,
    )
    assert options.address == "[::1]:99"
    assert "p/:w" not in repr(options)


def test_a_unix_socket() -> None:
    options = Options.from_url("unix:///run/tag%20cache?timeout=2", pool_size=5)
    assert (options.path, options.timeout, options.pool_size) == ("/run/tag cache", 2, 5)
    assert options.address == "unix:/run/tag cache"


@pytest.mark.parametrize(
    ("url", "db"),
    [
        ("tagcache://host", 0),
        ("tagcache://host/", 0),
        ("tagcache://host/0", 0),
        ("tagcaches://u:p@host:99/12?timeout=2", 12),
        ("tagcache://host?db=3", 3),
        ("unix:///run/7?db=5", 5),
    ],
)
def test_the_path_is_the_number_of_the_database(url: str, db: int) -> None:
    assert Options.from_url(url).db == db
    assert Options.from_url(url, db=8).db == 8


@pytest.mark.parametrize(
    "password", ["hun/ter2", "1/hunter2", "hun#ter2", "1#hunter2", "hun\u2100ter2"]
)
def test_an_error_does_not_reveal_an_unescaped_password(password: str) -> None:
    with pytest.raises(BadArgument) as raised:
        Options.from_url(f"tagcache://ada:{password}@host")
    assert "ter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host", "must begin with"),
        ("tagcache://host:x", "cannot be read"),
        ("tagcache://host:99999", "cannot be read"),
        ("tagcache://host/path", "path"),
        ("tagcache://host/-1", "path"),
        ("tagcache://host/1/", "path"),
        ("tagcache://host/\N{SUPERSCRIPT TWO}", "path"),
        ("tagcache://host/1234", "path"),
        ("tagcache://host/256", "db must be from 0 to 255: 256"),
        ("tagcache://host?db=-1", "db must be from 0 to 255: -1"),
        ("tagcache://host?db=x", "db='x', which cannot be read"),
        ("tagcache://host/1?db=1", "names its database twice"),
        ("unix://host/path", "three slashes"),
        ("unix://", "three slashes"),
        ("tagcache://host?timout=1", "timout, which is not an option"),
        ("tagcache://host?timeout=x", "timeout='x'"),
        ("tagcache://host?timeout=0", "timeout must be more than 0"),
        ("tagcache://host?pool_size=0", "pool_size must be at least 1"),
        ("tagcache://host?pool_timeout=-1", "pool_timeout must be from 0"),
        ("tagcache://host?breaker_seconds=-1", "breaker_seconds must be from 0"),
        ("tagcache://host?max_value_bytes=0", "max_value_bytes must be at least 1"),
        ("tagcache://host?ignore_exc=maybe", "ignore_exc='maybe'"),
        ("tagcache://host?on_error=print", "on_error, which is not an option"),
        ("tagcache://host?serde=yaml", "serde=yaml is not known"),
        ("tagcaches://host?tls_ca_file=/nowhere", "tls_ca_file=/nowhere cannot be used"),
        ("tagcache://host:0", "port must be"),
        ("tagcache://host?timeout=inf", "timeout must be more than 0 seconds, at most"),
        ("tagcache://host?connect_timeout=nan", "connect_timeout must be"),
        ("tagcaches://host?tls=no", "names tls, which belongs before"),
        ("tagcache://host?username=ada&password=x", "names username, which belongs before"),
        ("tagcache://host#timeout=1", "must not have a fragment"),
        ("tagcache://host?tls_verify=no", "have no effect without TLS"),
        ("tagcache://host?tls_ca_file=/x", "have no effect without TLS"),
    ],
)
def test_an_error_names_what_is_wrong(url: str, told: str) -> None:
    with pytest.raises(BadArgument, match=told):
        Client.from_url(url)


def test_a_section_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "client.ini"
    file.write_text(
        "[client]\nurl = tagcache://cache:99?timeout=3\npool_size = 2\n"
        '[other]\nhost = "other"\nkey_prefix = "a,b;"\n'
    )
    first = Client.from_config(file).options
    assert (first.host, first.port, first.timeout, first.pool_size) == ("cache", 99, 3, 2)
    second = Client.from_config(file, "other", port=5).options
    assert (second.host, second.port, second.key_prefix) == ("other", 5, "a,b;")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[other]\n", r"no section \[client\]"),
        ("[client]\ntimout = 1\n", r"\[client\] names timout, which is not an option"),
        ("[client]\nport = x\n", "port='x'"),
        ("[client\n", "cannot be read"),
    ],
)
def test_invalid_files(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "client.ini"
    file.write_text(text)
    with pytest.raises(BadArgument, match=told):
        Options.from_config(file)


def test_values_of_a_file_may_be_quoted(tmp_path: Path) -> None:
    file = tmp_path / "client.ini"
    file.write_text("[client]\nusername = ada\npassword = \"a#b\"\nkey_prefix = it's'\n")
    options = Options.from_config(file)
    assert (options.password, options.key_prefix) == ("a#b", "it's'")


def test_contradictory_options() -> None:
    with pytest.raises(BadArgument, match="must be given together"):
        Options(username="ada")
    with pytest.raises(BadArgument, match="no TLS over a UNIX socket"):
        Options(path="/x", tls=True)


def test_a_missing_file() -> None:
    with pytest.raises(BadArgument, match="/nowhere cannot be read"):
        Options.from_config("/nowhere")


def test_keywords_override_options() -> None:
    changes: dict[str, Any] = {"timeout": 5}
    assert Client(Options(timeout=1, pool_size=3), **changes).options == Options(
        timeout=5, pool_size=3
    )
