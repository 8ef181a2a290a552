"""The manhole, with the client of OpenSSH."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.running import RunningServer
from tests.integration.sockets import accepted

Start = Callable[..., RunningServer]
pytestmark = pytest.mark.needs("ssh", "ssh-keygen")


class Shell:
    """A server with a manhole, and ssh connections to it."""

    level = "ERROR"

    def __init__(self, start: Start, directory: Path, **sections: dict[str, object]) -> None:
        self.directory = directory
        for name in ("right", "wrong"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True
            )
        (directory / "authorized").write_bytes((directory / "right.pub").read_bytes())
        self.server = start(
            {
                "manhole": {
                    "enabled": "true",
                    "port": 0,
                    "authorized_keys_file": directory / "authorized",
                    "host_key_file": directory / "host",
                },
                **sections,
            }
        )
        self.server.wait_for_log("manhole: listening on 127.0.0.1")
        address = re.findall(r"manhole: listening on (\S+);", self.server.text())[0]
        self.port = int(address.rpartition(":")[2])

    def command(self, *more: str, key: str = "right", user: str = "admin") -> list[str]:
        options = {
            "IdentityFile": self.directory / key,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": self.directory / "known_hosts",
            "StrictHostKeyChecking": "accept-new",
            "GlobalKnownHostsFile": "/dev/null",
            "NumberOfPasswordPrompts": "1",
            "ConnectTimeout": "20",
            "LogLevel": self.level,
        }
        flags = [f"-o{name}={value}" for name, value in options.items()]
        return ["ssh", "-F", "/dev/null", *flags, "-p", str(self.port), f"{user}@127.0.0.1", *more]

    def ssh(
        self, *more: str, typed: str = "", key: str = "right", user: str = "admin"
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*more, key=key, user=user),
            input=typed,
            capture_output=True,
            text=True,
            timeout=60,
        )


@pytest.fixture
def shell(start: Start, tmp_path: Path) -> Shell:
    return Shell(start, tmp_path)


def test_the_right_key_gets_a_prompt(shell: Shell) -> None:
    shell.server.ask(b"PUT\tk\t-\tsome,tags\tvalue")
    with subprocess.Popen(
        shell.command("-tt"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as session:
        assert session.stdin is not None
        assert session.stdout is not None
        said = b""
        for typed, told in (
            (b"", b"help() lists the commands"),
            # The Redis engine answers later.
            (b"cache.get(b'k')\r", b"b'value'"),
            (b"1/0\r", b"ZeroDivisionError"),
            (b"print(6 * 7)\r", b"42"),
            (b"stats()\r", b"-----\r\nhits "),
            (b"check()\r", b"no faults"),
        ):
            session.stdin.write(typed)
            session.stdin.flush()
            while told not in said:
                more = session.stdout.read1()
                assert more, said
                said += more
        assert b"Deferred" not in said
        session.stdin.write(b"\x04")
        session.stdin.flush()
        assert session.wait(60) == 0
    assert shell.server.ask(b"PING") == b"PONG\n"


@pytest.mark.parametrize(("key", "user"), [("wrong", "admin"), ("right", "root")])
def test_a_wrong_key_and_a_wrong_user_are_refused(shell: Shell, key: str, user: str) -> None:
    done = shell.ssh("1+1", key=key, user=user)
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_a_password_is_refused(shell: Shell) -> None:
    done = shell.ssh("-oPubkeyAuthentication=no", "-oPreferredAuthentications=password", "1+1")
    assert done.returncode == 255
    assert "Permission denied (publickey)" in done.stderr


def test_keys_can_be_changed_while_it_runs(shell: Shell) -> None:
    authorized = shell.directory / "authorized"
    authorized.write_bytes((shell.directory / "wrong.pub").read_bytes())
    assert shell.ssh("1+1", key="right").returncode == 255
    assert shell.ssh("1+1", key="wrong").stdout.strip() == "2"
    authorized.write_text("")
    assert shell.ssh("1+1", key="wrong").returncode == 255
    assert "nobody can log in" in shell.server.text()


def test_the_host_key_is_created_private_and_stays(shell: Shell) -> None:
    host = shell.directory / "host"
    assert host.stat().st_mode & 0o777 == 0o600
    before = host.read_bytes()
    assert shell.ssh("1+1").returncode == 0
    known = (shell.directory / "known_hosts").read_text()
    public = subprocess.run(
        ["ssh-keygen", "-y", "-f", host], capture_output=True, text=True, check=True
    ).stdout
    assert public.split()[1] in known
    assert host.read_bytes() == before


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("stats()", 0),
        ("1+1", 0),
        ("exit()", 0),
        ("exit(3)", 3),
        ("1/0", 1),
        ("1+", 1),
        ("if True:", 1),
        ("service.nothing", 1),
        ("__import__('twisted.internet.defer').internet.defer.fail(ValueError('late'))", 1),
    ],
)
def test_a_command_ends_as_it_went_and_logs_no_error(
    shell: Shell, command: str, status: int
) -> None:
    done = shell.ssh(command)
    assert (done.returncode, done.stderr) == (status, "")
    shell.server.wait_for_log("manhole: connection 1 from")
    shell.server.wait_for_log("Transport: connection lost")
    lines = shell.server.text().splitlines()
    assert [line for line in lines if " error " in line or " critical " in line] == []


def test_a_command_leaves_nothing_for_the_client_to_complain_of(shell: Shell) -> None:
    assert shell.ssh("1+1").returncode == 0  # now the host is known; ssh would print that
    shell.level = "INFO"
    done = shell.ssh("1+1")
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "2", "")


def test_commands_print_tables(shell: Shell) -> None:
    with shell.server.connect() as client:
        client.ask(b"PUT\tk\t-\tfruit,red\tvalue")
        client.ask(b"PUT\tl\t-\tfruit\tvalue")
        client.ask(b"GET\tk")
        _, port = client.sock.getsockname()

        connections = shell.ssh("connections()").stdout.splitlines()
        assert connections[0].split()[:3] == ["id", "listener", "peer"]
        (row,) = (line.split() for line in connections if f"127.0.0.1:{port}" in line)
        assert (row[0], row[1], row[5], row[-1]) == ("1", "cache", "3", "GET")
        assert any(" manhole " in line for line in connections)

        listeners = shell.ssh("sockopts()").stdout.splitlines()
        assert ["cache", "listen_backlog", "1024", "1024", "-"] in [
            line.split() for line in listeners
        ]
        assert any(line.startswith("manhole") for line in listeners)

        options = [line.split() for line in shell.ssh("sockopts(1)").stdout.splitlines()]
        assert ["tcp_nodelay", "True", "True", "-"] in options
        assert ["tcp_keepalive_seconds", "7200", "7200", "-"] in options
        # Read at each login, not cached.
        with accepted(shell.server.process.pid, client.sock) as sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
        options = [line.split() for line in shell.ssh("sockopts(1)").stdout.splitlines()]
        assert ["tcp_nodelay", "True", "False", "-"] in options

        stats = dict(line.split() for line in shell.ssh("stats()").stdout.splitlines() if line)
        assert (stats["hits"], stats["puts"], stats["items"], stats["tags"]) == ("1", "2", "2", "2")

        tags = [line.split() for line in shell.ssh("top_tags()").stdout.splitlines()]
        assert [line[:2] for line in tags[2:4]] == [["fruit", "2"], ["red", "1"]]
        assert tags[2][2:] == ["1", "0", "0", "never"]
        assert shell.ssh("invalidate('red')").stdout.strip() == "1"
        tags = [line.split() for line in shell.ssh("top_tags()").stdout.splitlines()]
        assert [line[:2] for line in tags[2:]] == [["fruit", "1"]]

        config = shell.ssh("config").stdout
        assert re.search(r"performance\.tcp_nodelay +True +default", config)
        assert re.search(r"authentication\.password +\*+ +default", config)
        assert "Settings(" in shell.ssh("config.settings").stdout

        shell.server.reload(performance={"tcp_nodelay": "false"})
        config = shell.ssh("config").stdout
        assert re.search(r"performance\.tcp_nodelay +False +file", config)

        for name in ("cache", "config", "service", "connections", "sockopts", "stats"):
            assert re.search(rf"^{name}\b", shell.ssh("help()").stdout, re.MULTILINE), name

        assert "closed connection 1" in shell.ssh("kill(1)").stdout
        with pytest.raises(ConnectionResetError):
            client.rest()
    assert "there is no connection 99" in shell.ssh("kill(99)").stdout
    assert "there is no connection 99" in shell.ssh("sockopts(99)").stdout


def test_one_command_prints_its_result_alone(shell: Shell) -> None:
    """The prompt waits for a later result, and prints nothing about it."""
    shell.server.ask(b"PUT\tk\t-\tfruit\tvalue")
    assert shell.ssh("cache.get(b'k')").stdout == "b'value'\n"
    assert shell.ssh("stats()").stdout.split()[:2] == ["what", "value"]
    shell.ssh("from twisted.internet.defer import succeed, fail; service.later = succeed, fail")
    assert shell.ssh("service.later[0](6 * 7)").stdout == "42\n"
    assert shell.ssh("service.later[1](KeyError('no'))").stdout == "KeyError: 'no'\n\n"


@pytest.mark.parametrize(
    "typed", ["raise SystemExit", "raise KeyboardInterrupt", "exit()", "def f(:", "\xff", "1 +"]
)
def test_whatever_a_session_raises_the_server_goes_on(shell: Shell, typed: str) -> None:
    shell.ssh(typed)
    shell.ssh("-tt", typed=f"{typed}\r\x04\x04")
    assert shell.server.ask(b"PING") == b"PONG\n"
    assert shell.server.process.poll() is None


def test_a_session_that_exits_ends(shell: Shell) -> None:
    assert shell.ssh("-tt", typed="exit()\r").returncode == 0


def test_a_shell_without_a_terminal(shell: Shell) -> None:
    shell.ssh(typed="1+1\r\x04")
    assert shell.server.ask(b"PING") == b"PONG\n"


def test_its_connections_get_the_socket_options_and_are_listed(
    start: Start, tmp_path: Path
) -> None:
    shell = Shell(start, tmp_path, performance={"tcp_keepalive_seconds": 44, "max_connections": 1})
    with socket.create_connection(("127.0.0.1", shell.port)) as sock:
        assert sock.recv(4) == b"SSH-"
        with accepted(shell.server.process.pid, sock) as end:
            assert end.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 44
        with shell.server.connect() as client:
            (told,) = (c for c in client.json(b"CLIENTS") if c["listener"] == "manhole")
            assert told["socket_options"]["tcp_keepalive_seconds"]["effective"] == 44
            # max_connections is reached. The manhole still accepts.
            assert shell.ssh("1+1").stdout.strip() == "2"


def test_addresses_that_are_not_allowed_get_no_shell(start: Start, tmp_path: Path) -> None:
    shell = Shell(start, tmp_path, security={"allowed_ips": "10.0.0.0/8"})
    with socket.create_connection(("127.0.0.1", shell.port)) as sock:
        assert sock.recv(4) == b""


def test_it_is_off_unless_asked_for(server: RunningServer) -> None:
    assert "manhole" not in server.text()
    assert "manhole" not in server.addresses


def test_without_keys_it_is_refused(start: Start, tmp_path: Path) -> None:
    (tmp_path / "authorized").write_text("# nobody\n")
    server = start(
        {
            "manhole": {
                "enabled": "true",
                "authorized_keys_file": tmp_path / "authorized",
                "host_key_file": tmp_path / "host",
            }
        },
        wait=False,
    )
    assert server.process.wait(60) == 1
    assert "manhole.authorized_keys_file" in server.text()
    assert "holds no public key" in server.text()
