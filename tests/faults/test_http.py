"""HTTP attacks on the real process."""

from __future__ import annotations

import json
import re
import socket
import statistics
import time
from collections.abc import Callable

import pytest

from tagcache.config.passwords import matches
from tests.faults.doors import AUTHORIZATION, http_ask, raw, until_closed
from tests.faults.processes import resident_mb
from tests.integration.running import TIMEOUT, RunningServer
from tests.reliability import Measured

SECTION = "HTTP"
Start = Callable[..., RunningServer]

BODY = b'{"key":"k","value":"v"}'
NEXT = b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


def post(*headers: bytes, body: bytes = BODY, path: bytes = b"/put") -> bytes:
    lines = [
        b"POST %b HTTP/1.1" % path,
        b"Host: x",
        b"Authorization: " + AUTHORIZATION.encode(),
        b"Content-Type: application/json",
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def get(target: bytes, *headers: bytes) -> bytes:
    lines = [b"GET %b HTTP/1.1" % target, b"Host: x", b"Authorization: " + AUTHORIZATION.encode()]
    return b"\r\n".join([*lines, b"Connection: close", *headers]) + b"\r\n\r\n"


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(answer)]


def is_whole(server: RunningServer) -> None:
    """Nothing was stored, and the server still serves."""
    assert http_ask(server, "GET", "/get/k") == (200, {"error": "not_found"})


@pytest.mark.parametrize("body", [b"", BODY[:5]])
def test_a_slow_body(start: Start, body: bytes, measured: Measured) -> None:
    server = start({"server": {"http_body_timeout_seconds": 1}})
    begin = time.monotonic()
    answer = raw(server, post(b"Content-Length: 23", body=body))
    seconds = time.monotonic() - begin
    assert statuses(answer) == [408]
    assert seconds >= 1
    is_whole(server)
    measured(
        f"a body of which {len(body)} bytes of 23 come; http_body_timeout_seconds = 1",
        "408 and closed after 1 s, checked every half second",
        f"408 after {seconds:.1f} s",
    )


def test_headers_that_drip(start: Start, measured: Measured) -> None:
    """The timeout runs from the first byte: single bytes do not extend it."""
    server = start({"server": {"http_header_timeout_seconds": 1}})
    with socket.create_connection(("127.0.0.1", server.http_port), 60) as sock:
        begin = time.monotonic()
        sock.sendall(b"GET /health HTTP/1.1\r\nA: ")
        sock.settimeout(0.1)
        answer = b""
        while not answer:
            sock.sendall(b"x")
            try:
                answer = sock.recv(4096)
            except TimeoutError:
                assert time.monotonic() - begin < TIMEOUT
        seconds = time.monotonic() - begin
    assert statuses(answer) == [408]
    assert seconds >= 1
    measured(
        "a header that comes a byte every 100 ms; http_header_timeout_seconds = 1",
        "408 and closed after 1 s, checked every half second",
        f"408 after {seconds:.1f} s",
    )


LENGTHS: dict[str, tuple[bytes, list[int]]] = {
    # Too short: the remaining bytes are not a valid request either.
    "too short": (post(b"Content-Length: 5") + NEXT, [400, 400]),
    "zero": (post(b"Content-Length: 0") + NEXT, [400, 400]),
    "negative": (post(b"Content-Length: -5"), [400]),
    "signed": (post(b"Content-Length: +23"), [400]),
    "a word": (post(b"Content-Length: x"), [400]),
    "hexadecimal": (post(b"Content-Length: 0x17"), [400]),
    "a list": (post(b"Content-Length: 23, 23") + NEXT, [400]),
    "given twice": (post(b"Content-Length: 23", b"Content-Length: 23") + NEXT, [400]),
    "given twice, differing": (post(b"Content-Length: 23", b"Content-Length: 5") + NEXT, [400]),
    "beyond max_body_bytes": (post(b"Content-Length: 99999999999"), [413]),
    "beyond 64 bits": (post(b"Content-Length: 18446744073709551639"), [400]),
}


def test_false_lengths(server: RunningServer, measured: Measured) -> None:
    seen = {name: statuses(raw(server, data)) for name, (data, _) in LENGTHS.items()}
    assert seen == {name: expected for name, (_, expected) in LENGTHS.items()}
    is_whole(server)
    measured(
        f"Content-Length {', '.join(LENGTHS)}",
        "400 or 413, closed, nothing stored",
        f"{len(seen)} of {len(seen)} refused, the rest of the stream is not read as a request",
    )


SMUGGLED = b"0\r\n\r\n" + post(b"Content-Length: 23")
TRANSFERS: dict[str, bytes] = {
    "CL.TE": post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=SMUGGLED),
    "TE.CL": post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=SMUGGLED),
    "unknown coding": post(b"Transfer-Encoding: xchunked", body=SMUGGLED),
    "chunked not last": post(b"Transfer-Encoding: chunked, identity", body=SMUGGLED),
    "blank before the colon": post(b"Transfer-Encoding : chunked", body=SMUGGLED),
    "bare line feeds": post(b"Content-Length: 23").replace(b"\r\n", b"\n"),
    "folded": post(b"X: y\r\n Transfer-Encoding: chunked", body=SMUGGLED),
    "a zero byte": post(b"X: y\0z", b"Content-Length: 23"),
    "no name": post(b": y", b"Content-Length: 23"),
}


def test_smuggling(server: RunningServer, measured: Measured) -> None:
    seen = {name: statuses(raw(server, data + NEXT)) for name, data in TRANSFERS.items()}
    assert seen == {name: [400] for name in TRANSFERS}
    is_whole(server)
    measured(
        f"requests that two servers may read differently: {', '.join(TRANSFERS)}",
        "400 and closed; what follows is not read as a request",
        f"{len(seen)} of {len(seen)} refused",
    )


CHUNKS: dict[str, tuple[bytes, list[int]]] = {
    "one of 3 MB": (b"300000\r\n" + b"x" * 0x300000 + b"\r\n0\r\n\r\n", [413]),
    "two million of one byte": (b"1\r\nx\r\n" * 2_200_000 + b"0\r\n\r\n", [413]),
    "a size of 68 bits": (b"fffffffffffffffff\r\nx", [400]),
    "an extension without end": (b"1;" + b"e" * 6_000_000, [413]),
    "no size": (b"\r\nx\r\n", [400]),
}


def test_oversized_chunks(server: RunningServer, measured: Measured) -> None:
    before = resident_mb(server.process.pid)
    seen = {
        name: statuses(raw(server, post(b"Transfer-Encoding: chunked", body=body)))
        for name, (body, _) in CHUNKS.items()
    }
    assert seen == {name: expected for name, (_, expected) in CHUNKS.items()}
    more = resident_mb(server.process.pid, peak=True) - before
    assert more < 30
    is_whole(server)
    measured(
        f"chunks: {', '.join(CHUNKS)}",
        "400 or 413 and closed, in bounded memory",
        f"{len(seen)} of {len(seen)} refused; at most {more:.1f} MB more in use",
    )


def test_deep_json(server: RunningServer, measured: Measured) -> None:
    deepest = 0
    for depth in (100, 125, 128, 1000, 100_000, 1_000_000):
        body = b'{"value":' + b"[" * depth + b"]" * depth + b"}"
        head = b"PUT /keys/k HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        head += b"Connection: close\r\nAuthorization: %b\r\nContent-Length: %d\r\n\r\n"
        answer = raw(server, head % (AUTHORIZATION.encode(), len(body)) + body)
        (status,) = statuses(answer)
        assert status in (200, 400)
        if status == 200:
            deepest = max(deepest, depth)
    assert 100 <= deepest < 128
    measured(
        "JSON nested up to a million levels",
        "400 beyond 127, no stack overflow",
        f"accepted to {deepest}, refused from 128 to 1,000,000",
    )


def test_a_hundred_thousand_headers(server: RunningServer, measured: Measured) -> None:
    before = resident_mb(server.process.pid)
    many = b"".join(b"x%d: y\r\n" % number for number in range(100_000))
    few_but_long = b"A: " + b"y" * 1_000_000 + b"\r\n"
    endless = b"A" * 1_000_000
    target = b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"
    line = b"GET /health HTTP/1.1\r\nHost: x\r\n"
    for headers in (many, few_but_long, endless):
        assert statuses(raw(server, line + headers + b"\r\n")) == [431]
    assert statuses(raw(server, target)) == [414]
    more = resident_mb(server.process.pid, peak=True) - before
    assert more < 10
    measured(
        "100,000 headers; one of 1 MB; a name of 1 MB; a target of 100 kB",
        "431 and 414, in bounded memory",
        f"431, 431, 431, 414; at most {more:.1f} MB more in use",
    )


def test_headers_are_not_injected(server: RunningServer, measured: Measured) -> None:
    evil = "\r\nX-Injected: yes\r\n\r\nHTTP/1.1 200 OK"
    assert http_ask(server, "POST", "/put", {"key": evil, "value": evil, "tags": [evil]})[0] == 200
    path = b"%0d%0aX-Injected:%20yes%0d%0a%0d%0aHTTP%2f1.1%20200%20OK"
    answers = {
        "get": raw(server, get(b"/get/" + path)),
        "entry": raw(server, get(b"/keys/" + path)),
        "list": raw(server, get(b"/keys")),
        "tag": raw(server, get(b"/keys-by-tag?tag=" + path)),
        "origin": raw(server, get(b"/health", b"Origin: http://x%0d%0aX-Injected: yes")),
    }
    for name, answer in answers.items():
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"x-injected" not in head, name
        assert answer.startswith(b"HTTP/1.1 200 "), name
        # What looks like a second response is part of the JSON text.
        assert b"\nHTTP/1.1" not in answer, name
    assert json.loads(answers["get"].partition(b"\r\n\r\n")[2])["value"] == evil
    measured(
        "CR, LF and a whole response in a key, a value, a tag and an origin",
        "they stay data: escaped in the JSON body, never in the head",
        f"{len(answers)} of {len(answers)} answers have no injected header",
    )


PATHS: dict[bytes, int] = {
    b"/get/../stats": 404,
    b"/../../etc/passwd": 404,
    b"//get/k": 404,
    b"/./health": 404,
    b"/health/": 404,
    b"/health;x": 404,
    b"/GET/k": 404,
    b"/get/": 404,
    b"/get/a/b": 404,
    b"*": 404,
    b"\\health": 400,
    b"/get/%c0%af": 400,
    # A raw path segment is one key. It is decoded once.
    b"/get/%2e%2e%2fstats": 200,
    b"/get/%252e": 200,
    b"/get/k%00": 200,
}


def test_path_tricks(server: RunningServer, measured: Measured) -> None:
    for key in ("../stats", "%2e", "k\0"):
        http_ask(server, "POST", "/put", {"key": key, "value": f"value of {key}"})
    for path, status in PATHS.items():
        answer = raw(server, get(path))
        assert statuses(answer) == [status], path
        if status == 200:
            assert b"value of " in answer, path
        assert b"root:" not in answer
    without = raw(
        server, b"GET /get/%2e%2e%2fstats HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    assert statuses(without) == [401]
    measured(
        f"{len(PATHS)} paths: dots, doubled and encoded slashes, odd encodings, zero bytes",
        "no path leads to another endpoint or to a file; an encoded one is a key",
        f"{len(PATHS)} of {len(PATHS)} as expected",
    )


def test_guessing_the_password(server: RunningServer, measured: Measured) -> None:
    def looked_at() -> int:
        return server.text().count("authentication from 127.0.0.1 failed")

    seen: list[int] = []
    begin = time.monotonic()
    while looked_at() < 8:
        wrong = f"Basic {_basic('admin', f'guess{len(seen)}')}"
        seen.append(http_ask(server, "GET", "/stats", authorization=wrong)[0])
    seconds = time.monotonic() - begin
    assert set(seen) == {401, 429}
    # Five are free; then there is a pause of a second, two, four, ...
    assert looked_at() == 8
    assert seconds >= 3
    with server.connect() as client:
        assert client.ask(b"AUTH\tadmin\tpassword") == b"ERR auth_failed\n"
    assert looked_at() == 8
    measured(
        f"{len(seen)} guesses in {seconds:.1f} s from one address",
        "after five, longer and longer pauses without any check, on both ports",
        f"{looked_at()} guesses were checked, the others answered with 429",
    )


def _basic(user: str, password: str) -> str:
    from base64 import b64encode

    return b64encode(f"{user}:{password}".encode()).decode()


def test_the_time_of_a_comparison_tells_nothing(measured: Measured) -> None:
    """It cannot be measured over a network, so this times the comparison itself."""
    stored = "correct horse battery staple" * 20
    first_wrong = ("x" + stored[1:]).encode()
    last_wrong = (stored[:-1] + "x").encode()
    times: dict[bytes, list[float]] = {first_wrong: [], last_wrong: []}
    for _ in range(300):
        for guess, taken in times.items():
            begin = time.perf_counter()
            for _ in range(100):
                matches(stored, guess)
            taken.append((time.perf_counter() - begin) * 1e7)
    early, late = (min(taken) for taken in times.values())
    spread = statistics.quantiles(times[first_wrong], n=4)
    # With 560 more matching bytes a naive comparison would take several times as long.
    assert abs(early - late) < max(0.1 * early, spread[2] - spread[0], 10)
    measured(
        "guesses that differ in the first and in the last of 560 characters",
        "compared in the same time",
        f"{early:.0f} and {late:.0f} ns",
    )


def test_tokens(start: Start, measured: Measured) -> None:
    server = start({"authentication": {"token_lifetime_seconds": 3}})
    login = {"username": "admin", "password": "password"}
    token = http_ask(server, "POST", "/auth/login", login)[1]["token"]

    def status(given: str) -> int:
        return http_ask(server, "GET", "/stats", authorization=f"Bearer {given}")[0]

    assert status(token) == 200
    flipped = token[:-1] + ("A" if token[-1] != "A" else "B")
    forged = [flipped, token[:-1], token + "A", token.swapcase(), "", "A" * 48, "\0", "a" * 4000]
    forged.append(f"{token},{token}")
    refused = [status(each) for each in forged]
    assert [each for each in refused if each != 401] == [400]  # a zero byte is invalid in HTTP
    begin = time.monotonic()
    while status(token) == 200:
        assert time.monotonic() - begin < TIMEOUT
        time.sleep(0.02)
    seconds = time.monotonic() - begin
    assert status(token) == 401
    with server.connect() as client:
        assert client.ask(b"AUTH\t" + token.encode()) == b"ERR auth_failed\n"
    assert token not in server.text()
    measured(
        f"{len(forged)} forged tokens, and one that has expired (token_lifetime_seconds = 3)",
        "401 (400 for one that is not valid HTTP)",
        f"all refused; the token was valid for {seconds:.1f} s after the last of them",
    )


def test_a_foreign_origin(start: Start, measured: Measured) -> None:
    ours, foreign = b"https://dash.example", b"https://evil.example"

    def granted(server: RunningServer, origin: bytes) -> list[bytes]:
        answers = [
            raw(server, get(b"/stats", b"Origin: " + origin)),
            raw(
                server,
                b"OPTIONS /put HTTP/1.1\r\nHost: x\r\nConnection: close\r\nOrigin: %b\r\n"
                b"Access-Control-Request-Method: POST\r\n\r\n" % origin,
            ),
        ]
        heads = b"".join(answer.partition(b"\r\n\r\n")[0].lower() + b"\r\n" for answer in answers)
        return re.findall(rb"access-control-allow-origin: ([^\r]*)\r", heads)

    closed = start()
    assert granted(closed, ours) == granted(closed, foreign) == granted(closed, b"null") == []
    server = start({"server": {"allowed_origin": ours.decode()}})
    assert granted(server, ours) == [ours, ours]
    others = [foreign, b"null", ours + b".evil.example", ours.upper(), b"http://dash.example", b"*"]
    for other in others:
        assert granted(server, other) == [], other
    measured(
        f"requests and preflights from {len(others)} foreign origins, with allowed_origin or not",
        "access-control-allow-origin only for the one that is allowed",
        "granted only to the allowed one; to none by default",
    )


def test_a_request_in_single_bytes(server: RunningServer, measured: Measured) -> None:
    data = post(b"Content-Length: 23") + get(b"/get/k")
    with socket.create_connection(("127.0.0.1", server.http_port), 60) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(len(data)):
            sock.sendall(data[at : at + 1])
        answer = until_closed(sock)
    assert statuses(answer) == [200, 200]
    assert answer.endswith(b'{"value":"v"}')
    measured(
        f"two requests of {len(data)} bytes, a byte at a time",
        "the same answers as in one piece",
        "200, 200",
    )
