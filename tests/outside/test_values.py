"""A value is the same bytes in every protocol, whichever client stored it."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
from playwright.sync_api import expect

from tagcache.client import AsyncClient, Client
from tests.browser.chromium import chromium
from tests.browser.watched import Watched
from tests.integration.conftest import server, start
from tests.integration.running import TIMEOUT, RunningServer

__all__ = ["server", "start"]

Values = dict[str, bytes]

HTML = "<!doctype html>\n<p>Grüße,\n\tAnna \\n &amp; Bob</p>\n"
TEXTS = {
    key: text.encode()
    for key, text in {
        "html": HTML,
        "crlf": "first\r\nsecond\r\n",
        "trailing-cr": "100 %\r",
        "only-lf": "\n",
        "escape-mark": "\\:not escaped \\n",
        "compression-mark": "\\z:not compressed",
        "large": HTML * 4000,
        "empty": "",
        "json": '{"a": [1, null]}\n',
        "backslashes": "C:\\new\\readme",
    }.items()
}
BINARY = {"binary": bytes(range(256)), "latin": b"caf\xe9\n"}
TAGCACHE = Path(sys.executable).with_name("tagcache")


def output_of(*command: object, given: bytes = b"") -> bytes:
    done = subprocess.run([*map(str, command)], input=given, capture_output=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def curl(server: RunningServer, path: str, body: Any = None, method: str = "POST") -> Any:
    arguments = ["--silent", "--show-error", "--fail-with-body", "--user", "admin:password"]
    if body is not None:
        arguments += ["-X", method, "-H", "content-type: application/json", "--data-binary", "@-"]
    url = f"http://127.0.0.1:{server.http_port}{path}"
    return json.loads(output_of("curl", *arguments, url, given=json.dumps(body).encode()))


def bytes_of(item: dict[str, str]) -> bytes:
    if "value_base64" in item:
        return base64.b64decode(item["value_base64"])
    return item["value"].encode()


def put_by_curl(server: RunningServer, values: Values) -> None:
    for key, value in values.items():
        curl(server, "/put", {"key": key, "value": value.decode(), "tags": []})


def add_by_curl(server: RunningServer, values: Values) -> None:
    for key, value in values.items():
        assert curl(server, "/add", {"key": key, "value": value.decode()})["added"]


def put_key_by_curl(server: RunningServer, values: Values) -> None:
    for key, value in values.items():
        curl(server, f"/keys/{key}", {"value": value.decode()}, "PUT")


def put_by_cli(server: RunningServer, values: Values) -> None:
    for key, value in values.items():
        output_of(TAGCACHE, "--port", server.http_port, "put", key, "-", given=value)


def client_of(server: RunningServer) -> Client:
    return Client(port=server.port, serde="bytes", compress_over=1000, timeout=TIMEOUT)


def put_by_client(server: RunningServer, values: Values) -> None:
    with client_of(server) as client:
        client.put_many(values)


def put_by_asyncio(server: RunningServer, values: Values) -> None:
    async def put() -> None:
        async with AsyncClient(
            port=server.port, serde="bytes", compress_over=1000, timeout=TIMEOUT
        ) as client:
            await client.put_many(values)

    asyncio.run(put())


def deferred(server: RunningServer, what: str, given: Values) -> bytes:
    command = [sys.executable, "-m", "tests.outside.deferred_program", server.port, what]
    text = {key: base64.b64encode(value).decode() for key, value in given.items()}
    return output_of(*command, given=json.dumps(text).encode())


def put_by_deferred(server: RunningServer, values: Values) -> None:
    deferred(server, "put", values)


def get_by_curl(server: RunningServer, keys: Values) -> Values:
    return {key: bytes_of(curl(server, f"/get/{key}")) for key in keys}


def get_slowly_by_curl(server: RunningServer, keys: Values) -> Values:
    """Not by the fast path that the server has for plain look-ups."""
    return {key: bytes_of(curl(server, f"/get/%{ord(key[0]):x}{key[1:]}")) for key in keys}


def bulk_get_by_curl(server: RunningServer, keys: Values) -> Values:
    items = curl(server, "/keys/bulk/get?raw=true", {"keys": list(keys)})["items"]
    return {item["key"]: bytes_of(item) for item in items}


def get_by_cli(server: RunningServer, keys: Values) -> Values:
    return {key: output_of(TAGCACHE, "--port", server.http_port, "get", "key", key) for key in keys}


def get_by_client(server: RunningServer, keys: Values) -> Values:
    with client_of(server) as client:
        together = client.get_many(keys)
        assert {key: client.get(key) for key in keys} == together
        return together


def get_by_asyncio(server: RunningServer, keys: Values) -> Values:
    async def get() -> Values:
        async with AsyncClient(port=server.port, serde="bytes", timeout=TIMEOUT) as client:
            return await client.get_many(keys)

    return asyncio.run(get())


def get_by_deferred(server: RunningServer, keys: Values) -> Values:
    found = json.loads(deferred(server, "get", keys))
    return {key: base64.b64decode(each) for key, each in found.items()}


def by_redis_py(server: RunningServer) -> Any:
    return redis.Redis(port=server.port, socket_timeout=TIMEOUT)


def put_by_redis_py(server: RunningServer, values: Values) -> None:
    by_redis_py(server).mset(values)


def get_by_redis_py(server: RunningServer, keys: Values) -> Values:
    with by_redis_py(server) as client:
        return dict(zip(keys, client.mget(keys), strict=True))


def get_by_redis_cli(server: RunningServer, keys: Values) -> Values:
    command = ("redis-cli", "-p", server.port, "--raw", "-D", "", "GET")
    return {key: output_of(*command, key) for key in keys}


# A client of ours compresses this one, and puts a header before those.
NOT_PLAIN = ("large", "escape-mark", "compression-mark")


@pytest.mark.parametrize(
    "put",
    [
        # Dozens of processes, one after the other: for each value that is stored or read.
        pytest.param(put_by_curl, marks=pytest.mark.slow),
        pytest.param(put_by_cli, marks=pytest.mark.slow),
        add_by_curl,
        put_key_by_curl,
        pytest.param(put_by_client, marks=pytest.mark.slow),
        put_by_asyncio,
        put_by_deferred,
        put_by_redis_py,
    ],
)
def test_what_one_stores_each_other_reads(
    server: RunningServer, put: Callable[[RunningServer, Values], None]
) -> None:
    """Over HTTP only text can be stored."""
    by_client = put in (put_by_client, put_by_asyncio, put_by_deferred, put_by_redis_py)
    values = TEXTS | BINARY if by_client else TEXTS
    if put is put_by_redis_py:
        values = {key: value for key, value in values.items() if key not in NOT_PLAIN}
    put(server, values)
    readers = [get_by_curl, get_slowly_by_curl, bulk_get_by_curl]
    readers += [get_by_client, get_by_asyncio, get_by_deferred]
    if put in (put_by_curl, put_by_cli, put_by_client):
        # One process for each value.
        readers.append(get_by_cli)
    for get in readers:
        assert get(server, values) == values, get.__name__
    plain = {key: value for key, value in values.items() if key not in NOT_PLAIN}
    for get in (get_by_redis_py, get_by_redis_cli):
        assert get(server, plain) == plain, get.__name__


def test_a_plain_client_of_the_line_protocol_sees_what_fits_in_a_line(
    server: RunningServer,
) -> None:
    """With PHP's client or nc, values are unchanged. What is no line never breaks one."""
    put_by_curl(server, TEXTS)
    with server.connect() as client:
        assert client.ask(b"GET\tbackslashes") == b"VALUE\tC:\\new\\readme\n"
        assert client.ask(b"GET\tempty") == b"VALUE\t\n"
        assert client.ask(b"GET\ttrailing-cr") == b"VALUE\t100 %\r\n"
        assert client.ask(b"GET\tcrlf") == b"ERR value_not_representable\n"
        assert client.ask(b"GET\tescape-mark") == b"VALUE\t\xc1r\\:not escaped \\n\n"


# What the last version stored, which escaped what a line cannot hold.
OLD = {
    "crlf": b"\\:first\\r\\nsecond\\r\\n",
    "escape-mark": b"\\:\\\\:not escaped \\\\n",
    "compression-mark": b"\\:\\\\z:not compressed",
    "backslashes": b"C:\\new\\readme",
    "large": b"\\z:"
    + zlib.compress(TEXTS["large"])
    .replace(b"\\", b"\\\\")
    .replace(b"\n", b"\\n")
    .replace(b"\r", b"\\r"),
}


def test_values_of_the_last_version_are_read(server: RunningServer) -> None:
    with server.connect() as client:
        for key, content in OLD.items():
            assert client.ask(b"PUT\t%b\t-\t-\t%b" % (key.encode(), content)) == b"OK\n"
    values = {key: TEXTS[key] for key in OLD}
    readers = [get_by_curl, get_slowly_by_curl, bulk_get_by_curl, get_by_cli]
    readers += [get_by_client, get_by_asyncio, get_by_deferred]
    for get in readers:
        assert get(server, values) == values, get.__name__


def test_counting_what_ends_with_a_line_feed(server: RunningServer) -> None:
    """As a shell's echo writes it."""
    put_by_cli(server, {"n": b"41\n"})
    counted = output_of(TAGCACHE, "--port", server.http_port, "increment", "n")
    assert counted == b"42\n"
    assert get_by_client(server, {"n": b""}) == {"n": b"42"}


def test_what_would_be_too_large_is_not_decompressed(start: Callable[..., RunningServer]) -> None:
    server = start({"cache": {"max_value_length": 2000}})
    put_by_client(server, {"bomb": b"0" * 2001, "fits": b"0" * 2000})
    assert curl(server, "/get/bomb") == {"error": "value_too_large"}
    assert curl(server, "/keys/bomb")["error"] == "value_too_large"
    bomb, fits = curl(server, "/keys/bulk/get?raw=true", {"keys": ["bomb", "fits"]})["items"]
    assert "value" not in bomb
    assert fits["value"] == "0" * 2000
    command = [TAGCACHE, "--port", str(server.http_port), "get", "key", "bomb"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode != 0
    assert "max_value_length" in done.stderr
    assert get_by_client(server, {"bomb": b""}) == {"bomb": b"0" * 2001}


def test_a_large_value_is_compressed_on_its_way(server: RunningServer) -> None:
    """A check that the test above tests what it claims to."""
    put_by_client(server, TEXTS)
    (row,) = (row for row in curl(server, "/keys")["keys"] if row["key"] == "large")
    assert row["size"] < len(TEXTS["large"]) / 10


def test_a_stored_json_text_is_parsed(server: RunningServer) -> None:
    put_by_client(server, TEXTS)
    assert curl(server, "/keys/json")["value"] == {"a": [1, None]}
    assert curl(server, "/keys/html")["value"] == HTML


def test_the_dashboard_shows_and_stores_the_value_itself(server: RunningServer) -> None:
    with client_of(server) as client, chromium() as browser:
        client.put("page", HTML.encode())
        watched = Watched(browser, server)
        page = watched.log_in()
        watched.go("Keys")
        page.get_by_role("link", name="page", exact=True).click()
        expect(page.locator(".value-view")).to_have_text(HTML, use_inner_text=False)
        assert page.locator(".value-view").text_content() == HTML
        page.get_by_role("button", name="Edit").click()
        field = page.get_by_role("dialog").get_by_label("Value")
        expect(field).to_have_value(HTML)
        field.fill("two\nlines")
        page.get_by_role("dialog").get_by_role("button", name="Save").click()
        expect(page.get_by_text("The entry is saved.")).to_be_visible()
        assert client.get("page") == b"two\nlines"
        client.put("bomb", b"0" * 2**21)
        watched.go("Keys")
        page.get_by_role("link", name="bomb", exact=True).click()
        expect(page.get_by_text("The value cannot be shown")).to_be_visible()
        watched.close()
        assert watched.complaints() == []
