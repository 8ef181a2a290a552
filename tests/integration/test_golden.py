"""Exchanges recorded from the reference implementation, replayed against the real server.

``OURS`` lists, by name, every exchange in which we differ on purpose, with our reply.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.running import Client, RunningServer

RECORDED = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "golden" / "tcp.jsonl")
    .read_text(encoding="utf-8")
    .splitlines()
]

OURS = {
    # A TTL of 0 means no TTL.
    "put ttl 0": "OK\nVALUE\tv\n",
    "add expired replaces": "OK\nEXISTS\nVALUE\told\nKEYS\tae\nKEYS\t\n",
    "incr ttl on new": "DEL nf\nVALUE\t1\nVALUE\t1\n",
    "incr expired restarts at by": "OK\nVALUE\t42\nKEYS\tix\n",
    "inv_tag counts expired": "OK\nKEYS\tie\nINV_TAG\t1\n",
    "incr tag field holds tab": "VALUE\t4\nKEYS\tae\nKEYS\tae\n",  # ae has not expired
    # Invalid arguments are an error, and change nothing.
    "put ttl bad": "ERR invalid_ttl\nVALUE\tv\n",
    "put ttl negative": "ERR invalid_ttl\nVALUE\tv\n",
    "put ttl plus": "ERR invalid_ttl\n",
    "put ttl plus -> expired": "VALUE\tv\n",
    "put ttl float": "ERR invalid_ttl\nVALUE\tv\n",
    "put ttl spaces": "ERR invalid_ttl\nVALUE\tv\n",
    "put ttl u64max+1": "ERR invalid_ttl\nVALUE\tv\n",
    "incr bad by -> 1": (
        "DEL ok\nERR invalid_by\nERR invalid_by\nVALUE\t1\nERR invalid_by\nERR invalid_by\n"
    ),
    # These are bytes, so only ASCII white space is trimmed.
    "incr on nbsp padded": "OK\nERR value is not an integer\n",
    # The smallest integer has no positive counterpart.
    "decr i64min": "OK\nERR integer overflow\nVALUE\t0\n",
    # A removed entry is removed from all its tags.
    "ghost tag after inv_tag": "OK\nINV_TAG\t1\nOK\nKEYS\t\nINV_TAG\t0\nVALUE\t2\n",
    # Commands that the reference does not have.
    "unknown": (
        "ERR unknown_command\n" * 4 + "PONG\nOK\n"  # QUIT closes; later bytes are not read
    ),
    # An incomplete last line is not executed.
    "eof without newline is executed": "",
    "..was stored": "NF\n",
    "eof clean": "NF\n",
    # Values are bytes.
    "invalid utf8 closes, later lines lost": "NF\nOK\nNF\n",
    "invalid utf8 key": "NF\n",
    "..nothing stored": "VALUE\t\xff\xfe\nNF\n",
}
# These counts depend on the earlier requests, here and in the reference.
COUNTS = {"reset", "flush extra", "stats shape", "stats extra args", "empty lines ignored"}
# In these the client ends its stream, and the server then closes.
ENDS = {name["name"] for name in RECORDED if name["closed"]} - {
    "invalid utf8 closes, later lines lost",
    "invalid utf8 key",
}


@pytest.fixture(scope="module")
def golden_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("golden")) as server:
        yield server
        assert "Traceback" not in server.text()


def test_every_difference_is_of_a_recorded_exchange() -> None:
    names = {exchange["name"] for exchange in RECORDED}
    assert len(names) == len(RECORDED) == 95
    assert set(OURS) <= names
    assert names >= COUNTS
    for exchange in RECORDED:
        if exchange["name"] in OURS:
            assert OURS[exchange["name"]] != exchange["got"], exchange["name"]


@pytest.mark.parametrize("exchange", RECORDED, ids=[each["name"] for each in RECORDED])
def test_exchange(golden_server: RunningServer, exchange: dict[str, str]) -> None:
    name = exchange["name"]
    if exchange["sent"] is None:
        timed_increment(golden_server, exchange["got"])
        return
    expected = OURS.get(name, exchange["got"]).encode("latin-1")
    with golden_server.connect() as client:
        client.send(exchange["sent"].encode("latin-1"))
        if name in ENDS:
            client.sock.shutdown(socket.SHUT_WR)
            assert client.rest() == expected
            return
        got = b"".join(client.line() for _ in range(expected.count(b"\n")))
        if name in COUNTS:
            assert pattern(got) == pattern(expected)
        else:
            assert sort_keys(got) == sort_keys(expected)
        # No further reply: the next one belongs to the next request.
        if "QUIT" not in exchange["sent"]:
            assert client.ask(b"PING") == b"PONG\n"


def timed_increment(server: RunningServer, got: str) -> None:
    """Counting restarts the TTL. All times are five times those of the recording.

    It is done again where the machine was too slow to ask within the TTL.
    """
    with server.connect() as client:
        in_time = False
        while not in_time:
            asked = [time.monotonic()]
            answered = []
            client.ask(b"PUT\tic\t2000\t-\t1")
            replies = b""
            for pause, request in ((1.25, b"INCR\tic"), (1.25, b"GET\tic"), (1.5, b"GET\tic")):
                time.sleep(pause)
                asked.append(time.monotonic())
                replies += client.ask(request)
                answered.append(time.monotonic())
            in_time = answered[0] - asked[0] < 2 and answered[1] - asked[1] < 2
    assert replies.decode() == got


def pattern(reply: bytes) -> bytes:
    return re.sub(rb"[0-9]+", b"N", reply)


def sort_keys(replies: bytes) -> list[bytes]:
    return [
        b"KEYS\t" + b",".join(sorted(line[5:].split(b","))) if line.startswith(b"KEYS") else line
        for line in replies.splitlines()
    ]


def test_the_client_of_this_test_notices_a_difference(golden_server: RunningServer) -> None:
    with golden_server.connect() as client:
        assert isinstance(client, Client)
        assert client.ask(b"NOPE") == b"ERR unknown_command\n"
