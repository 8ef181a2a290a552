"""The subcommands of ``tagcache`` against a real server."""

from __future__ import annotations

import json
import os
import pty
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tagcache.config.loading import load
from tagcache.config.passwords import matches
from tests.integration.running import RunningServer, eventually

# Each starts a server, and the command several times.
pytestmark = pytest.mark.slow

Start = Callable[..., RunningServer]
TAGCACHE = Path(sys.executable).with_name("tagcache")


class Command:
    """Runs ``tagcache`` against a server."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.environ = {
            "PATH": os.environ["PATH"],
            "HOME": str(server.directory),
            "TAGCACHE_URL": f"http://127.0.0.1:{server.http_port}",
        }

    def __call__(
        self, *arguments: object, stdin: bytes = b"", **environ: str
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [str(TAGCACHE), *map(str, arguments)],
            input=stdin,
            capture_output=True,
            env={**self.environ, **environ},
            cwd=self.server.directory,
            timeout=60,
        )

    def json(self, *arguments: object) -> Any:
        done = self(*arguments, "--json")
        assert done.stderr == b""
        return json.loads(done.stdout)


@pytest.fixture
def command(server: RunningServer) -> Command:
    return Command(server)


def test_a_value_goes_in_and_comes_out_as_it_is(command: Command) -> None:
    value = "line 1\nline 2 \u00e9\t".encode()
    assert command("put", "a key/with?odd%chars", "-", "--tags", "t,u", stdin=value).returncode == 0
    done = command("get", "key", "a key/with?odd%chars")
    assert (done.returncode, done.stdout, done.stderr) == (0, value, b"")
    found = command.json("get", "key", "a key/with?odd%chars")
    assert found["tags"] == ["t", "u"]
    assert command("get", "key", "nope").returncode == 1
    assert command("put", "k", "-", stdin=b"\xff").returncode == 2


def test_bytes_that_are_not_text_come_out_too(command: Command) -> None:
    command.server.ask(b"PUT\tk\t-\t-\t\xff\x00\xfe")
    assert command("get", "key", "k").stdout == b"\xff\x00\xfe"


def test_storing_with_a_time_to_live(command: Command) -> None:
    assert command.json("put", "k", "v", "--ttl-ms", 60000) == {"ok": True, "ttl_ms": 60000}
    assert 0 < command.json("get", "key", "k")["ttl_ms"] <= 60000
    assert command("put", "k", "v", "--ttl-ms", -1).returncode == 2


def test_add_and_counting(command: Command) -> None:
    assert command("add", "k", "5").returncode == 0
    assert command("add", "k", "6").returncode == 1
    assert command("increment", "k").stdout == b"6\n"
    assert command("decrement", "k", "--by", 10).stdout == b"-4\n"
    command("put", "text", "abc")
    done = command("increment", "text")
    assert (done.returncode, done.stderr) == (5, b"tagcache: value is not an integer\n")


def test_tags(command: Command) -> None:
    for key, tags in (("1", "a"), ("2", "a,b"), ("3", "b"), ("4", "c d/\u00e9")):
        command("put", key, "v", "--tags", tags)
    assert sorted(command("get", "tag", "a").stdout.split()) == [b"1", b"2"]
    assert command("get", "tag", "c d/\u00e9").stdout == b"4\n"
    assert command("get", "tag", "nope").returncode == 1
    found = command.json("search", "--tag", "a", "--tag", "b", "--all")
    assert [each["key"] for each in found] == ["2"]
    assert len(command("search", "--tag", "a", "--tag", "b").stdout.splitlines()) == 3
    assert command("search", "1").stdout == b"1\t-\ta\n"
    assert len(command.json("search", "--limit", 2, "--offset", 1)) == 2
    assert command("search", "x", "--tag", "y").returncode == 2
    assert command("flush", "tag", "a", "b", "--all").stdout == b"1\n"
    assert command("flush", "tag", "a", "b").stdout == b"2\n"
    assert command("flush", "tag", "a").returncode == 1


def test_lists_of_tags_are_split_at_commas_and_trimmed(command: Command) -> None:
    command("put", "1", "v", "-t", " a , b ,")
    command("put", "2", "v", "--tags", "c")
    assert command.json("get", "key", "1")["tags"] == ["a", "b"]
    assert sorted(command("get", "tag", "a, c").stdout.split()) == [b"1", b"2"]
    assert command("get", "tag", "a,b", "a").stdout == b"1\n"
    assert command.json("search", "--tag", "a, b", "--all")[0]["key"] == "1"
    assert command("flush", "tag", "a,b", "--all").stdout == b"1\n"
    assert command("flush", "tag", "x, c").stdout == b"1\n"
    done = command("flush", "tag", " , ")
    assert (done.returncode, b"no tag is given" in done.stderr) == (2, True)


def test_times_to_live_with_units(command: Command) -> None:
    assert command.json("put", "k", "v", "--ttl", "5m") == {"ok": True, "ttl_ms": 300_000}
    assert command.json("add", "l", "v", "--ttl", "1.5h")["ttl_ms"] == 5_400_000
    assert command.json("increment", "n", "-b", 3, "--ttl", "90")["ttl_ms"] == 90_000
    done = command("put", "k", "v", "--ttl", "5 weeks")
    assert (done.returncode, b"a number alone is seconds" in done.stderr) == (2, True)
    assert command("put", "k", "v", "--ttl", "5m", "--ttl-ms", 5).returncode == 2


def test_a_new_time_to_live(command: Command) -> None:
    command("put", "k", "v", "-t", "a", "--ttl", "1h")
    assert command("touch", "k", "--ttl", "500s").returncode == 0
    assert 0 < command.json("get", "key", "k")["ttl_ms"] <= 500_000
    assert command("get", "tag", "a").stdout == b"k\n"
    assert command.json("touch", "k") == {"ok": True, "touched": True}
    assert command.json("get", "key", "k")["ttl_ms"] is None
    assert command("touch", "nope").returncode == 1


def test_looking_at_tags_the_server_and_what_was_slow(start: Start) -> None:
    command = Command(start({"logging": {"slow_command_ms": 1}}))
    command("put", "1", "v", "-t", "many,few")
    command("put", "2", "v", "-t", "many")
    lines = command("tags").stdout.splitlines()
    assert [line.split(b"\t")[:2] for line in lines] == [[b"many", b"2"], [b"few", b"1"]]
    assert [each["name"] for each in command.json("tags", "fe")] == ["few"]
    assert b"cache.items\t2\n" in command("info").stdout
    assert set(command.json("info", "server")) == {"server"}
    assert command("info", "nope").returncode == 2
    with command.server.connect() as client:
        client.send(b"".join(b"PUT\tk%d\t-\tt\tv\n" % n for n in range(30_000)))
        for _ in range(30_000):
            client.line()
        client.ask(b"KEYS\tt")
    assert "keys" in [each["command"] for each in command.json("slowlog")]
    assert b"\tkeys\t1\tt\t127.0.0.1:" in command("slowlog", "--limit", 256).stdout


def test_the_line_protocol_does_as_well(start: Start) -> None:
    command = Command(start({"security": {"require_tcp_auth": "true"}}))
    port = command.server.port
    command.environ["TAGCACHE_URL"] = f"tagcache://127.0.0.1:{port}"
    value = b"\xc3\xa9 line 1\nline 2"
    done = command("put", "k", "-", "-t", "a, b", "--ttl", "1h", stdin=value)
    assert (done.returncode, done.stderr) == (0, b"")
    assert command("get", "key", "k").stdout == value
    assert command("get", "key", "nope").returncode == 1
    assert command("add", "k", "v").returncode == 1
    assert command("increment", "n", "-b", 5).stdout == b"5\n"
    done = command("decrement", "k")
    assert (done.returncode, done.stderr) == (5, b"tagcache: value is not an integer\n")
    assert command("touch", "k", "--ttl", "1m").returncode == 0
    assert command("get", "tag", "a,b").stdout == b"k\n"
    assert command.json("stats")["items"] == 2
    assert command.json("info", "server")["server"]["pid"] == command.server.process.pid
    assert command("slowlog").returncode == command("clients").returncode == 0
    assert command("health").stdout == b"ok\n"
    assert command.json("status")["items"] == 2
    assert command.json("bench", "--duration", "0.2", "--keys", 5)["errors"] == 0
    assert command("flush", "tag", "b").stdout == b"1\n"
    assert command("flush", "key", "n", "nope").stdout == b"1\n"
    assert command("flush", "all", "--yes").returncode == 0
    done = command("tags")
    assert (done.returncode, b"--url http://HOST:8080" in done.stderr) == (2, True)
    done = command("--password", "x", "stats")
    assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)
    there = f"tagcache://admin:password@127.0.0.1:{port}"
    assert command("stats", TAGCACHE_URL=there, TAGCACHE_PASSWORD="x").returncode == 0
    assert command("stats", TAGCACHE_URL="tagcache://127.0.0.1:1").returncode == 4
    assert command("stats", TAGCACHE_URL="redis://127.0.0.1").returncode == 2


@pytest.mark.parametrize("scheme", ["http", "tagcache"])
def test_every_command_on_entries_takes_a_database(command: Command, scheme: str) -> None:
    server = command.server
    port = server.http_port if scheme == "http" else server.port
    url = f"{scheme}://127.0.0.1:{port}"

    def run(*arguments: object, **environ: str) -> tuple[int, bytes]:
        done = command(*arguments, **{"TAGCACHE_URL": url, **environ})
        assert done.stderr == b""
        return done.returncode, done.stdout

    assert run("put", "k", "three", "-t", "t", "--db", 3) == (0, b"")
    assert run("put", "k", "zero", "-t", "t") == (0, b"")
    assert run("get", "key", "k", "--db", 3) == (0, b"three")
    assert run("get", "key", "k") == (0, b"zero")
    assert run("add", "k", "v", "--db", 3)[0] == 1
    assert run("add", "n", "1", "--db", 3)[0] == 0
    assert run("increment", "n", "--db", 3) == (0, b"2\n")
    assert run("decrement", "n", "--db", 3) == (0, b"1\n")
    assert run("touch", "n", "--db", 3)[0] == 0
    assert run("touch", "n")[0] == 1
    assert run("get", "tag", "t", "--db", 3) == (0, b"k\n")
    assert b"items\t2\n" in run("stats", "--db", 3)[1]
    assert b"items\t1\n" in run("stats")[1]
    assert run("flush", "tag", "t", "--db", 3) == (0, b"1\n")
    assert run("flush", "key", "n", "--db", 4) == (1, b"0\n")
    assert run("flush", "all", "--yes", "--db", 3) == (0, b"1\n")
    assert run("get", "key", "k") == (0, b"zero")
    if scheme == "http":
        assert b"items\t0\n" in run("status", "--db", 3)[1]
        assert run("search", "--db", 3) == (0, b"")
        assert run("tags", "--db", 3) == (0, b"")
        assert run("search") == (0, b"k\t-\tt\n")
    else:
        assert run("get", "key", "k", TAGCACHE_URL=f"{url}/3")[0] == 1
        load = ("--duration", "0.1", "--keys", 10, "--conns", 1)
        assert run("bench", "--db", 5, *load)[0] == 0
        assert len(run("get", "tag", "bench", "--db", 5)[1].splitlines()) == 10
        assert run("get", "tag", "bench")[0] == 1
        assert run("get", "key", "k", "--db", 0, TAGCACHE_URL=f"{url}/3") == (0, b"zero")
    refused = command("get", "key", "k", "--db", 99, TAGCACHE_URL=url)
    assert (refused.returncode, refused.stdout) == (5, b"")
    assert b"invalid db" in refused.stderr


def test_flushing(command: Command) -> None:
    for key in "123":
        command("put", key, "v")
    assert command("flush", "key", "1", "nope").stdout == b"1\n"
    assert command("flush", "key", "1").returncode == 1
    done = command("flush", "all", stdin=b"n\n")
    assert done.returncode == 1
    assert b"Remove every entry?" in done.stderr
    assert b"Remove every entry of database 3?" in command("flush", "all", "--db", 3).stderr
    assert command("get", "key", "2").returncode == 0
    assert command("flush", "all", stdin=b"y\n").stdout == b"2\n"
    assert command.json("flush", "all", "--yes") == {"count": 0}


def test_looking_at_the_server(command: Command) -> None:
    command("put", "k", "v", "--tags", "a,b")
    assert command("health").stdout == b"ok\n"
    assert command.json("stats")["puts"] == 1
    lines = command("stats", "--watch", "0.1", "--count", "2").stdout.splitlines()
    assert lines.count(b"items\t1") == 2

    def told() -> tuple[int, int, int]:
        status = command.json("status")
        return status["items"], status["tags"], status["connections"]

    # Its earlier requests have disconnected, which the server notices a little later.
    eventually(lambda: told() == (1, 2, 1))
    assert b"items\t1\n" in command("status").stdout
    with command.server.connect() as client:
        client.ask(b"PING")
        row = command("clients").stdout.splitlines()[0].split(b"\t")
        assert (row[1], row[5], row[8], row[9]) == (b"cache", b"1", b"PING", b"as asked")
        assert command.json("clients")[0]["socket_options"]["tcp_nodelay"]["effective"] is True


def test_options_that_are_not_as_asked_are_marked(start: Start) -> None:
    command = Command(start({"performance": {"send_buffer_bytes": 1_073_741_823}}))
    assert b"(asked:1073741823)" in command("clients").stdout


def test_who_is_let_in(command: Command) -> None:
    for wrong in (
        ("--password", "x", "stats"),
        ("-u", "x", "stats"),
        ("-t", "x", "stats"),
    ):
        done = command(*wrong)
        assert (done.returncode, done.stdout) == (3, b"")
        assert done.stderr.count(b"\n") == 1
    assert command("stats", TAGCACHE_PASSWORD="x").returncode == 3
    login = {"username": "admin", "password": "password"}
    from tests.integration.test_http_server import Door

    door = Door(command.server)
    token = door("POST", "/auth/login", login)[1]["token"]
    door.connection.close()
    assert command("--password", "x", "-t", token, "stats").returncode == 0
    assert command("stats", TAGCACHE_PASSWORD="x", TAGCACHE_TOKEN=token).returncode == 0
    assert command("--password", "x", "health").returncode == 0


def test_a_server_that_is_not_there(command: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = command("--port", port, "health", TAGCACHE_URL="")
    assert (done.returncode, done.stdout) == (4, b"")
    assert done.stderr == (
        f"tagcache: http://127.0.0.1:{port} cannot be reached: Connection refused\n".encode()
    )
    done = command("--url", f"http://127.0.0.1:{command.server.port}", "health")
    assert done.returncode == 4
    assert command("--url", "nonsense", "health").returncode == 2
    assert command("--url", "http://h:abc", "health").returncode == 2
    assert command("--token", "a\nb", "health").returncode == 2
    done = subprocess.run(
        [str(TAGCACHE).encode(), b"get", b"key", b"\xff"],
        capture_output=True,
        env=command.environ,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False)


def test_the_wrong_port_is_told_with_the_right_kind_of_url(command: Command) -> None:
    done = command("--url", f"http://127.0.0.1:{command.server.port}", "health")
    assert done.returncode == 4
    assert b"does not answer over HTTP" in done.stderr
    assert b"tagcache://" in done.stderr
    done = command("--url", f"tagcache://127.0.0.1:{command.server.http_port}", "health")
    assert done.returncode == 4
    assert b"does not answer as a cache port" in done.stderr
    assert b"http://" in done.stderr


def test_who_is_not_authorised_is_told_how_to_log_in(start: Start) -> None:
    command = Command(start({"security": {"require_tcp_auth": "true"}}))
    for url in (command.environ["TAGCACHE_URL"], f"tagcache://127.0.0.1:{command.server.port}"):
        done = command("--password", "x", "stats", TAGCACHE_URL=url)
        assert (done.returncode, done.stdout) == (3, b"")
        assert b"TAGCACHE_PASSWORD" in done.stderr


def test_an_engine_that_is_away_is_not_a_miss(start: Start) -> None:
    engine = {"backend": "redis", "url": "redis://127.0.0.1:1", "key_prefix": "t:"}
    command = Command(start({"engine": engine}, reactor="asyncio"))
    for url in (
        f"http://127.0.0.1:{command.server.http_port}",
        f"tagcache://127.0.0.1:{command.server.port}",
    ):
        done = command("get", "key", "k", TAGCACHE_URL=url)
        assert (done.returncode, done.stdout, done.stderr.count(b"\n")) == (4, b"", 1)


def test_what_is_typed_goes_before_the_environment(command: Command) -> None:
    port = command.server.http_port
    assert command("--port", port, "health", TAGCACHE_URL="http://127.0.0.1:1").returncode == 0
    assert command("stats", TAGCACHE_TOKEN="x").returncode == 3
    assert command("-u", "admin", "stats", TAGCACHE_TOKEN="x").returncode == 0


def test_usage(command: Command) -> None:
    assert command("put", "k").returncode == 2
    assert command("nonsense").returncode == 2


def test_a_limit_is_told_in_a_line(command: Command) -> None:
    done = command("put", "k" * 2000, "v")
    assert done.returncode == 5
    assert done.stderr == b"tagcache: key too long: the key has 2000 bytes, the limit is 1024\n"


def test_changing_the_password(command: Command) -> None:
    done = command("change-password", stdin=b"new\nnew\n")
    assert done.returncode == 0, done.stderr
    assert b"new\n" not in done.stdout
    assert command("stats").returncode == 3
    assert command("stats", TAGCACHE_PASSWORD="new").returncode == 0
    assert "scrypt$" in command.server.config.read_text()
    done = command("reset-credentials", "--yes", TAGCACHE_PASSWORD="new")
    assert done.returncode == 0, done.stderr
    assert command("stats").returncode == 0


def test_a_password_in_the_arguments_is_taken_with_a_warning(command: Command) -> None:
    done = command("change-password", "new")
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"visible in the process list" in done.stderr
    assert command("stats", TAGCACHE_PASSWORD="new").returncode == 0


def on_a_terminal(command: Command, *arguments: str) -> str:
    """The output if standard output is a terminal."""
    leader, follower = pty.openpty()
    done = subprocess.Popen(
        [str(TAGCACHE), *arguments],
        stdout=follower,
        stderr=follower,
        env={**command.environ, "TERM": "xterm"},
    )
    done.wait(60)
    os.close(follower)
    text = b""
    while True:
        try:
            data = os.read(leader, 65536)
        except OSError:
            break
        if not data:
            break
        text += data
    os.close(leader)
    return text.decode()


def test_tables_and_colour_are_for_terminals(command: Command) -> None:
    command("put", "k", "v")
    shown = on_a_terminal(command, "search")
    assert "\x1b[1m" in shown
    assert "ttl ms" in shown
    piped = command("search").stdout
    assert b"\x1b" not in piped
    assert b"ttl ms" not in piped
    assert on_a_terminal(command, "get", "key", "k") == "v\r\n"
    assert command("get", "key", "k").stdout == b"v"


def test_completion(command: Command) -> None:
    for shell in ("bash", "zsh", "fish"):
        assert b"_TAGCACHE_COMPLETE" in command("completion", shell).stdout
    done = command(_TAGCACHE_COMPLETE="bash_complete", COMP_WORDS="tagcache inc", COMP_CWORD="1")
    assert b"increment" in done.stdout


def test_restart_says_how(command: Command) -> None:
    assert b"systemctl restart tagcache" in command("restart").stdout


# The configuration file.


def test_showing_and_changing_the_file(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("# kept\n[server]\ntcp_port = 5 # five\n[authentication]\npassword = secret\n")
    shown = command("config", "show", "-c", path).stdout
    assert b"server.tcp_port\t5\tfile\n" in shown
    assert b"secret" not in shown
    assert {"knob": "server.tcp_port", "value": "5", "origin": "file"} in command.json(
        "config", "show", "-c", path
    )
    assert command("config", "get", "server.tcp_port", "-c", path).stdout == b"5\n"
    assert command("config", "get", "authentication.password", "-c", path).stdout == b"********\n"
    assert command("config", "get", "server.nope", "-c", path).returncode == 2

    assert command("config", "set", "cache.max_key_length", "77", "-c", path).returncode == 0
    assert command("config", "set", "security.allowed_ips", "10.0.0.0/8, ::1", "-c", path)
    assert command("config", "set", "server.allowed_hosts", "a.example, *.b.example", "-c", path)
    assert command("config", "set", "authentication.password", "a,#b", "-c", path)
    settings = load(path, {}).settings
    assert settings.cache.max_key_length == 77
    assert len(settings.security.allowed_ips) == 2
    assert settings.server.allowed_hosts == ("a.example", "*.b.example")
    assert matches(settings.authentication.password, b"a,#b")
    assert "secret" not in path.read_text()
    assert path.read_text().startswith("# kept\n")
    assert "tcp_port = 5 # five" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600

    before = path.read_text()
    done = command("config", "set", "cache.max_key_length", "many", "-c", path)
    assert (done.returncode, path.read_text()) == (1, before)
    assert b"cache.max_key_length" in done.stderr
    assert command("config", "reset", "cache.max_key_length", "-c", path).returncode == 0
    assert load(path, {}).settings.cache.max_key_length == 1024
    assert command("config", "reset", "-c", path, stdin=b"n\n").returncode == 1
    assert command("config", "reset", "--yes", "-c", path).returncode == 0
    assert load(path, {}).settings == load(None, {}).settings
    assert path.read_text().startswith("# kept\n")


def test_where_the_file_is(command: Command) -> None:
    done = command("config", "path")
    assert done.stdout.decode().strip() == str(command.server.config)
    command.server.stop()
    command.server.config.unlink()
    done = command("config", "path")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b".config/tagcache/tagcache.conf" in done.stderr
    assert command("config", "set", "server.tcp_port", "5").returncode == 0
    assert b".config/tagcache/tagcache.conf" in command("config", "path").stdout


def test_the_file_of_the_running_server_is_changed(command: Command, tmp_path: Path) -> None:
    server = command.server
    server.config.rename(tmp_path / "other.conf")
    # It was told to read this file. There is none in its working directory or the user's folder.
    server.config.symlink_to(tmp_path / "other.conf")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def change(*arguments: str, cwd: Path = elsewhere, **environ: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(TAGCACHE), "config", "set", "cache.max_key_length", *arguments],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**command.environ, "HOME": str(elsewhere), **environ},
            timeout=60,
        )
        return done.returncode, done.stderr

    code, said = change("77")
    assert (code, str(server.config) in said) == (0, True), said
    assert load(server.config, {}).settings.cache.max_key_length == 77
    assert list(elsewhere.iterdir()) == []
    assert "cache.max_key_length: 1024 -> 77" in server.hang_up()
    # If another file could be meant, neither is changed without --config.
    (elsewhere / "tagcache.conf").write_text("")
    code, said = change("78")
    assert (code, str(server.config) in said, "--config" in said) == (1, True, True)
    assert change("78", "--config", "tagcache.conf")[0] == 0
    code, said = change("79", TAGCACHE_PASSWORD="wrong")
    assert (code, "does not reveal which file" in said) == (3, True)
    code, said = change("80", TAGCACHE_URL="http://127.0.0.1:1")
    assert (code, "elsewhere/tagcache.conf is changed" in said) == (0, True)


def test_a_server_without_a_file_is_named(start: Start) -> None:
    environ = {"TCP_PORT": "0", "PORT": "0", "LOG_LEVEL": "debug"}
    command = Command(start(config=None, environ=environ))
    done = command("config", "set", "cache.max_key_length", "77")
    assert done.returncode == 0
    assert b"runs without a file until its next start" in done.stderr


TOML = """
[server]
http_port = 8081
tcp_port = 1985
num_shards = 8
allowed_origin = "https://a, b # c"

[performance]
tcp_nodelay = false
tcp_keepalive_seconds = 100

[security]
allowed_ips = ["127.0.0.1", "10.0.0.0/8"]

[logging]
level = "trace"
format = "json"
rotation = "daily"

[tls]
cert = "x"
"""


def test_importing_the_references_configuration(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "tagcache.toml"
    source.write_text(TOML)
    target = tmp_path / "ours.conf"
    done = command("config", "import-toml", source, "--output", target)
    assert done.returncode == 0, done.stderr
    assert b"logging.rotation" in done.stderr
    assert b"tls.cert" in done.stderr
    assert b"logging.level = trace is converted to debug\n" in done.stderr
    settings = load(target, {}).settings
    assert (settings.server.http_port, settings.server.tcp_port) == ("8081", "1985")
    assert settings.server.allowed_origin == "https://a, b # c"
    assert settings.performance.tcp_nodelay is False
    assert settings.performance.tcp_keepalive_seconds == 100
    assert len(settings.security.allowed_ips) == 2
    assert (settings.logging.level, settings.logging.format) == ("debug", "json")
    assert command("config", "import-toml", source, "--output", target).returncode == 1
    assert command("config", "import-toml", source).stdout.decode() == target.read_text()
    source.write_text("[server]\ntcp_port = 99999999\n")
    assert command("config", "import-toml", source).returncode == 1
    source.write_text("not toml")
    assert command("config", "import-toml", source).returncode == 1


def test_toml_is_recognised_where_ours_is_meant(command: Command, tmp_path: Path) -> None:
    source = tmp_path / "their file.conf"
    source.write_text(TOML)
    done = command("config", "check", source)
    assert done.returncode == 1
    line = done.stderr.decode().splitlines()[1]
    hint = line.split("convert it with: tagcache ")[1]
    arguments = shlex.split(hint)
    assert command(*arguments).returncode == 0
    assert load(Path(arguments[-1]), {}).settings.server.tcp_port == "1985"


# The load test.


def test_bench_checks_what_it_is_answered(command: Command) -> None:
    for mode in ("get", "put", "mix"):
        told = command.json(
            *("bench", "--mode", mode, "--duration", "0.3", "--conns", "4", "--keys", "50"),
            *("--pipeline", "8", "--tcp-port", command.server.port),
        )
        assert told["operations"] > 0
        assert told["errors"] == 0
        assert 0 < told["p50_ms"] <= told["p99_ms"] <= told["max_ms"]


def test_bench_tells_of_wrong_replies_and_dead_servers(start: Start) -> None:
    command = Command(start({"cache": {"max_value_length": 5}}))
    done = command("bench", "--duration", "0.2", "--tcp-port", command.server.port)
    assert done.returncode == 1
    assert b"does not store" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    done = command("bench", "--tcp-port", port)
    assert (done.returncode, done.stdout) == (4, b"")


def test_bench_counts_replies_that_are_wrong(start: Start) -> None:
    command = Command(start({"security": {"rate_limit_per_minute": 300}}))
    done = command(
        *("bench", "--mode", "get", "--duration", "0.3", "--keys", "50", "--json"),
        *("--tcp-port", command.server.port),
    )
    assert done.returncode == 1
    assert b"rate_limited" in done.stderr
    assert json.loads(done.stdout)["errors"] > 0


def test_bench_authenticates(start: Start) -> None:
    command = Command(start({"security": {"require_tcp_auth": "true"}}))
    told = command.json("bench", "--duration", "0.2", "--tcp-port", command.server.port)
    assert told["errors"] == 0
    done = command("--password", "x", "bench", "--tcp-port", command.server.port)
    assert done.returncode == 3
    assert b"auth_failed" in done.stderr


def test_a_check_while_it_serves(server: RunningServer) -> None:
    with server.connect() as client:
        client.send(b"".join(b"PUT\tk%d\t60000\tall,t%d\tv\n" % (n, n % 9) for n in range(5000)))
        client.send(b"INFO\tcheck\nINFO\tCHECK\nPING\n")
        lines = [client.line() for _ in range(5003)]
        told = {"ok": True, "entries": 5000, "tags": 10, "fault_count": 0, "faults": []}
        for line in lines[5000:5002]:
            assert json.loads(line.removeprefix(b"INFO\t")) == {"check": told}
        assert lines[5002] == b"PONG\n"
        assert "server" in client.json(b"INFO\tanything")
