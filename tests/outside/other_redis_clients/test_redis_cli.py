"""redis-cli, alone and in a terminal."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.distributed.redis_server import CLI
from tests.integration.running import TIMEOUT
from tests.outside.other_redis_clients.target import HOST, PASSWORD, USER, Target, only_ours
from tests.outside.terminal import CTRL_C, Terminal

pytestmark = pytest.mark.needs("redis-server", "redis-cli")

BINARY = b"line\r\nand\x00zero\xff\n\t"
Cli = Callable[..., str]


def run(
    port: int, *arguments: str, stdin: bytes = b"", **environ: str
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [CLI, "-h", HOST, "-p", str(port), *arguments],
        input=stdin,
        capture_output=True,
        timeout=TIMEOUT,
        env={**os.environ, **environ},
    )


@pytest.fixture
def cli(target: Target) -> Cli:
    """Run redis-cli, which must succeed; return its output."""

    def checked(*arguments: str, stdin: bytes = b"") -> str:
        # It fails if the server answers an error.
        done = run(target.port, "-e", *arguments, stdin=stdin)
        assert done.returncode == 0, done
        assert done.stderr == b"", done
        return done.stdout.decode()

    return checked


@pytest.fixture(params=["-2", "-3"], ids=["RESP2", "RESP3"])
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_replies_in_each_format(cli: Cli, version: str) -> None:
    assert cli(version, "mset", "one", "1", "two", '"2"') == "OK\n"
    assert cli(version, "get", "one") == "1\n"
    assert cli(version, "--no-raw", "get", "none") == "(nil)\n"
    assert cli(version, "--no-raw", "incrby", "one", "-5") == "(integer) -4\n"
    assert cli(version, "--csv", "mget", "one", "none", "two") == '"-4",NULL,"\\"2\\""\n'
    assert json.loads(cli(version, "--json", "mget", "one", "none")) == ["-4", None]
    assert cli(version, "-d", ";", "mget", "one", "none", "two") == '-4;;"2"\n'


def test_values_of_any_bytes(cli: Cli, target: Target) -> None:
    assert cli("-x", "set", "k", stdin=BINARY) == "OK\n"
    assert run(target.port, "-D", "", "get", "k").stdout == BINARY
    assert cli("strlen", "k") == f"{len(BINARY)}\n"
    assert cli("-X", "here", "mset", "l", "here", "m", "v", stdin=b"x" * 70_000) == "OK\n"
    assert cli("strlen", "l") == "70000\n"


def test_times_to_live(cli: Cli) -> None:
    assert cli("set", "k", "v", "EX", "100", "NX") == "OK\n"
    assert cli("--no-raw", "set", "k", "w", "NX") == "(nil)\n"
    assert 0 < int(cli("pttl", "k")) <= 100_000
    assert cli("persist", "k") == "1\n"
    assert cli("ttl", "k") == "-1\n"
    assert cli("ttl", "none") == "-2\n"


def test_scanning_with_a_pattern(cli: Cli) -> None:
    cli("mset", *(word for n in range(500) for word in (f"a:{n}", "1", f"b:{n}", "2")))
    found = cli("--scan", "--pattern", "a:*").split()
    assert sorted(found) == sorted(f"a:{n}" for n in range(500))
    assert cli("dbsize") == "1000\n"


@pytest.mark.parametrize(("what", "unit"), [("--bigkeys", "bytes"), ("--memkeys", "bytes")])
def test_the_largest_keys_are_found(cli: Cli, what: str, unit: str) -> None:
    for name, size in (("small", 10), ("large", 5000), ("middle", 100)):
        cli("set", name, "x" * size)
    summary = cli(what).split("summary")[1]
    assert re.search(rf'Biggest string found \'"large"\' has [5-9]\d\d\d {unit}', summary)
    assert "Sampled 3 keys" in summary
    assert "3 strings with" in summary


def test_mass_insertion(cli: Cli) -> None:
    requests = b"".join(
        b"*3\r\n$3\r\nSET\r\n$9\r\nkey:%05d\r\n$5\r\n%05d\r\n" % (n, n) for n in range(5000)
    )
    said = cli("--pipe", stdin=requests)
    assert said.endswith("errors: 0, replies: 5000\n")
    assert cli("get", "key:04321") == "04321\n"
    assert cli("dbsize") == "5000\n"


def test_mass_insertion_counts_errors(target: Target) -> None:
    wrong = b"*1\r\n$7\r\nNOTHING\r\n"
    done = run(target.port, "--pipe", stdin=wrong + b"*1\r\n$4\r\nPING\r\n" + wrong)
    assert done.returncode == 1
    assert b"errors: 2, replies: 3" in done.stdout
    assert b"ERR unknown command" in done.stderr


def test_commands_from_a_file(cli: Cli) -> None:
    commands = b'set k "a \\x00 \\"b\\""\nget k\nappend k !\n3 incr n\nexists k nothing\n'
    said = cli("--no-raw", stdin=commands)
    assert said.splitlines() == [
        "OK",
        '"a \\x00 \\"b\\""',
        "(integer) 8",
        *(f"(integer) {n}" for n in (1, 2, 3)),
        "(integer) 1",
    ]


def test_repeating(cli: Cli) -> None:
    assert cli("-r", "3", "-i", "0.01", "incr", "n") == "1\n2\n3\n"


def ways_in(port: int) -> Iterator[list[str]]:
    yield ["-a", PASSWORD]
    yield ["--user", USER, "--pass", PASSWORD]
    yield ["-u", f"redis://{USER}:{PASSWORD}@{HOST}:{port}"]
    yield ["-u", f"redis://{USER}:{PASSWORD}@{HOST}:{port}/0", "-3"]


def test_logging_in(locked: Target) -> None:
    for way in ways_in(locked.port):
        done = run(locked.port, "--no-auth-warning", *way, "set", "k", "v")
        assert (done.stdout, done.stderr) == (b"OK\n", b""), way
    assert run(locked.port, "get", "k", REDISCLI_AUTH=PASSWORD).stdout == b"v\n"


def test_a_wrong_login_is_refused(locked: Target) -> None:
    done = run(locked.port, "--no-auth-warning", "-a", "wrong", "get", "k")
    assert b"AUTH failed: WRONGPASS" in done.stderr
    assert b"NOAUTH" in done.stdout
    assert b"NOAUTH" in run(locked.port, "get", "k").stdout
    done = run(
        locked.port, "--no-auth-warning", "--user", "x", "--pass", PASSWORD, "-3", "get", "k"
    )
    assert b"WRONGPASS" in done.stderr
    assert b"NOAUTH" in done.stdout


def test_numbered_databases(cli: Cli, target: Target) -> None:
    cli("set", "k", "zero")
    assert cli("-n", "1", "dbsize") == "0\n"
    assert cli("-n", "1", "set", "k", "one") == "OK\n"
    assert cli("get", "k") == "zero\n"
    assert cli("-u", f"redis://{HOST}:{target.port}/1", "get", "k") == "one\n"
    assert cli("-n", "1", "flushdb") == "OK\n"
    assert cli("dbsize") == "1\n"
    assert "db0:keys=1" in cli("info", "keyspace")


def test_what_it_asks_of_the_server(cli: Cli, version: str) -> None:
    assert "redis_version:" in cli(version, "info", "server")
    assert re.search(r"used_memory:\d+\r\n", cli(version, "info"))
    config = cli(version, "config", "get", "maxmemory*").split()
    assert {"maxmemory", "maxmemory-policy"} <= set(config)
    assert "name=me" not in cli(version, "client", "list")
    assert re.match(r"id=\d+ addr=127\.0\.0\.1:\d+ ", cli(version, "client", "list"))
    assert int(cli(version, "command", "count")) > 50
    assert cli(version, "role").split()[0] == "master"
    assert cli(version, "echo", "hello") == "hello\n"


def test_latency(cli: Cli) -> None:
    least, most, average, samples = cli("--latency", "--raw", "-i", "0.2").split()
    assert float(least) <= float(average) <= float(most)
    assert int(samples) > 0


@only_ours
def test_an_error_names_the_command(target: Target) -> None:
    done = run(target.port, "-e", "lpush", "k", "v")
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"LPUSH" in done.stderr.upper()


@only_ours
@pytest.mark.parametrize(
    "words",
    [
        "lpush k v",
        "rpop k",
        "hset k f v",
        "hgetall k",
        "sadd k m",
        "smembers k",
        "zadd k 1 m",
        "xadd k * f v",
        "pfadd k v",
        "geoadd k 1 1 m",
        "setbit k 1 1",
        "eval return(1) 0",
        "function list",
        "client tracking on",
        "cluster info",
        "replicaof 127.0.0.1 1",
        "config set maxmemory 1",
        "debug sleep 0",
        "acl list",
        "save",
        "swapdb 0 1",
        "subscribe c",
        "psubscribe c*",
        "ssubscribe c",
        "publish c m",
        "monitor",
        "wait 0 0",
        "blpop k 0",
        "sort k",
        "dump k",
    ],
)
def test_refused_commands_say_so_at_once(target: Target, words: str) -> None:
    done = run(target.port, "-e", *words.split())
    assert done.returncode == 1
    assert done.stdout == b""
    error = done.stderr.decode()
    assert error.startswith("ERR ")
    assert words.split()[0].upper() in error.upper() or "this server" in error


@only_ours
def test_replication_and_dumps_are_refused(target: Target, tmp_path: Path) -> None:
    for arguments in (["--replica"], ["--rdb", str(tmp_path / "dump")], ["-e", "psync", "?", "-1"]):
        done = run(target.port, *arguments)
        assert done.returncode == 1, arguments
        assert b"ERR " in done.stderr


@only_ours
def test_tags(cli: Cli, version: str) -> None:
    assert cli(version, "tag.set", "k", "v", "EX", "60", "tags", "2", "red", "with blank") == "OK\n"
    assert cli(version, "TAG.SET", "l", "w", "TAGS", "1", "red") == "OK\n"
    assert cli(version, "TAG.OF", "k") == "red\nwith blank\n"
    assert cli(version, "TAG.COUNT", "red") == "2\n"
    assert sorted(cli(version, "TAG.KEYS", "red").split()) == ["k", "l"]
    assert cli(version, "TAG.INVALIDATE", "ALL", "2", "red", "with blank") == "1\n"
    assert cli(version, "TAG.INVALIDATE", "1", "red") == "1\n"
    assert cli(version, "dbsize") == "0\n"


class Session:
    """redis-cli in a terminal. Commands are typed; ``where`` is a part of the next prompt."""

    def __init__(self, target: Target, directory: Path, *arguments: str) -> None:
        address = f"{HOST}:{target.port}"
        self._address = re.escape(address.encode())
        self.terminal = Terminal(
            CLI, "-p", str(target.port), *arguments, cwd=directory, environ={"TERM": "xterm"}
        )

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.terminal.close()

    def wait_for_prompt(self, where: bytes = b"") -> bytes:
        """Return what is shown before the prompt."""
        found = self.terminal.wait_for(b"(?s)(.*?)" + self._address + rb"((?:\[\d+\]|\(TX\))?)> $")
        assert found[2] == where
        return found[1]

    def ask(self, command: bytes, where: bytes = b"") -> list[bytes]:
        """Return the lines of the reply to a command."""
        self.terminal.type(command + b"\r")
        # While it is typed, the line is drawn again and again, with carriage returns.
        self.terminal.wait_for(rb"\r\n")
        return self.wait_for_prompt(where).split(b"\r\n")[:-1]


@pytest.fixture
def session(target: Target, tmp_path: Path) -> Iterator[Session]:
    with Session(target, tmp_path) as session:
        session.wait_for_prompt()
        yield session


def test_a_session_in_a_terminal(session: Session) -> None:
    assert session.ask(b"set k 'a b'") == [b"OK"]
    assert session.ask(b"get k") == [b'"a b"']
    assert session.ask(b"get nothing") == [b"(nil)"]
    assert session.ask(b"multi", where=b"(TX)") == [b"OK"]
    assert session.ask(b"incr n", where=b"(TX)") == [b"QUEUED"]
    assert session.ask(b"get k", where=b"(TX)") == [b"QUEUED"]
    assert session.ask(b"exec") == [b"1) (integer) 1", b'2) "a b"']
    assert session.ask(b"incr k") == [b"(error) ERR value is not an integer or out of range"]
    assert session.ask(b"nothing")[0].startswith(b"(error) ERR unknown command")
    assert session.ask(b"client setname me") == [b"OK"]
    assert b" name=me " in session.ask(b"client list")[0]
    assert session.ask(b"client getname") == [b'"me"']
    session.terminal.type(b"quit\r")
    assert session.terminal.process.wait(TIMEOUT) == 0


def test_a_session_selects_databases(session: Session) -> None:
    assert session.ask(b"select 1", where=b"[1]") == [b"OK"]
    assert session.ask(b"set k 1", where=b"[1]") == [b"OK"]
    assert session.ask(b"select 0") == [b"OK"]
    assert session.ask(b"get k") == [b"(nil)"]
    assert session.ask(b"select 99") == [b"(error) ERR DB index is out of range"]


def test_a_session_changes_to_resp3(session: Session) -> None:
    lines = session.ask(b"hello 3 setname me")
    assert lines[0] == b'1# "server" => "redis"'
    assert b'3# "proto" => (integer) 3' in lines
    assert session.ask(b"get nothing") == [b"(nil)"]
    assert session.ask(b"config get save")[0].startswith(b'1# "save" => ')
    assert session.ask(b"reset") == [b"RESET"]


def test_a_session_has_hints_and_help(session: Session) -> None:
    session.terminal.type(b"expire ")
    # Grey, after the cursor.
    session.terminal.wait_for(rb"90;49mkey seconds \[NX\|XX\|GT\|LT\]")
    assert session.ask(b"k 10") == [b"(integer) 0"]
    text = b"\n".join(session.ask(b"help getex"))
    assert b"GETEX" in text
    assert b"persist" in text.lower()


@only_ours
def test_a_session_has_hints_for_tags(session: Session) -> None:
    session.terminal.type(b"tag.set k v ")
    session.terminal.wait_for(rb"90;49m\[NX\|XX\] \[EX seconds\|")
    assert session.ask(b"tags 1 t") == [b"OK"]
    assert b"TAGS number [tag [tag ...]]" in b"\n".join(session.ask(b"help tag.set"))


def test_a_password_at_the_prompt(locked: Target, tmp_path: Path) -> None:
    with Session(locked, tmp_path, "--user", USER, "--askpass") as session:
        session.terminal.wait_for(rb"input password: ")
        session.terminal.type(PASSWORD.encode() + b"\r")
        session.wait_for_prompt()
        assert session.ask(b"set k v") == [b"OK"]
    with Session(locked, tmp_path) as session:
        session.wait_for_prompt()
        assert session.ask(b"get k") == [b"(error) NOAUTH Authentication required."]
        assert session.ask(b"auth wrong")[0].startswith(b"(error) WRONGPASS")
        assert session.ask(f"auth {USER} {PASSWORD}".encode()) == [b"OK"]
        assert session.ask(b"get k") == [b'"v"']


def test_a_session_survives_a_restart(tmp_path: Path, restarted: Target) -> None:
    with Session(restarted, tmp_path) as session:
        session.wait_for_prompt()
        restarted.stop()
        restarted.start()
        session.terminal.type(b"ping\r")
        session.terminal.wait_for(rb"not connected> $")
        assert session.ask(b"ping") == [b"PONG"]


@only_ours
def test_a_session_goes_on_after_what_is_refused(session: Session) -> None:
    for command in (b"subscribe c", b"monitor", b"client tracking on"):
        lines = session.ask(command)
        assert lines[-1].startswith(b"(error) ERR "), lines
    assert session.ask(b"ping") == [b"PONG"]


def test_continuous_figures(target: Target, tmp_path: Path) -> None:
    arguments = ("-p", str(target.port), "--stat", "-i", "0.1")
    screen = Terminal(CLI, *arguments, cwd=tmp_path, environ={})
    try:
        screen.wait_for(rb"keys +mem +clients +blocked +requests +connections")
        run(target.port, "set", "k", "v")
        # Keys, memory, clients, blocked clients, requests (and how many more), connections.
        screen.wait_for(rb"\n1 +[\d.]+[BKMG] +\d+ +0 +\d+ \(\+\d+\) +\d+")
        screen.type(CTRL_C)
        screen.process.wait(TIMEOUT)
    finally:
        screen.close()
