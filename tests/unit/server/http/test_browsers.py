"""Which requests pages of other origins, and pages under unknown host names, may make."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import ISSLTransport
from twisted.logger import capturedLogs
from zope.interface import alsoProvides

from tagcache.server.http.browsers import BrowserRules
from tests.helpers import settings_with
from tests.unit.server.http.test_protocol import BASIC, JSON, Door, split
from tests.unit.server.line.test_protocol import Transport


def status_of(door: Door, method: str, path: str, *headers: str, body: bytes = b"") -> int:
    """The status of the response to one request with credentials."""
    head = "".join(f"{line}\r\n" for line in (f"{method} {path} HTTP/1.1", *headers))
    length = b"Content-Length: %d\r\n" % len(body)
    return split(door.send(head.encode("latin-1") + length + BASIC + JSON + b"\r\n" + body))[0][0]


def told(events: list[dict[str, object]]) -> list[object]:
    return [event["refusal"] for event in events if "refusal" in event]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8080",
        "10.1.2.3",
        "[::1]:8080",
        "[::ffff:127.0.0.1]",
        "localhost",
        "LOCALHOST:1",
        "localhost.",
        "tagcache:8080",
        "x",
        "cache.example.com:80 ",
        "web1",
        "web1.example.net",
        "WEB1.Example.Net.:8080",
        "cache.example.com",
        "a.b.svc.local:9",
    ],
)
def test_hosts_that_are_known(host: str) -> None:
    door = Door(settings_with(server={"allowed_hosts": ("cache.example.com", "*.svc.local")}))
    for _ in range(2):
        assert status_of(door, "GET", "/get/k", f"Host: {host}") == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "127.1.1",
        "1.2.3.4.5",
        "localhost.evil.example",
        "svc.local",
        "evilsvc.local",
        "cache.example.com.evil.example",
        "xcache.example.com",
        "a.cache.example.com",
        "web1.example.net.evil",
        "[::1.evil.example]",
        ".",
        ".:8080",
        "..",
    ],
)
def test_hosts_that_are_not(host: str) -> None:
    door = Door(settings_with(server={"allowed_hosts": ("cache.example.com", "*.svc.local")}))
    with capturedLogs() as events:
        for path in ("/get/k", "/health", "/", "/nope", "/metrics"):
            assert status_of(door, "GET", path, f"Host: {host}") in (400, 421)
        assert status_of(door, "POST", "/flush", f"Host: {host}") in (400, 421)
    # The log does not get a line for each request.
    assert len(told(events)) <= 1


def test_the_message_about_an_unknown_host(door: Door) -> None:
    with capturedLogs() as events:
        reply = door.send(b"GET /get/k HTTP/1.1\r\nHost: evil.example:8080\r\n" + BASIC + b"\r\n")
    assert reply.startswith(b"HTTP/1.1 421 ")
    assert b'"error":"unknown_host"' in reply
    assert b"server.allowed_hosts" in reply
    assert b"connection: close" not in reply
    (event,) = [event for event in events if "refusal" in event]
    assert (event["what"], event["value"]) == ("host", "evil.example:8080")
    assert door.traffic.failed_requests == {421: 1}


@pytest.mark.parametrize("host", ["", ":80", "a b", "a/b", "u@h", "a:b", "[::1", "h\xe9", "a,b:c"])
def test_invalid_hosts_are_refused(door: Door, host: str) -> None:
    assert status_of(door, "GET", "/get/k", f"Host: {host}") == 400


def test_a_host_that_is_missing_or_given_twice(door: Door) -> None:
    for headers in ((), ("Host: x", "Host: x"), ("Host: x", "hOST: evil.example")):
        assert status_of(door, "GET", "/get/k", *headers) == 400
    for name in ("Origin", "Sec-Fetch-Site"):
        assert status_of(door, "GET", "/get/k", "Host: x", f"{name}: a", f"{name}: a") == 400


def test_a_request_of_http_1_0_may_lack_it(door: Door) -> None:
    assert door.send(b"GET /get/k HTTP/1.0\r\n" + BASIC + b"\r\n").startswith(b"HTTP/1.1 200 ")
    for host in (b"evil.example", b"a b"):
        reply = door.send(b"GET /get/k HTTP/1.0\r\nHost: %b\r\n%b\r\n" % (host, BASIC))
        assert reply[:10] == b"HTTP/1.1 4"


def test_a_reload_holds_for_what_was_known_before_on_kept_connections(door: Door) -> None:
    get = b"GET /get/k HTTP/1.1\r\nHost: cache.example.com\r\n" + BASIC + b"\r\n"
    protocol, transport = door.connect()

    def ask(data: bytes = get) -> int:
        transport.clear()
        protocol.dataReceived(data)
        return split(transport.value())[0][0]

    assert [ask(), ask(), ask()] == [421] * 3
    door.browsers.configure(settings_with(server={"allowed_hosts": ("cache.example.com",)}))
    assert [ask(), ask(), ask()] == [200] * 3
    door.browsers.configure(settings_with())
    assert [ask(), ask(), ask()] == [421] * 3


def test_names_of_hosts_do_not_pile_up() -> None:
    rules = BrowserRules((), settings_with())
    for number in range(2000):
        assert rules.knows_host({b"host": b"host%d" % number})
    assert len(rules._good_hosts) <= 256


CHANGES = [
    ("POST", "/flush"),
    ("POST", "/flush?dry_run=true"),
    ("POST", "/auth/reset"),
    ("POST", "/auth/rotate"),
    ("POST", "/auth/login"),
    ("POST", "/auth/change_password"),
    ("POST", "/put"),
    ("PUT", "/keys/k"),
    ("DELETE", "/keys/k"),
    ("POST", "/connections/close"),
]
FOREIGN = [
    ("Origin: http://evil.example",),
    ("Origin: https://evil.example:8080",),
    ("Origin: null",),
    ("Origin: ",),
    ("Origin: 127.0.0.1:8080",),
    ("Origin: ftp://127.0.0.1:8080",),
    ("Origin: http://127.0.0.1",),
    ("Origin: http://127.0.0.1:8081",),
    ("Origin: http://127.0.0.1:8080.evil.example",),
    ("Origin: http://localhost:8080",),
    ("Sec-Fetch-Site: cross-site",),
    ("Sec-Fetch-Site: same-site",),
    ("Sec-Fetch-Site: cross-site \t",),
    ("Origin: http://127.0.0.1:8080", "Sec-Fetch-Site: cross-site"),
    ("Origin: null", "Sec-Fetch-Site: same-origin"),
]
OURS = [
    (),
    ("Origin: http://127.0.0.1:8080",),
    ("Origin: http://127.0.0.1:8080", "Sec-Fetch-Site: same-origin"),
    # A proxy in front of the server terminates TLS.
    ("Origin: https://127.0.0.1:8080",),
    ("Sec-Fetch-Site: none",),
    ("Sec-Fetch-Site: same-origin",),
]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("headers", FOREIGN)
def test_a_foreign_page_changes_nothing(
    door: Door, method: str, path: str, headers: tuple[str, ...]
) -> None:
    door.cache.put(b"k", b"v")
    password = door.settings.authentication.password
    assert status_of(door, method, path, "Host: 127.0.0.1:8080", *headers, body=b"{}") == 403
    assert door.cache.get(b"k") == b"v"
    assert door.settings.authentication.password == password


@pytest.mark.parametrize("headers", OURS)
def test_our_own_page_and_other_clients_may_change_things(
    door: Door, headers: tuple[str, ...]
) -> None:
    assert status_of(door, "POST", "/flush", "Host: 127.0.0.1:8080", *headers) == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_foreign_pages_may_ask_for_what_they_cannot_read(
    door: Door, headers: tuple[str, ...]
) -> None:
    for method, path in (("GET", "/get/k"), ("HEAD", "/stats"), ("OPTIONS", "/flush")):
        head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n" + "".join(
            f"{line}\r\n" for line in headers
        )
        reply = door.send(head.encode() + BASIC + b"\r\n")
        assert reply.startswith(b"HTTP/1.1 200 ")
        assert b"access-control" not in reply


def test_the_message_about_a_foreign_origin(door: Door) -> None:
    head = b"POST /flush HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nOrigin: http://evil.example\r\n"
    protocol, transport = door.connect()
    with capturedLogs() as events:
        for credentials in (BASIC, b"", b"Authorization: Basic eDp5\r\n"):
            protocol.dataReceived(head + credentials + b"Content-Length: 0\r\n\r\n")
    answers = split(transport.value())
    assert [status for status, _ in answers] == [403] * 3
    assert all(body.startswith(b'{"error":"foreign_origin"') for _, body in answers)
    assert told(events) == ["origin"]
    assert not transport.half_closed


def test_a_head_that_comes_again_with_another_body_is_refused_too(door: Door) -> None:
    protocol, transport = door.connect()
    head = b"POST /put HTTP/1.1\r\nHost: x\r\nOrigin: http://evil.example\r\n" + BASIC + JSON
    for number in range(10, 13):
        body = b'{"key":"k%d","value":"v"}' % number
        protocol.dataReceived(head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
    assert [status for status, _ in split(transport.value())] == [403] * 3
    assert door.cache.totals().items == 0


def test_what_waits_for_100_continue_is_refused_before_its_body(door: Door) -> None:
    protocol, transport = door.connect()
    more = b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
    for line, status in ((b"Host: x\r\nOrigin: null", 403), (b"Host: evil.example", 421)):
        protocol, transport = door.connect()
        protocol.dataReceived(b"POST /put HTTP/1.1\r\n" + line + b"\r\n" + BASIC + JSON + more)
        assert split(transport.value())[0][0] == status


def test_the_allowed_origin_may_change_things() -> None:
    door = Door(settings_with(server={"allowed_origin": "https://admin.example.com"}))
    allowed = "Origin: https://admin.example.com"
    for site in ("cross-site", "same-site"):
        headers = ("Host: x", allowed, f"Sec-Fetch-Site: {site}")
        assert status_of(door, "POST", "/flush", *headers) == 200
    for other in ("http://admin.example.com", "https://admin.example.com.evil", "null"):
        assert status_of(door, "POST", "/flush", "Host: x", f"Origin: {other}") == 403
    assert status_of(door, "POST", "/flush", "Host: x", "Sec-Fetch-Site: cross-site") == 403


def test_default_ports_may_be_left_out(door: Door) -> None:
    for host, origin in (
        ("x:80", "http://x"),
        ("x:443", "https://x"),
        ("X", "http://x"),
        ("[::1]:80", "http://[::1]"),
    ):
        assert status_of(door, "POST", "/flush", f"Host: {host}", f"Origin: {origin}") == 200
    for host, origin in (("x:443", "http://x"), ("x:80", "https://x"), ("x:8080", "http://x")):
        assert status_of(door, "POST", "/flush", f"Host: {host}", f"Origin: {origin}") == 403


def test_over_tls_a_page_in_the_clear_is_foreign(door: Door) -> None:
    for origin, status in ((b"https://x:8443", 200), (b"http://x:8443", 403)):
        head = b"POST /flush HTTP/1.1\r\nHost: x:8443\r\nOrigin: %b\r\n" % origin
        protocol = door.factory.buildProtocol(None)
        assert protocol is not None
        transport = Transport()
        alsoProvides(transport, ISSLTransport)
        protocol.makeConnection(transport)
        protocol.dataReceived(head + BASIC + b"Content-Length: 1\r\n\r\n1")
        protocol.dataReceived(head + BASIC + b"Content-Length: 1\r\n\r\n2")
        assert [each for each, _ in split(transport.value())] == [status] * 2


def test_http_1_0_without_a_host_has_no_page_of_its_own(door: Door) -> None:
    head = b"POST /flush HTTP/1.0\r\nOrigin: http://\r\nContent-Length: 0\r\n"
    assert split(door.send(head + BASIC + b"\r\n"))[0][0] == 403


def test_the_description_has_both_refusals(door: Door) -> None:
    paths = door.call("GET", "/openapi.json")[1]["paths"]
    for path in paths.values():
        for method, operation in path.items():
            assert "421" in operation["responses"]
            assert ("403" in operation["responses"]) == (method != "get")


@pytest.fixture
def door() -> Door:
    return Door()
