"""How clients connect, and how they handle servers that fail."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
import trustme
from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyClass, verifyObject

from tagcache.client import (
    AsyncClient,
    Client,
    DeferredClient,
    Options,
    State,
    asyncio_network,
    deferred,
)
from tagcache.client.awaited_pool import ICarrier, INetwork, IPromise
from tagcache.client.connection import Connection
from tagcache.errors import (
    AuthenticationFailed,
    BadArgument,
    CannotDecode,
    CircuitOpen,
    ClientError,
    ConnectionFailed,
    PoolExhausted,
    Refused,
    TimedOut,
    Unavailable,
    UnexpectedReply,
)
from tests.contract.conftest import ReactorThread, Waiting, runner_of
from tests.contract.scripted import ScriptedServer, answering, black_hole, silent
from tests.integration.running import RunningServer, eventually
from tests.integration.tls import tls_endpoint

Connect = Callable[..., Any]


@pytest.fixture(params=["blocking", "asyncio", "uvloop", "twisted"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Creates clients of one kind, of any server."""
    made: list[Any] = []
    with runner_of(request.param) as runner:

        async def awaited(call: Callable[[], Any]) -> Any:
            result = call()
            return await result if hasattr(result, "__await__") else result

        def build(url: str = "tagcache://", **changes: Any) -> Any:
            # On a busy machine an answer may take a while.
            options = Options.from_url(url, **{"timeout": 60.0, "connect_timeout": 60.0, **changes})
            match request.param:
                case "blocking":
                    client: Any = Client(options)
                case "asyncio" | "uvloop":
                    client = Waiting(AsyncClient(options), lambda call: runner.run(awaited(call)))
                case "twisted":
                    thread: ReactorThread = request.getfixturevalue("reactor_thread")
                    deferred = DeferredClient.from_options(thread.reactor, options)
                    client = Waiting(deferred, thread.wait)
            made.append(client)
            return client

        yield build
        for client in made:
            client.close()


def test_networks_provide_the_interfaces(reactor_thread: ReactorThread) -> None:
    options = Options()
    endpoint = deferred._endpoint(reactor_thread.reactor, options)
    assert verifyObject(INetwork, asyncio_network.AsyncioNetwork(options))
    assert verifyObject(
        INetwork, deferred.TwistedNetwork(reactor_thread.reactor, endpoint, options)
    )
    assert verifyClass(ICarrier, asyncio_network._Carrier)
    assert verifyClass(ICarrier, deferred._Carrier)
    assert verifyObject(IPromise, deferred._Promise())
    with asyncio.Runner() as runner:
        assert verifyObject(IPromise, asyncio_network._Future(runner.get_loop()))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def state(client: Any) -> State:
    found: State = client.client.state if isinstance(client, Waiting) else client.state
    return found


@contextmanager
def stopped(client: Any) -> Iterator[None]:
    """Stop the reactor in its thread; event loops do not run between two calls anyway."""
    if not (isinstance(client, Waiting) and isinstance(client.client, DeferredClient)):
        yield
        return
    go_on = threading.Event()
    client._wait.__self__.reactor.callFromThread(go_on.wait)
    yield
    go_on.set()


def at_once(client: Any, begin: threading.Event, server: ScriptedServer, count: int) -> None:
    """Look up ``count`` keys at once, each over a separate connection."""

    def answer() -> None:
        eventually(lambda: server.connections == count)
        begin.set()

    answering_later = threading.Thread(target=answer)
    answering_later.start()
    if isinstance(client, Client):
        with ThreadPoolExecutor(count) as threads:
            assert list(threads.map(client.get, ["key"] * count)) == [1] * count
    elif isinstance(client.client, AsyncClient):

        async def together() -> list[int]:
            return await asyncio.gather(*(client.client.get("key") for _ in range(count)))

        assert client._wait(together) == [1] * count
    else:
        asked = [b"key"] * count
        assert client._wait(lambda: gatherResults(map(client.client.get, asked))) == [1] * count
    answering_later.join()


def test_no_server(connect: Connect) -> None:
    client = connect(port=free_port())
    with pytest.raises(ConnectionFailed):
        client.get("key")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 70, "cache..local"])
def test_an_unknown_host(connect: Connect, host: str) -> None:
    client = connect(host=host)
    with pytest.raises(ConnectionFailed):
        client.get("key")


def test_a_reply_that_does_not_arrive(connect: Connect) -> None:
    with ScriptedServer(silent) as server:
        client = connect(port=server.port, timeout=0.1)
        begin = time.monotonic()
        with pytest.raises(TimedOut, match=r"within 0\.1 s"):
            client.get("key")
        assert time.monotonic() - begin > 0.09


def test_the_timeout_is_for_the_whole_reply(connect: Connect) -> None:
    def trickle(sock: socket.socket) -> None:
        sock.recv(65536)
        try:
            for byte in b"$100\r\n" + b"1" * 100 + b"\r\n":
                sock.sendall(bytes([byte]))
                time.sleep(0.03)
        except OSError:
            return

    with ScriptedServer(trickle) as server:
        client = connect(port=server.port, timeout=0.2)
        # Each byte arrives in time, but the whole reply does not.
        with pytest.raises(TimedOut):
            client.get("key")


def test_signals_do_not_extend_the_timeout() -> None:
    before = signal.signal(signal.SIGALRM, lambda number, frame: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
    try:
        # If signals did, this would never end.
        with (
            ScriptedServer(silent) as server,
            Client(port=server.port, timeout=0.2) as client,
            pytest.raises(TimedOut),
        ):
            client.get("key")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_pipeline_that_fails_midway(connect: Connect) -> None:
    client = connect(port=free_port())
    pipe = client.pipeline()
    first = pipe.put("key", 1)
    with pytest.raises(ConnectionFailed):
        pipe.execute()
    with pytest.raises(ConnectionFailed):
        first.result()


def test_tls_is_up_to_the_endpoint(reactor_thread: ReactorThread) -> None:
    endpoint = deferred._endpoint(reactor_thread.reactor, Options())
    with pytest.raises(BadArgument, match="tls is up to the endpoint"):
        DeferredClient(reactor_thread.reactor, endpoint, tls=True)


def test_no_limit_to_connecting(connect: Connect, running: RunningServer) -> None:
    client = connect(port=running.port, connect_timeout=None, timeout=None)
    assert client.ping() is True


def test_an_interrupted_health_check_leaves_no_connection_behind(
    running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Client(port=running.port, timeout=60) as client:
        client.ping()

        def interrupted(connection: Connection) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "is_usable", interrupted)
            with pytest.raises(KeyboardInterrupt):
                client.ping()
        assert client._pool.open == 0
        assert client.ping() is True


def test_a_late_reply_is_dropped(connect: Connect) -> None:
    timed_out = threading.Event()

    def late(sock: socket.socket) -> None:
        sock.recv(65536)
        timed_out.wait(60)
        try:
            sock.sendall(b"$1\r\n1\r\n")
        except OSError:
            return

    with ScriptedServer(late, answering(b"$1\r\n2\r\n")) as server:
        client = connect(port=server.port, timeout=1, breaker_seconds=0)
        with pytest.raises(TimedOut):
            client.get("one")
        timed_out.set()
        time.sleep(0.2)
        assert client.get("two") == 2
        assert server.connections == 2


def test_a_stale_connection_is_replaced(connect: Connect) -> None:
    with ScriptedServer(answering(b"$1\r\n1\r\n")) as server:
        client = connect(port=server.port)
        # The server closes each connection after its reply.
        assert [client.get("key") for _ in range(3)] == [1, 1, 1]
        time.sleep(0.15)
        assert client.get("key") == 1
        assert server.connections == 4


def closing_on(second: bytes) -> Callable[[socket.socket], None]:
    """Reply PONG once, and close the connection without a reply to ``second``."""

    def script(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"+PONG\r\n")
        assert sock.recv(65536) == second

    return script


def test_an_unsafe_command_is_not_sent_twice(connect: Connect) -> None:
    with ScriptedServer(closing_on(b"*3\r\n$8\r\nTAG.INCR\r\n$1\r\nn\r\n$1\r\n1\r\n")) as server:
        client = connect(port=server.port)
        client.ping()
        with pytest.raises(ConnectionFailed):
            client.increment("n")
        assert server.connections == 1


def test_a_safe_command_is_sent_twice(connect: Connect) -> None:
    with ScriptedServer(
        closing_on(b"*2\r\n$3\r\nGET\r\n$1\r\nn\r\n"), answering(b"$1\r\n5\r\n")
    ) as server:
        client = connect(port=server.port)
        client.ping()
        assert client.get("n") == 5
        assert server.connections == 2


def test_it_is_not_sent_three_times(connect: Connect) -> None:
    def closes(sock: socket.socket) -> None:
        sock.recv(65536)

    with ScriptedServer(closing_on(b"*2\r\n$3\r\nGET\r\n$1\r\nn\r\n"), closes) as server:
        client = connect(port=server.port)
        client.ping()
        with pytest.raises(ConnectionFailed):
            client.get("n")
        assert server.connections == 2


def test_more_replies_than_requests(connect: Connect) -> None:
    with ScriptedServer(answering(b"$1\r\n1\r\n$1\r\n2\r\n"), answering(b"$-1\r\n")) as server:
        client = connect(port=server.port)
        with pytest.raises(UnexpectedReply):
            client.get("key")
        assert client.get("key") is None
        assert server.connections == 2


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"-ERR Protocol error: invalid bulk length\r\n", Refused),
        # A server that is full says so before it has read anything, on a line.
        (b"ERR max_connections\n", ConnectionFailed),
    ],
)
def test_a_connection_that_the_server_closes_is_not_used_again(
    connect: Connect, reply: bytes, error: type[ClientError]
) -> None:
    def closing(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(reply)
        # The client must not find out by itself.
        silent(sock)

    with ScriptedServer(closing, answering(b":1\r\n")) as server:
        client = connect(port=server.port)
        with pytest.raises(error):
            client.increment("n")
        assert client.increment("n") == 1
        assert server.connections == 2


def test_the_line_of_a_full_server_may_come_in_pieces(connect: Connect) -> None:
    def trickle(sock: socket.socket) -> None:
        sock.recv(65536)
        for byte in b"ERR max_connections\n":
            sock.sendall(bytes([byte]))
            time.sleep(0.001)
        silent(sock)

    with ScriptedServer(trickle) as server, pytest.raises(ConnectionFailed, match="max_conn"):
        connect(port=server.port).get_many(["a", "b"])


def test_another_kind_of_server(connect: Connect) -> None:
    with ScriptedServer(answering(b"HTTP/1.1 400 Bad Request\r\n")) as server:
        client = connect(port=server.port)
        with pytest.raises(UnexpectedReply, match="HTTP"):
            client.get("key")


def unasked(later: threading.Event, sent: threading.Event) -> Callable[[socket.socket], None]:
    """Answer one request; then send an unexpected reply."""

    def script(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"$1\r\n1\r\n")
        later.wait()
        sock.sendall(b"$3\r\n666\r\n")
        sent.set()
        silent(sock)

    return script


def test_an_unexpected_reply_is_dropped(connect: Connect) -> None:
    later, sent = threading.Event(), threading.Event()
    with ScriptedServer(unasked(later, sent), answering(b"$1\r\n2\r\n")) as server:
        client = connect(port=server.port, timeout=20)
        assert client.get("one") == 1
        # The client's own thread, if it has one, is busy until the reply has arrived.
        with stopped(client):
            later.set()
            assert sent.wait(60)
        assert client.get("two") == 2
        assert server.connections == 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, r"^127\.0\.0\.1:{port}: "),
        ({"host": "::1"}, r"^\[::1\]:{port}: "),
        ({"path": "/nowhere/socket"}, "^unix:/nowhere/socket: "),
    ],
)
def test_errors_name_addresses_in_the_usual_notation(
    connect: Connect, options: dict[str, Any], told: str
) -> None:
    port = free_port()
    with pytest.raises(ConnectionFailed, match=told.format(port=port)) as caught:
        connect(port=port, **options).get("key")
    error: BaseException | None = caught.value
    while error is not None:
        assert not isinstance(error, IndexError)
        error = error.__cause__ or error.__context__


def test_an_unresponsive_server_costs_one_timeout(connect: Connect) -> None:
    with ScriptedServer(silent) as server:
        client = connect(port=server.port, timeout=0.1, breaker_seconds=600)
        assert state(client) is State.CLOSED
        with pytest.raises(TimedOut):
            client.get("key")
        assert state(client) is State.OPEN
        for _ in range(20):
            with pytest.raises(CircuitOpen, match=r"has been unavailable for .*within 0\.1 s"):
                client.get("key")
        assert server.connections == 1


def test_an_unresponsive_server_gives_misses_at_once(connect: Connect) -> None:
    told: list[Unavailable] = []
    with ScriptedServer(silent) as server:
        client = connect(
            port=server.port,
            timeout=0.1,
            breaker_seconds=600,
            ignore_exc=True,
            on_error=told.append,
        )
        assert [client.get("key", 5) for _ in range(20)] == [5] * 20
        assert client.get_many(["a", "b"]) == {}
        assert server.connections == 1
    assert [type(error) for error in told] == [TimedOut] + [CircuitOpen] * 20


def test_a_server_that_is_back_is_used_again(connect: Connect) -> None:
    with ScriptedServer(lambda sock: None, answering(b"$1\r\n1\r\n", b"$1\r\n2\r\n")) as server:
        client = connect(port=server.port, breaker_seconds=0.01)
        with pytest.raises(ConnectionFailed):
            client.get("key")
        time.sleep(0.02)
        assert client.get("key") == 1
        assert state(client) is State.CLOSED
        assert client.get("key") == 2


def test_a_failed_health_check_drops_all_idle_connections(connect: Connect) -> None:
    first = threading.Event()

    def dead(sock: socket.socket) -> None:
        sock.recv(65536)
        first.wait()
        sock.sendall(b"$1\r\n1\r\n")
        silent(sock)

    with ScriptedServer(*[dead] * 3, answering(b"$1\r\n2\r\n")) as server:
        client = connect(port=server.port, timeout=20, connect_timeout=1, health_check_seconds=0)
        at_once(client, first, server, 3)
        # The health check of one idle connection fails, and the others are closed with it.
        assert client.get("key") == 2
        assert server.connections == 4


UNREADABLE = [b"$7\r\nno JSON\r\n", b"$5\r\n\xc1zabc\r\n", b"$5\r\n\\:a\\b\r\n"]


@pytest.mark.parametrize("reply", UNREADABLE)
def test_an_unreadable_value_is_a_miss_if_errors_are_ignored(
    connect: Connect, reply: bytes
) -> None:
    told: list[ClientError] = []
    replies = [reply, b"*3\r\n$1\r\n1\r\n" + reply + b"$1\r\n3\r\n", reply]
    with ScriptedServer(answering(*replies)) as server:
        client = connect(port=server.port, ignore_exc=True, on_error=told.append)
        assert client.get("key", "default") == "default"
        assert client.get_many(["a", "b", "c"]) == {"a": 1, "c": 3}
        pipe = client.pipeline()
        pipe.get("key", 7)
        assert pipe.execute() == [7]
        assert server.connections == 1
    assert all(isinstance(error, CannotDecode) for error in told)
    assert len(told) == 3


@pytest.mark.parametrize("reply", UNREADABLE)
def test_an_unreadable_value_is_an_error(connect: Connect, reply: bytes) -> None:
    replies = [reply, b"*2\r\n$1\r\n1\r\n" + reply, b"$1\r\n5\r\n"]
    with ScriptedServer(answering(*replies)) as server:
        client = connect(port=server.port)
        with pytest.raises(CannotDecode):
            client.get("key")
        with pytest.raises(CannotDecode):
            client.get_many(["a", "b"])
        assert client.get("key") == 5
        assert server.connections == 1


def test_an_unavailable_cache_is_a_miss_if_errors_are_ignored(connect: Connect) -> None:
    told: list[Unavailable] = []
    client = connect(port=free_port(), ignore_exc=True, on_error=told.append)
    assert client.get("key", "default") == "default"
    assert client.put("key", 1) is client.add("key", 1) is client.delete("key") is False
    assert client.get_many(["a", "b"]) == {}
    assert client.put_many({"a": 1}) == client.delete_many(["a"]) == 0
    assert client.increment("n", 5) == 5
    assert client.decrement("n", 5) == -5
    assert client.invalidate_tag("t") == client.flush() == 0
    assert client.keys_by_tag("t") == client.search(["t"]) == client.clients() == []
    assert client.ping() is False
    assert client.get_or_set("key", lambda: 7) == 7
    assert len(told) == 17
    assert all(isinstance(error, ConnectionFailed) for error in told)


def test_a_refusal_is_not_ignored(connect: Connect, running: RunningServer) -> None:
    client = connect(port=running.port, ignore_exc=True)
    with pytest.raises(Refused):
        client.put("k" * 2000, 1)


def test_the_pool_is_bounded(connect: Connect) -> None:
    with ScriptedServer(silent) as server:
        client = connect(port=server.port, timeout=0.3, pool_size=1, pool_timeout=0)
        if isinstance(client, Client):
            connection, _ = client._pool.take()
            with pytest.raises(PoolExhausted, match="all 1 connections"):
                client.get("key")
            client._pool.discard(connection)
            return
        outcomes: list[Any] = []

        async def twice() -> None:
            first, second = client.client.get("a"), client.client.get("b")
            for each in (first, second):
                try:
                    await each
                except Unavailable as error:
                    outcomes.append(type(error))

        async def beside() -> None:
            results = await asyncio.gather(
                client.client.get("a"), client.client.get("b"), return_exceptions=True
            )
            outcomes.extend(map(type, results))

        if isinstance(client.client, AsyncClient):
            client._wait(beside)
        else:
            from twisted.internet.defer import Deferred

            client._wait(lambda: Deferred.fromCoroutine(twice()))
        assert sorted(outcomes, key=str) == sorted([TimedOut, PoolExhausted], key=str)


def test_socket_options_are_applied(connect: Connect, running: RunningServer) -> None:
    client = connect(
        port=running.port,
        tcp_nodelay=False,
        tcp_keepalive_seconds=77,
        tcp_keepalive_interval_seconds=7,
        tcp_keepalive_probes=4,
        tcp_user_timeout_ms=12345,
        send_buffer_bytes=50_000,
        receive_buffer_bytes=60_000,
    )
    told = client.socket_options()
    assert told.pop("send_buffer_bytes")["effective"] >= 50_000
    assert told.pop("receive_buffer_bytes")["effective"] >= 60_000
    assert told == {
        "tcp_nodelay": {"asked": False, "effective": False},
        "tcp_keepalive_seconds": {"asked": 77, "effective": 77},
        "tcp_keepalive_interval_seconds": {"asked": 7, "effective": 7},
        "tcp_keepalive_probes": {"asked": 4, "effective": 4},
        "tcp_user_timeout_ms": {"asked": 12345, "effective": 12345},
    }


def test_authentication(connect: Connect, start: Callable[..., RunningServer]) -> None:
    server = start(
        {
            "authentication": {"username": "ada", "password": "l0ve:lace/%"},
            "security": {"require_tcp_auth": "true"},
        }
    )
    good = connect(f"tagcache://ada:l0ve%3Alace%2F%25@127.0.0.1:{server.port}")
    good.put("key", 1)
    assert good.get("key") == 1
    wrong = connect(f"tagcache://ada:wrong@127.0.0.1:{server.port}")
    with pytest.raises(AuthenticationFailed, match="auth_failed"):
        wrong.get("key")
    none = connect(f"tagcache://127.0.0.1:{server.port}", ignore_exc=True)
    with pytest.raises(AuthenticationFailed, match="auth_required"):
        none.get("key")


@pytest.mark.parametrize("connect", ["blocking", "asyncio", "uvloop"], indirect=True)
def test_tls(connect: Connect, start: Callable[..., RunningServer], tmp_path: Path) -> None:
    endpoint, _ = tls_endpoint(tmp_path)
    server = start({"server": {"tcp_port": endpoint}})
    authority = tmp_path / "ca.pem"
    trusting = connect(f"tagcaches://localhost:{server.port}?tls_ca_file={authority}")
    trusting.put("key", "x" * 100_000)
    assert trusting.get("key") == "x" * 100_000
    assert trusting.socket_options()["tcp_nodelay"] == {"asked": True, "effective": True}
    careless = connect(f"tagcaches://127.0.0.1:{server.port}?tls_verify=no")
    assert careless.get_many(["key"]) == {"key": "x" * 100_000}
    with pytest.raises(ConnectionFailed):
        connect(f"tagcaches://localhost:{server.port}").get("key")
    other = tmp_path / "other.pem"
    trustme.CA().cert_pem.write_to_path(str(other))
    with pytest.raises(ConnectionFailed):
        connect(f"tagcaches://localhost:{server.port}?tls_ca_file={other}").get("key")
    with pytest.raises(Unavailable):
        connect(f"tagcache://127.0.0.1:{server.port}", timeout=0.5).get("key")


@pytest_twisted.ensureDeferred
async def test_tls_on_a_reactor(start: Callable[..., RunningServer], tmp_path: Path) -> None:
    # On the global reactor: Twisted's TLS takes its clock from there.
    from twisted.internet import reactor

    endpoint, _ = tls_endpoint(tmp_path)
    server = start({"server": {"tcp_port": endpoint}})
    authority = tmp_path / "ca.pem"
    url = f"tagcaches://localhost:{server.port}"
    trusting = DeferredClient.from_url(reactor, f"{url}?timeout=60&tls_ca_file={authority}")
    await trusting.put("key", "x" * 100_000)
    assert await trusting.get("key") == "x" * 100_000
    told = await trusting.socket_options()
    assert told["tcp_nodelay"] == {"asked": True, "effective": True}
    await trusting.close()
    careless = DeferredClient.from_url(reactor, f"{url}?timeout=60&tls_verify=no")
    assert await careless.get_many(["key"]) == {"key": "x" * 100_000}
    await careless.close()
    suspicious = DeferredClient.from_url(reactor, url)
    with pytest.raises(ConnectionFailed):
        await suspicious.get("key")
    await suspicious.close()


def test_a_unix_socket(
    connect: Connect, start: Callable[..., RunningServer], tmp_path: Path
) -> None:
    path = tmp_path / "socket"
    start({"server": {"tcp_port": f"unix:{path}"}})
    client = connect(f"unix://{path}")
    client.put("key", 1)
    assert client.get("key") == 1
    assert set(client.socket_options()) == {"send_buffer_bytes", "receive_buffer_bytes"}


def test_both_families_are_tried(
    connect: Connect,
    running: RunningServer,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    real = socket.getaddrinfo

    def both(host: Any, port: Any, *args: Any, **more: Any) -> Any:
        if host != "two-families.example":
            return real(host, port, *args, **more)
        first = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))
        return [first, (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    # The server listens on IPv4 only, so the first address refuses the connection.
    client = connect(f"tagcache://two-families.example:{running.port}")
    if isinstance(client, Waiting) and isinstance(client.client, DeferredClient):
        pytest.skip("Twisted's HostnameEndpoint resolves names and tries addresses")
    if request.node.callspec.params["connect"] == "uvloop":
        pytest.skip("uvloop resolves names itself")
    assert client.ping() is True


@pytest.mark.parametrize("connect", ["blocking", "asyncio"], indirect=True)
def test_an_address_that_does_not_accept_is_skipped(
    connect: Connect, running: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with black_hole() as port:

        def both(host: Any, *args: Any, **more: Any) -> Any:
            ports = (port, running.port)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, each)) for each in ports]

        monkeypatch.setattr(socket, "getaddrinfo", both)
        client = connect(connect_timeout=0.5, timeout=20)
        assert [client.ping() for _ in range(3)] == [True] * 3


def test_old_idle_connections_are_tested_first(connect: Connect) -> None:
    def dead(sock: socket.socket) -> None:
        sock.recv(65536)
        sock.sendall(b"$1\r\n1\r\n")
        # Further requests get no reply.
        silent(sock)

    with ScriptedServer(dead, answering(b"$1\r\n2\r\n")) as server:
        # It waits for half of the time to connect, not for the whole timeout.
        client = connect(port=server.port, connect_timeout=4, health_check_seconds=0.05)
        assert client.get("key") == 1
        time.sleep(0.1)
        assert client.get("key") == 2
        assert server.connections == 2


def test_a_closed_client(connect: Connect, running: RunningServer) -> None:
    client = connect(port=running.port)
    client.ping()
    before = len(client.clients())
    client.close()
    with pytest.raises(ConnectionFailed, match="closed"):
        client.get("key")
    other = connect(port=running.port)
    eventually(lambda: len(other.clients()) <= before)
