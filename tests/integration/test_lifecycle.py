"""Start, connection limits, reload and stop of the real process."""

from __future__ import annotations

import json
import os
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.integration.running import (
    ENGINE_URL,
    Client,
    RunningServer,
    eventually,
    takes_signals,
)
from tests.integration.tls import tls_endpoint

Start = Callable[..., RunningServer]


def fails(start: Start, *args: Any, **more: Any) -> str:
    server = start(*args, wait=False, **more)
    assert server.process.wait(60) == 1
    return server.text()


def is_served(server: RunningServer) -> bool:
    """Return whether a new client is served. A full server answers with an error or closes."""
    try:
        return server.ask(b"PING") == b"PONG\n"
    except ConnectionError:
        return False


def test_a_taken_port_fails_the_start_and_is_named(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        text = fails(start, {"server": {"tcp_port": port}})
    assert f"cannot listen on tcp:{port}:interface=127.0.0.1 (server.tcp_port)" in text
    assert "Address already in use" in text


def test_a_bad_configuration_fails_the_start_with_every_fault(start: Start) -> None:
    text = fails(
        start,
        {"server": {"tcp_port": "no"}, "performance": {"max_conections": 5}},
        environ={"TC_SWEEP_INTERVAL_MS": "x"},
    )
    assert "server.tcp_port" in text
    assert "did you mean max_connections?" in text
    assert "TC_SWEEP_INTERVAL_MS" in text
    assert text.count("tagcache: the configuration cannot be used") == 1


def test_the_start_is_told_in_a_few_short_lines(start: Start) -> None:
    lines = start({"logging": {"level": "info"}}).wait_for_log("dashboard: ").splitlines()
    assert len(lines) == 4
    assert all(len(line) < 180 for line in lines[:2])
    assert "cache: listening on 127.0.0.1:" in lines[0]
    assert lines[1].endswith("; socket options: as asked")
    assert re.search(
        r"TagCache \S+ runs on \w+ \(\w+Reactor\); native core: [a-z ]+; configuration: /", lines[2]
    )
    assert 'log in as admin with the default password, "password"' in lines[3]
    own = {"authentication": {"username": "me", "password": "secret"}}
    text = start(own).wait_for_log("dashboard: ")
    assert re.search(r"dashboard: http://127\.0\.0\.1:\d+/ \(log in as me\)", text)
    assert "secret" not in text


@pytest.mark.parametrize("reactor", ["epoll", "poll", "asyncio", "uvloop"])
def test_the_event_loop_that_runs_is_named(tmp_path: Path, reactor: str) -> None:
    if ENGINE_URL and reactor in ("epoll", "poll"):
        pytest.skip("the engine needs asyncio")
    with RunningServer(tmp_path, reactor=reactor) as server:
        assert f" runs on {reactor} (" in server.wait_for_log("dashboard: ")
        with server.connect() as client:
            assert client.json(b"INFO")["server"]["event_loop"] == reactor
        server.stop()


def test_the_default_password_keeps_other_machines_out(start: Start) -> None:
    text = fails(start, environ={"HOST": "0.0.0.0"})
    assert "Three ways out" in text
    server = start(environ={"HOST": "0.0.0.0", "TAGCACHE_PASSWORD": "own"})
    assert server.addresses["cache"].startswith("0.0.0.0:")
    assert "is open to everyone who can reach 0.0.0.0" in server.text()


def test_notices_are_in_the_log(start: Start) -> None:
    text = start({"server": {"num_shards": 4}}).text()
    assert " warn     tagcache.start: server.num_shards = 4 has no effect" in text


def test_the_environment_sets_the_port(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert start(environ={"TCP_PORT": str(port)}).port == port


def test_a_whole_connection_refused_beyond_the_limit_and_let_in_again(start: Start) -> None:
    server = start({"performance": {"max_connections": 2}})
    with server.connect() as first, server.connect() as second:
        assert first.ask(b"PING") == second.ask(b"PING") == b"PONG\n"
        with server.connect() as third:
            assert third.rest() == b"ERR max_connections\n"
        first.sock.close()
        eventually(lambda: is_served(server))
        assert "refused 127.0.0.1:" in server.text()
        assert second.json(b"INFO")["connections"]["refused"] >= 1


def test_addresses_that_are_not_allowed_are_closed_without_a_word(start: Start) -> None:
    server = start({"security": {"allowed_ips": "10.0.0.0/8"}})
    with server.connect() as client:
        assert client.rest() == b""
    server.reload(security={"allowed_ips": "127.0.0.0/8"})
    assert server.ask(b"PING") == b"PONG\n"


def test_idle_connections_are_closed(start: Start) -> None:
    server = start({"performance": {"idle_timeout_seconds": 1.5}})
    with server.connect() as idle, server.connect() as busy:
        while not select.select([idle.sock], [], [], 0.02)[0]:
            assert busy.ask(b"PING") == b"PONG\n"
        assert idle.rest() == b""
        assert busy.ask(b"PING") == b"PONG\n"


def test_running_out_of_descriptors_is_survived(start: Start) -> None:
    server = start()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (40, 40))
    with server.connect() as client:
        assert client.ask(b"PING") == b"PONG\n"
        more = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        server.wait_for_log("out of file descriptors")
        assert client.ask(b"PING") == b"PONG\n"
        for sock in more:
            sock.close()
        eventually(lambda: is_served(server))
    assert "warn     tagcache.listener: out of file descriptors" in server.text()
    assert server.text().count("out of file descriptors") == 1


def test_a_client_that_never_reads_is_dropped_and_the_others_do_not_notice(start: Start) -> None:
    server = start(
        {"performance": {"max_reply_buffer_bytes": 1_000_000, "send_timeout_seconds": 1}}
    )
    with server.connect() as client, server.connect() as greedy:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 100_000)
        greedy.sock.settimeout(0.01)
        with pytest.raises(ConnectionError):
            while True:
                with suppress(TimeoutError):
                    greedy.send(b"GET\tk\n" * 10)
                assert client.ask(b"PING") == b"PONG\n"
        server.wait_for_log("it has read no replies for 1.0 seconds")
        assert client.ask(b"PING") == b"PONG\n"


def test_many_large_values_at_once_come_to_whoever_reads_them(start: Start) -> None:
    """The replies exceed every buffer. A client that reads them is not dropped."""
    server = start({"performance": {"max_reply_buffer_bytes": 65_536, "max_client_memory": "32mb"}})
    with server.connect() as client, server.connect() as other:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 1_000_000)
        client.send(b"GET\tk\n" * 300)
        for number in range(300):
            assert len(client.line()) == 1_000_007
            if number % 50 == 0:
                assert other.ask(b"PING") == b"PONG\n"
        assert client.ask(b"PING") == b"PONG\n"


def test_many_who_read_nothing_together_hold_no_more_than_they_may(start: Start) -> None:
    # Little fits into the system's buffers, so nearly all of a reply is held by the server.
    server = start({"performance": {"max_client_memory": "32mb", "send_buffer_bytes": 65536}})
    with server.connect() as client, ExitStack() as deaf:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 1_000_000)
        for _ in range(60):
            other = deaf.enter_context(server.connect())
            # The system's buffers are small, so the server holds nearly the whole reply.
            other.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            other.send(b"GET\tk\n" * 58)
        server.wait_for_log("all clients together hold")
        eventually(lambda: client.json(b"INFO")["connections"]["held_bytes"] <= 32 * 2**20)
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 250_000  # kB


def test_a_client_that_sends_everything_first_gets_everything(start: Start) -> None:
    server = start()
    with server.connect() as client:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 1000)
        count = 20_000
        client.send(b"GET\tk\n" * count)
        time.sleep(0.3)
        for _ in range(count):
            assert len(client.line()) == 1007


def test_half_a_close_gets_its_replies(start: Start) -> None:
    server = start()
    with server.connect() as client:
        client.send(b"PUT\tk\t-\t-\t" + b"x" * 500_000 + b"\n" + b"GET\tk\n" * 20 + b"GET\tk")
        client.sock.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        assert len(client.rest()) == 3 + 20 * 500_007


def test_a_command_and_its_end_in_two_writes(server: RunningServer) -> None:
    with server.connect() as client:
        for _ in range(20):
            client.send(b"PING")
            client.send(b"\n")
            assert client.line() == b"PONG\n"


def test_an_endless_line_is_told_and_closed(server: RunningServer) -> None:
    with server.connect() as client, server.connect() as other:
        client.send(b"PING\nPUT\tk\t-\t-\t")
        with pytest.raises(OSError):
            while True:
                client.send(b"x" * 65536)
        assert client.line() == b"PONG\n"
        assert client.line() == b"ERR line_too_long\n"
        assert other.ask(b"PING") == b"PONG\n"


def test_the_largest_legal_value(server: RunningServer) -> None:
    value = b"v" * 1_048_576
    with server.connect() as client:
        assert client.ask(b"PUT\tk\t-\t-\t" + value) == b"OK\n"
        assert client.ask(b"GET\tk") == b"VALUE\t" + value + b"\n"
        assert client.ask(b"PUT\tk\t-\t-\tv" + value) == b"ERR value_too_large\n"
        assert client.ask(b"PING") == b"PONG\n"


def test_authentication(start: Start) -> None:
    server = start({"security": {"require_tcp_auth": "true"}})
    with server.connect() as client:
        assert client.ask(b"GET\tk") == b"ERR auth_required\n"
        assert client.ask(b"AUTH\tadmin\thunter2") == b"ERR auth_failed\n"
        assert client.ask(b"AUTH\tadmin\tpassword") == b"OK\n"
        assert client.ask(b"GET\tk") == b"NF\n"
        server.reload(authentication={"password": "new"})
    with server.connect() as client:
        assert client.ask(b"AUTH\tadmin\tpassword") == b"ERR auth_failed\n"
        assert client.ask(b"AUTH\tadmin\tnew") == b"OK\n"
    assert "reload: authentication.password changed" in server.text()
    assert "hunter2" not in server.text()


def test_killing_another_client(server: RunningServer) -> None:
    with server.connect() as victim, server.connect() as client:
        victim.ask(b"PING")
        (id,) = (c["id"] for c in client.json(b"CLIENTS") if c["last_verb"] == "PING")
        assert client.json(b"CLIENT_KILL\t%d" % id) == {"id": id, "killed": True}
        with pytest.raises(ConnectionResetError):
            victim.rest()
        assert len(client.json(b"CLIENTS")) == 1


def test_thousands_of_clients_are_listed(start: Start) -> None:
    server = start({"logging": {"level": "info"}})
    sockets = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(400)]
    with server.connect() as client:
        assert len(client.json(b"CLIENTS")) == 401
        assert client.ask(b"PING") == b"PONG\n"
    for sock in sockets:
        sock.close()


def test_sweeping_frees_what_nobody_asks_for(start: Start) -> None:
    server = start(environ={"CLEANUP_INTERVAL_MS": "50"})
    with server.connect() as client:
        for number in range(100):
            client.ask(b"PUT\tk%d\t10\tt\tv" % number)
        eventually(lambda: client.json(b"INFO")["cache"]["expirations"] == 100)
        cache = client.json(b"INFO")["cache"]
    assert (cache["items"], cache["tags"], cache["bytes"]) == (0, 0, 0)


def test_a_reload_follows_limits_and_levels(start: Start) -> None:
    server = start({"logging": {"level": "info"}})
    with server.connect() as client:
        assert client.ask(b"PUT\tkey\t-\t-\tv") == b"OK\n"
        log = server.reload(
            cache={"max_key_length": 2, "default_ttl_seconds": 0.05},
            logging={"level": "debug", "format": "json"},
            performance={"max_connections": 1},
        )
        assert "reload: cache.max_key_length: 1024 -> 2" in log
        assert "reload: logging.format takes effect at the next start" in log
        assert client.ask(b"PUT\tkey\t-\t-\tv") == b"ERR key_too_long\n"
        assert client.ask(b"PUT\tk\t-\t-\tv") == b"OK\n"
        time.sleep(0.1)
        assert client.ask(b"GET\tk") == b"NF\n"
        with server.connect() as second:
            assert second.rest() == b"ERR max_connections\n"
    server.wait_for_log("connection 1 from")


def test_a_reload_of_a_bad_file_changes_nothing(start: Start) -> None:
    server = start()
    log = server.reload(cache={"max_key_length": 2, "max_value_length": "x"})
    assert "reload: nothing changed" in log
    assert "cache.max_value_length" in log
    assert server.ask(b"PUT\tkey\t-\t-\tv") == b"OK\n"
    server.config.unlink()
    assert "cannot be read" in server.hang_up()
    assert server.ask(b"GET\tkey") == b"VALUE\tv\n"


def test_a_reload_opens_the_log_file_anew(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "tagcache.log"
    server = start({"logging": {"file": path, "format": "json"}}, wait=False)
    eventually(lambda: path.exists() and "listening" in path.read_text())
    eventually(lambda: takes_signals(server.process))
    path.rename(tmp_path / "old.log")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: path.exists() and "settings changed" in path.read_text())
    for line in (path.read_text() + (tmp_path / "old.log").read_text()).splitlines():
        assert set(json.loads(line)) == {"time", "level", "namespace", "message"}
    assert server.text() == ""
    for log in (path, tmp_path / "old.log"):
        assert log.stat().st_mode & 0o027 == 0


def test_stopping_answers_what_has_arrived(start: Start) -> None:
    server = start()
    with server.connect() as client, server.connect() as idle:
        idle.ask(b"PING")
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 200_000)
        count = 100
        client.send(b"GET\tk\n" * count)
        server.process.send_signal(signal.SIGTERM)
        assert len(client.rest()) == count * 200_007
        assert idle.rest() == b""
    assert server.process.wait(60) == -signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        server.connect()


def test_stopping_under_load_loses_no_reply(start: Start) -> None:
    """Every client reads whole replies in order until the server closes."""
    server = start()
    clients = [server.connect() for _ in range(20)]
    for client in clients:
        client.ask(b"PING")
        client.send(b"".join(b"INCR\tn\n" for _ in range(500)))
    server.process.send_signal(signal.SIGTERM)
    answered = 0
    for client in clients:
        data = client.rest()
        assert data == b"" or data.endswith(b"\n")
        answered += data.count(b"VALUE\t")
        client.sock.close()
    assert answered == 20 * 500
    assert server.process.wait(60) == -signal.SIGTERM


def test_stopping_takes_no_longer_than_its_grace(start: Start) -> None:
    server = start({"server": {"shutdown_grace_seconds": 0.5}})
    with server.connect() as client, server.connect() as deaf:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 1_000_000)
        deaf.send(b"GET\tk\n" * 50)
        eventually(lambda: any(c["last_verb"] == "GET" for c in client.json(b"CLIENTS")))
        assert server.stop() > 0.4
    assert server.process.returncode == -signal.SIGTERM


def test_idle_clients_do_not_hold_up_a_stop(start: Start) -> None:
    server = start({"server": {"shutdown_grace_seconds": 3600}})
    with server.connect() as client:
        client.ask(b"PING")
        time.sleep(1.2)
        server.stop()


def test_tls_clients_are_answered_at_a_stop(start: Start, tmp_path: Path) -> None:
    endpoint, context = tls_endpoint(tmp_path)
    server = start({"server": {"tcp_port": endpoint}})
    raw = socket.create_connection(("127.0.0.1", server.port))
    with Client(context.wrap_socket(raw, server_hostname="localhost")) as client:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 100_000)
        client.send(b"GET\tk\n" * 20)
        server.process.send_signal(signal.SIGTERM)
        assert len(client.rest()) == 20 * 100_007
    assert server.process.wait(60) == -signal.SIGTERM


def test_an_interrupt_stops_it_too(server: RunningServer) -> None:
    server.stop(signal.SIGINT)
    assert server.process.returncode == -signal.SIGINT


def test_signals_during_a_stop_do_not_cut_it_short(start: Start) -> None:
    server = start({"server": {"shutdown_grace_seconds": 3600}})
    with server.connect() as slow:
        slow.ask(b"PUT\tk\t-\t-\t" + b"x" * 1_000_000)
        slow.send(b"GET\tk\n" * 30)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        server.process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert server.process.poll() is None
        assert len(slow.rest()) == 30 * 1_000_007
    assert server.process.wait(60) == -signal.SIGTERM


def test_a_second_request_to_stop_ends_the_patience(start: Start) -> None:
    server = start({"server": {"shutdown_grace_seconds": 3600}})
    with server.connect() as slow:
        slow.ask(b"PUT\tk\t-\t-\t" + b"x" * 1_000_000)
        slow.send(b"GET\tk\n" * 30)
        time.sleep(0.3)
        server.process.send_signal(signal.SIGTERM)
        server.wait_for_log("stopping")
        server.stop()


def test_a_reload_does_not_open_a_door_that_a_start_would_not(start: Start) -> None:
    """The old address is in use until the restart, so the new password must be safe for it."""
    server = start(
        {
            "server": {"host": "0.0.0.0"},
            "authentication": {"password": "own"},
            "security": {"require_tcp_auth": "true"},
        }
    )
    log = server.reload(
        server={"host": "127.0.0.1"},
        authentication={"password": "password"},
        security={"require_tcp_auth": "false"},
    )
    assert "nothing changed" in log
    assert "Three ways out" in log
    assert server.ask(b"GET\tk") == b"ERR auth_required\n"


def test_a_relative_path_is_found_again_at_a_reload(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "my.conf").write_text("[server]\ntcp_port = 0\nhttp_port = 0\n")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [
                *(Path(sys.executable).with_name("twistd"), "-n", "--pidfile="),
                *("--rundir=run", "tagcache", "--config=my.conf"),
            ],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    eventually(lambda: "http: listening on" in log.read_text())
    eventually(lambda: takes_signals(process))
    process.send_signal(signal.SIGHUP)
    eventually(lambda: "0 settings changed" in log.read_text())
    process.terminate()
    process.wait(60)


def test_a_client_that_asks_for_much_and_reads_nothing_costs_little(start: Start) -> None:
    server = start({"performance": {"send_timeout_seconds": 1}})
    with server.connect() as client, server.connect() as greedy:
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 60_000)
        greedy.send(b"GET\tk\n" * 10_000)
        server.wait_for_log("it has read no replies for 1.0 seconds")
        status = Path(f"/proc/{server.process.pid}/status").read_text()
        assert int(status.split("VmHWM:")[1].split()[0]) < 150_000  # kB
        assert client.ask(b"PING") == b"PONG\n"


def test_systemd_is_told(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(60)
        server = start(environ={"NOTIFY_SOCKET": str(path)})
        assert sock.recv(1000) == b"READY=1\nMAINPID=%d" % server.process.pid
        server.hang_up()
        assert sock.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
        assert sock.recv(1000) == b"READY=1"
        server.stop()
        assert sock.recv(1000) == b"STOPPING=1"


def test_systemd_may_bind_the_socket(start: Start, tmp_path: Path) -> None:
    """As in socket activation: descriptor 3 listens, and LISTEN_PID is the server's."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        script = (
            "import os,sys; os.dup2(int(sys.argv[1]), 3); "
            "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', "
            "LISTEN_FDNAMES='cache'); "
            "os.execv(sys.argv[2], sys.argv[2:])"
        )
        config = tmp_path / "tagcache.conf"
        config.write_text(
            "[server]\ntcp_port = systemd:domain=INET:index=0\nhttp_port = 0\n"
            "[performance]\nlisten_backlog = 11\n"
        )
        twistd = str(Path(sys.executable).with_name("twistd"))
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", script, str(sock.fileno())),
                *(twistd, "--nodaemon", "--pidfile=", "tagcache", f"--config={config}"),
            ],
            pass_fds=[sock.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
        )
    try:
        with Client(socket.create_connection(("127.0.0.1", port), 60)) as client:
            assert client.ask(b"PING") == b"PONG\n"
            listener = client.json(b"INFO")["listeners"][0]
            assert listener["address"] == f"127.0.0.1:{port}"
            assert listener["socket_options"]["listen_backlog"]["effective"] == 11
            config.write_text(config.read_text() + "[cache]\nmax_key_length = 1\n")
            process.send_signal(signal.SIGHUP)
            eventually(lambda: client.ask(b"PUT\tkey\t-\t-\tv") == b"ERR key_too_long\n")
    finally:
        process.terminate()
        output, _ = process.communicate(timeout=60)
    assert b"Traceback" not in output, output


def test_a_socket_that_systemd_did_not_pass_is_told(start: Start) -> None:
    text = fails(start, {"server": {"tcp_port": "systemd:domain=INET:index=0"}})
    assert "cannot be used as an endpoint: systemd has passed no such socket" in text


def test_as_a_daemon(tmp_path: Path) -> None:
    config = tmp_path / "tagcache.conf"
    config.write_text("[server]\ntcp_port = 0\nhttp_port = 0\n")
    twistd = Path(sys.executable).with_name("twistd")
    subprocess.run([twistd, "tagcache", "-c", config], cwd=tmp_path, check=True, timeout=60)
    log = tmp_path / "twistd.log"
    eventually(lambda: log.exists() and "cache: listening on" in log.read_text())
    pid = int((tmp_path / "twistd.pid").read_text())
    port = int(log.read_text().split("listening on 127.0.0.1:")[1].split(";")[0])
    with Client(socket.create_connection(("127.0.0.1", port))) as client:
        assert client.ask(b"PING") == b"PONG\n"
    os.kill(pid, signal.SIGTERM)
    eventually(lambda: not (tmp_path / "twistd.pid").exists())


def test_twistds_own_log_options_are_respected(tmp_path: Path) -> None:
    config = tmp_path / "tagcache.conf"
    config.write_text("[server]\ntcp_port = 0\nhttp_port = 0\n")
    twistd = Path(sys.executable).with_name("twistd")
    process = subprocess.Popen(
        [twistd, "-n", "--pidfile=", "--logfile=own.log", "tagcache", "-c", config], cwd=tmp_path
    )
    log = tmp_path / "own.log"
    eventually(lambda: log.exists() and "cache: listening on" in log.read_text())
    process.terminate()
    assert process.wait(60) == -signal.SIGTERM


def test_the_last_replies_come_to_a_client_that_takes_its_time(start: Start) -> None:
    """At the stop they are in the system's buffers, for longer than the server lingers."""
    server = start()
    with server.connect() as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.ask(b"PUT\tk\t-\t-\t" + b"x" * 300_000)
        client.send(b"GET\tk\nQUIT\n")
        time.sleep(2.5)
        assert client.rest() == b"VALUE\t" + b"x" * 300_000 + b"\nOK\n"
