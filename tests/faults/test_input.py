"""Arbitrary bytes, cut anywhere, and every number at its limit and one beyond."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.faults.doors import AUTHORIZATION, http_ask
from tests.faults.processes import descriptors
from tests.faults.streams import (
    fuzz_codec,
    fuzz_http,
    is_comparable,
    pieces,
    through_codec,
    through_http,
)
from tests.integration.running import RunningServer, eventually
from tests.reliability import Measured

SECTION = "bad input"
CORPUS = Path(__file__).parents[1] / "corpus"
EXAMPLES = 300

VERBS = (
    *("GET", "PUT", "ADD", "INCR", "DECR", "DEL", "INV_TAG", "INV_TAGS_ANY", "INV_TAGS_ALL"),
    *("INV_KEYS", "KEYS_BY_TAG", "KEYS", "STATS", "FLUSH", "AUTH", "CLIENTS", "CLIENT_KILL"),
    *("INFO", "PING", "QUIT", "get", "put", "ping", "NOTHING"),
)
FIELDS = st.one_of(
    st.sampled_from([b"k", b"l", b"a,b", b"a", b"-", b"", b"1", b"0", b"-1", b"check", b" k "]),
    st.sampled_from([b"18446744073709551615", b"18446744073709551616", b"x" * 21, b"v" * 201]),
    st.binary(max_size=12),
)
LINES = st.builds(
    lambda verb, fields, end: b"\t".join([verb.encode(), *fields]) + end,
    st.sampled_from(VERBS),
    st.lists(FIELDS, max_size=6),
    st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n", b""]),
)
STREAMS = st.lists(st.one_of(LINES, LINES, LINES, st.binary(max_size=400)), max_size=12).map(
    b"".join
)
CUTS = st.lists(st.integers(0, 40), max_size=30)

HEADERS = st.sampled_from(
    [
        b"Authorization: " + AUTHORIZATION.encode(),
        b"Authorization: Basic eA==",
        b"Authorization: Bearer x",
        b"Content-Type: application/json",
        b"Content-Type: text/plain",
        b"Connection: close",
        b"Connection: keep-alive",
        b"Expect: 100-continue",
        b"Transfer-Encoding: chunked",
        b"Origin: x",
        b"Upgrade: h2c",
    ]
)
BODIES = st.one_of(
    st.sampled_from([b"", b"{}", b'{"key":"k","value":"v"}', b'{"tags":["a"]}', b"[" * 200]),
    st.sampled_from([b'{"key":"k","value":"v","ttl_ms":1e400}', b'{"key":"\\ud800","value":1}']),
    st.binary(max_size=60),
)
PATHS = st.sampled_from(
    [
        "/put",
        "/get/k",
        "/get/%6b",
        "/keys/k",
        "/keys",
        "/flush",
        "/search",
        "/nothing",
        "/keys?limit=x",
    ]
)


@st.composite
def requests(draw: Any) -> bytes:
    body = draw(BODIES)
    method = draw(st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"]))
    headers = draw(st.lists(HEADERS, max_size=5))
    if draw(st.booleans()):
        headers.append(
            b"Content-Length: %d" % (len(body) + draw(st.sampled_from([0, 0, 0, 1, -1])))
        )
    head = f"{method} {draw(PATHS)} HTTP/1.1\r\nHost: x\r\n".encode()
    return head + b"".join(line + b"\r\n" for line in headers) + b"\r\n" + body


HTTP_STREAMS = st.lists(st.one_of(requests(), requests(), st.binary(max_size=60)), max_size=4).map(
    b"".join
)


@pytest.mark.slow
def test_lines_cut_anywhere(measured: Measured) -> None:
    count = 0

    @settings(max_examples=EXAMPLES)
    @given(STREAMS, CUTS)
    def check(data: bytes, cuts: list[int]) -> None:
        nonlocal count
        count += 1
        whole = through_codec([data])
        assert through_codec(pieces(data, cuts)) == whole
        assert through_codec([data[at : at + 1] for at in range(len(data))]) == whole
        if whole.closed:
            # It closes only for a reason: QUIT, a line that is too long, or, in a stream that
            # begins as RESP does, what is no request of RESP.
            asked = re.search(rb"(^|\n)quit(\t|\r*\n)", data, re.IGNORECASE)
            killed = re.search(rb"(^|\n)client_kill\t", data, re.IGNORECASE)
            malformed = data.startswith(b"*") and b"-ERR Protocol error: " in whole.replies
            assert asked or killed or malformed or b"ERR line_too_long\n" in whole.replies

    check()
    measured(
        f"{count} streams of lines and arbitrary bytes (Hypothesis), cut anywhere",
        "the same replies however cut; closed only for a reason; nothing in the log, nothing left",
        f"{count} of {count} the same, whole, cut, and byte by byte",
    )


@pytest.mark.slow
def test_http_cut_anywhere(measured: Measured) -> None:
    count = 0

    @settings(max_examples=EXAMPLES)
    @given(HTTP_STREAMS, CUTS)
    def check(data: bytes, cuts: list[int]) -> None:
        nonlocal count
        count += 1
        whole = through_http([data])
        cut = through_http(pieces(data, cuts))
        single = through_http([data[at : at + 1] for at in range(len(data))])
        assert b"HTTP/1.1 500" not in whole.replies
        if is_comparable(data):
            assert cut == whole
            assert single == whole

    check()
    measured(
        f"{count} streams of HTTP requests and arbitrary bytes (Hypothesis), cut anywhere",
        "the same answers however cut; no 500; nothing in the log, nothing left",
        f"{count} of {count} the same, whole, cut, and byte by byte",
    )


@pytest.mark.parametrize("kind", ["codec", "http"])
def test_the_corpus(kind: str, measured: Measured) -> None:
    """The streams that the fuzzer kept, and those that once caused a failure."""
    check = {"codec": fuzz_codec, "http": fuzz_http}[kind]
    files = sorted((CORPUS / kind).iterdir())
    for path in files:
        check(path.read_bytes())
    assert len(files) > 10
    measured(
        f"the corpus of the {kind} fuzzer",
        "as above",
        f"{len(files)} of {len(files)}",
    )


def test_arbitrary_bytes_at_the_real_doors(server: RunningServer, measured: Measured) -> None:
    with server.connect() as client:
        client.ask(b"PING")
        before = descriptors(server.process.pid)
        count = 0

        @settings(max_examples=60)
        @given(st.one_of(STREAMS, HTTP_STREAMS), CUTS)
        def send(data: bytes, cuts: list[int]) -> None:
            nonlocal count
            if b"CLIENT_KILL" in data.upper():
                return
            for port in (server.port, server.http_port):
                count += 1
                with socket.create_connection(("127.0.0.1", port), 60) as sock:
                    try:
                        for piece in pieces(data, cuts):
                            sock.sendall(piece)
                        sock.shutdown(socket.SHUT_WR)
                        while sock.recv(65536):
                            pass
                    except (ConnectionResetError, BrokenPipeError, OSError):
                        pass

        send()
        eventually(lambda: client.json(b"INFO")["connections"]["open"] == 1)
        assert descriptors(server.process.pid) == before
        assert client.json(b"INFO\tcheck")["check"]["ok"] is True
    assert " error " not in server.text()
    measured(
        f"{count} connections to both real ports with such bytes",
        "all end, none is left, only warnings in the log",
        f"{count} ended; descriptors before and after: {before}",
    )


MOST = 2**64 - 1
TOP, BOTTOM = 2**63 - 1, -(2**63)
# Requests with their replies: each at its limit and one beyond.
LIMITS: list[tuple[bytes, bytes]] = [
    (b"PUT\tk\t%d\t-\tv" % MOST, b"OK"),
    (b"PUT\tk\t%d\t-\tv" % (MOST + 1), b"ERR invalid_ttl"),
    (b"PUT\tk\t" + b"0" * 5000 + b"1\t-\tv", b"OK"),
    (b"PUT\tk\t-1\t-\tv", b"ERR invalid_ttl"),
    (b"PUT\tk\t+1\t-\tv", b"ERR invalid_ttl"),
    (b"PUT\tk\t1.0\t-\tv", b"ERR invalid_ttl"),
    (b"PUT\tk\t\xd9\xa1\t-\tv", b"ERR invalid_ttl"),
    (b"PUT\tk\t0\t-\tv", b"OK"),
    (b"GET\tk", b"VALUE\tv"),
    (b"PUT\t" + b"k" * 1024 + b"\t-\t-\tv", b"OK"),
    (b"PUT\t" + b"k" * 1025 + b"\t-\t-\tv", b"ERR key_too_long"),
    (b"PUT\tk\t-\t-\t" + b"v" * 1_048_576, b"OK"),
    (b"PUT\tk\t-\t-\t" + b"v" * 1_048_577, b"ERR value_too_large"),
    (b"PUT\tk\t-\t%s\tv" % b",".join(b"%d" % n for n in range(100)), b"OK"),
    (b"PUT\tk\t-\t%s\tv" % b",".join(b"%d" % n for n in range(101)), b"ERR too_many_tags"),
    (b"PUT\tk\t-\t%s\tv" % b",".join([b"same"] * 5000), b"OK"),
    (b"PUT\tk\t-\t" + b"t" * 1024 + b"\tv", b"OK"),
    (b"PUT\tk\t-\t" + b"t" * 1025 + b"\tv", b"ERR tag_too_long"),
    (b"PUT\tn\t-\t-\t%d" % TOP, b"OK"),
    (b"INCR\tn\t1", b"ERR integer overflow"),
    (b"INCR\tn\t0", b"VALUE\t%d" % TOP),
    (b"INCR\tn\t%d" % BOTTOM, b"VALUE\t-1"),
    (b"INCR\tn\t%d" % (TOP + 1), b"ERR invalid_by"),
    (b"DECR\tn\t%d" % BOTTOM, b"ERR integer overflow"),
    (b"DECR\tn\t%d" % TOP, b"VALUE\t%d" % BOTTOM),
    (b"DECR\tn\t1", b"ERR integer overflow"),
    (b"INCR\tn\t%d" % (BOTTOM - 1), b"ERR invalid_by"),
    (b"INCR\tn\t" + b"9" * 5000, b"ERR invalid_by"),
    (b"PUT\tn\t-\t-\t" + b"9" * 5000, b"OK"),
    (b"INCR\tn", b"ERR value is not an integer"),
    (b"CLIENT_KILL\t" + b"9" * 19, b'CLIENT_KILL\t{"id":9999999999999999999,"killed":false}'),
    (b"CLIENT_KILL\t" + b"9" * 20, b"ERR invalid_id"),
    (b"CLIENT_KILL\t-1", b"ERR invalid_id"),
    (b"INV_KEYS\t" + b",".join(b"%d" % n for n in range(100_000)), b"INV_KEYS\t0"),
    (b"INV_TAGS_ANY\t" + b"," * 100_000, b"ERR empty_tags"),
]


def test_limits_and_one_beyond(server: RunningServer, measured: Measured) -> None:
    with server.connect() as client:
        for request, reply in LIMITS:
            assert client.ask(request) == reply + b"\n", request[:100]
    measured(
        "TTL, by, lengths, counts and ids at their limits and one beyond, over the wire",
        "accepted at the limit, a named error beyond it, and the connection goes on",
        f"{len(LIMITS)} of {len(LIMITS)} on one connection",
    )


def test_limits_over_http(server: RunningServer, measured: Measured) -> None:
    cases: list[tuple[dict[str, object], int]] = [
        ({"ttl_ms": MOST}, 200),
        ({"ttl_ms": MOST + 1}, 422),
        ({"ttl_ms": -1}, 422),
        ({"ttl_ms": 5.0}, 422),
        ({"ttl_ms": True}, 422),
        ({"ttl_ms": "5"}, 422),
        ({"ttl_seconds": MOST // 1000}, 200),
        ({"ttl_seconds": MOST}, 200),  # practically for ever
        ({"ttl_seconds": MOST + 1}, 422),
        ({"key": "k" * 1024}, 200),
        ({"key": "k" * 1025}, 422),
        ({"key": "\N{EURO SIGN}" * 342}, 422),
        ({"value": "v" * 1_048_576}, 200),
        ({"value": "v" * 1_048_577}, 413),
        ({"tags": [str(n) for n in range(100)]}, 200),
        ({"tags": [str(n) for n in range(101)]}, 422),
        ({"tags": ["t" * 1025]}, 422),
        ({"value": "v" * 3_000_000}, 413),
    ]
    seen = []
    for fields, _ in cases:
        body = {"key": "k", "value": "v", **fields}
        seen.append(http_ask(server, "POST", "/put", body)[0])
    told = {
        json.dumps(fields)[:40]: status for (fields, _), status in zip(cases, seen, strict=True)
    }
    assert seen == [status for _, status in cases], told
    for path in ("/keys?limit=-1", "/keys?limit=99999999999999999999999", "/keys?offset=x"):
        assert http_ask(server, "GET", path)[0] in (200, 400), path
    measured(
        "the same over HTTP, and numbers of the wrong type",
        "200 at the limit; 413 and 422 beyond it",
        f"{len(cases)} of {len(cases)}",
    )
