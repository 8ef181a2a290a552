"""On the reactor with the pump, native replies are counted, limited and ordered as all others."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tagcache import native
from tests.integration.running import TWISTD, RunningServer, eventually
from tests.integration.test_monitoring import get

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

Start = Callable[..., RunningServer]


@pytest.fixture
def server(start: Start) -> RunningServer:
    server = start(reactor="tagcache")
    with server.connect() as client:
        assert client.ask(b"PUT\tk\t-\ta\tvalue") == b"OK\n"
    return server


def resp(*arguments: bytes) -> bytes:
    return b"*%d\r\n" % len(arguments) + b"".join(
        b"$%d\r\n%b\r\n" % (len(each), each) for each in arguments
    )


def exactly(client: Any, request: bytes, reply: bytes) -> None:
    """Send a request, and read just this reply."""
    client.send(request)
    got = b""
    while len(got) < len(reply):
        more = client.sock.recv(len(reply) - len(got))
        assert more, got
        got += more
    assert got == reply


def test_every_look_up_is_counted_everywhere(server: RunningServer) -> None:
    with server.connect() as lines, server.connect() as redis:
        for _ in range(50):
            assert lines.ask(b"GET\tk") == b"VALUE\tvalue\n"
            assert lines.ask(b"GET\tnone") == b"NF\n"
            exactly(redis, resp(b"GET", b"k") * 2, b"$5\r\nvalue\r\n" * 2)
        with server.connect() as other:
            assert other.ask(b"STATS") == b"STATS\t150\t50\t1\t0\t0.750000\n"
            info = other.json(b"INFO")
        assert info["server"]["native_core"] == "in use"
        assert info["server"]["event_loop"] == "native"
        assert 'tagcache_commands_total{cmd="get"} 200.0' in get(server, "/metrics").decode()
        described = json.loads(get(server, "/connections"))["connections"]
        told = {each["peer"]: each for each in described}
        for client, requests, sent, received in (
            (lines, 100, 50 * len("GET\tk\nGET\tnone\n"), 50 * len("VALUE\tvalue\nNF\n")),
            (redis, 100, 100 * len(resp(b"GET", b"k")), 100 * len("$5\r\nvalue\r\n")),
        ):
            connection = told[f"127.0.0.1:{client.sock.getsockname()[1]}"]
            assert connection["commands"] == requests
            assert (connection["bytes_in"], connection["bytes_out"]) == (sent, received)
            assert connection["last_verb"] == "GET"
            assert connection["idle_seconds"] <= connection["age_seconds"]


def test_fetches_are_counted_whoever_answers(server: RunningServer) -> None:
    with server.connect() as lines, server.connect() as redis:
        assert lines.ask(b"FETCH\tk\t1000") == b"HIT\tvalue\n"
        assert lines.ask(b"FETCH\tk\t1000\t5000") == b"HIT\tvalue\n"
        assert lines.ask(b"FETCH\tnone\t1000").startswith(b"LEASE\t")
        assert lines.ask(b"FETCH\tnone\t1000").startswith(b"WAIT\t")
        fetch = resp(b"TAG.FETCH", b"k", b"LEASE", b"1000")
        exactly(redis, fetch * 2, b"*3\r\n$3\r\nHIT\r\n$5\r\nvalue\r\n$-1\r\n" * 2)
        assert lines.ask(b"STATS") == b"STATS\t4\t2\t1\t0\t0.666667\n"
    metrics = get(server, "/metrics").decode()
    assert 'tagcache_commands_total{cmd="fetch"} 4.0' in metrics
    assert 'tagcache_commands_total{cmd="tag.fetch"} 2.0' in metrics


def test_durations_of_native_plain_are_sampled(server: RunningServer) -> None:
    with server.connect() as client:

        def sampled() -> bool:
            for _ in range(10):
                client.ask(b"GET\tk")
            counted = re.search(
                r'duration_seconds_count\{cmd="get"\} (\S+)', get(server, "/metrics").decode()
            )
            return counted is not None and float(counted[1]) > 50

        eventually(sampled)


def test_a_client_that_only_looks_up_is_not_idle(start: Start) -> None:
    server = start({"performance": {"idle_timeout_seconds": 1}}, reactor="tagcache")
    with server.connect() as client, server.connect() as idle:
        assert idle.ask(b"PING") == b"PONG\n"
        end = time.monotonic() + 2.5
        while time.monotonic() < end:
            assert client.ask(b"GET\tk") == b"NF\n"
            time.sleep(0.05)
        assert idle.line() == b""
        assert client.ask(b"PING") == b"PONG\n"


def test_order_is_kept_between_native_and_other_requests(server: RunningServer) -> None:
    with server.connect() as client:
        client.ask(b"PING")
        request = b"GET\tk\nPUT\tk\t-\t-\tnew\nGET\tk\nINV_TAG\ta\nDEL\tk\nGET\tk\nGET\tk\nPING\n"
        replies = b"VALUE\tvalue\nOK\nVALUE\tnew\nINV_TAG\t0\nDEL ok\nNF\nNF\nPONG\n"
        exactly(client, request, replies)
        for cut in range(1, len(request)):
            client.ask(b"PUT\tk\t-\ta\tvalue")
            client.send(request[:cut])
            exactly(client, request[cut:], replies)


def test_plain_are_queued_in_a_transaction(server: RunningServer) -> None:
    with server.connect() as client:
        get, value = resp(b"GET", b"k"), b"$5\r\nvalue\r\n"
        exactly(client, get, value)
        exactly(client, get, value)
        exactly(client, resp(b"MULTI"), b"+OK\r\n")
        exactly(client, get, b"+QUEUED\r\n")
        exactly(client, get + get, b"+QUEUED\r\n" * 2)
        exactly(client, resp(b"EXEC") + get, b"*3\r\n" + value * 4)
        exactly(client, get, value)
        exactly(client, resp(b"MULTI") + get, b"+OK\r\n+QUEUED\r\n")
        exactly(client, get, b"+QUEUED\r\n")
        exactly(client, resp(b"DISCARD"), b"+OK\r\n")
        exactly(client, get, value)


def test_the_protocol_and_the_database_are_those_of_the_connection(server: RunningServer) -> None:
    with server.connect() as client:
        missing = resp(b"GET", b"none")
        exactly(client, missing, b"$-1\r\n")
        exactly(client, missing, b"$-1\r\n")
        client.send(resp(b"HELLO", b"3"))
        while b"modules" not in client.line():
            pass
        client.line()
        exactly(client, missing, b"_\r\n")
        exactly(client, missing, b"_\r\n")
        exactly(client, resp(b"SELECT", b"1"), b"+OK\r\n")
        exactly(client, resp(b"GET", b"k"), b"_\r\n")
        exactly(client, resp(b"SELECT", b"0") + resp(b"GET", b"k"), b"+OK\r\n$5\r\nvalue\r\n")
        exactly(client, resp(b"RESET"), b"+RESET\r\n")
        exactly(client, missing, b"$-1\r\n")


def test_a_reload_that_limits_rates_limits_look_ups(server: RunningServer) -> None:
    with server.connect() as client:
        for _ in range(20):
            assert client.ask(b"GET\tk") == b"VALUE\tvalue\n"
        server.reload(security={"rate_limit_per_minute": 3})
        replies = [client.ask(b"GET\tk") for _ in range(5)]
        assert replies == [b"VALUE\tvalue\n"] * 3 + [b"ERR rate_limited\n"] * 2
        server.reload(security={"rate_limit_per_minute": 0})
        assert client.ask(b"GET\tk") == b"VALUE\tvalue\n"


def test_log_in_comes_first(start: Start) -> None:
    sections = {
        "security": {"require_tcp_auth": True},
        "authentication": {"username": "me", "password": "secret"},
    }
    server = start(sections, reactor="tagcache")
    with server.connect() as client:
        assert client.ask(b"GET\tk") == b"ERR auth_required\n"
        assert client.ask(b"GET\tk") == b"ERR auth_required\n"
        assert client.ask(b"AUTH\tme\tsecret").startswith(b"OK")
        assert client.ask(b"GET\tk") == b"NF\n"
        assert client.ask(b"GET\tk") == b"NF\n"


def test_a_client_that_does_not_read_holds_a_bounded_amount(start: Start) -> None:
    server = start({"performance": {"send_timeout_seconds": 1}}, reactor="tagcache")
    with server.connect() as client:
        client.send(b"PUT\tlarge\t-\t-\t" + b"x" * 200_000 + b"\n")
        assert client.line() == b"OK\n"
        client.send(b"GET\tlarge\n" * 5000)
        server.wait_for_log("it has read no replies for 1")
        with server.connect() as other:
            assert other.ask(b"GET\tlarge").startswith(b"VALUE\txxx")


def test_without_the_native_core_the_reactor_is_refused_and_told(start: Start) -> None:
    server = start(reactor="tagcache", environ={"TAGCACHE_NATIVE": "0"}, wait=False)
    assert server.process.wait(60) != 0
    assert "it needs the native core, which is turned off" in server.text()


def test_the_command_takes_the_pump_by_itself(server: RunningServer) -> None:
    command = TWISTD.with_name("tagcache")
    log = server.directory / "other.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [command, "server", "--config", server.config],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=server.environ,
        )
    try:
        eventually(lambda: "runs on native (NativeReactor)" in log.read_text())
    finally:
        process.terminate()
        # As after `twistd`.
        assert process.wait(60) == -signal.SIGTERM
