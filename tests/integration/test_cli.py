"""The ``tagcache`` command."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.running import Client, eventually

TAGCACHE = Path(sys.executable).with_name("tagcache")


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(TAGCACHE), *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "HOME": str(cwd)},
    )


def test_checking_a_configuration_that_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[server]\nnum_shards = 4\n")
    done = run("config", "check", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{path}: fine\n")
    assert done.stderr.startswith("notice: server.num_shards = 4 has no effect")


def test_checking_a_bad_one_lists_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[server]\ntcp_port = x\nhostt = y\n")
    done = run("config", "check", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "line 2: server.tcp_port" in done.stderr
    assert "line 3: server.hostt: unknown key; did you mean host?" in done.stderr


def test_a_check_as_json(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[server]\nnum_shards = 4\n")
    done = run("config", "check", path, "--json", cwd=tmp_path)
    told = json.loads(done.stdout)
    assert (told["fine"], told["faults"], len(told["notices"])) == (True, [], 1)
    path.write_text("[server]\ntcp_port = x\n")
    done = run("config", "check", path, "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["faults"][0].startswith("line 2: server.tcp_port")
    done = run("config", "path", "--json", cwd=tmp_path)
    assert (done.returncode, json.loads(done.stdout)) == (1, {"file": None})


def test_a_check_tells_that_others_can_read_the_password(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[authentication]\npassword = plain\n")
    path.chmod(0o644)
    done = run("config", "check", path, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{path}: fine\n")
    assert f"notice: {path} can be read by every user of this machine" in done.stderr


def test_a_check_also_tells_what_only_a_start_would(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[server]\nhost = 0.0.0.0\n[manhole]\nenabled = true\n")
    done = run("config", "check", path, cwd=tmp_path)
    assert done.returncode == 1
    assert "Three ways out" in done.stderr
    assert "manhole.authorized_keys_file" in done.stderr


def test_without_a_file_the_usual_one_is_checked(tmp_path: Path) -> None:
    assert "built-in defaults" in run("config", "check", cwd=tmp_path).stdout
    (tmp_path / "tagcache.conf").write_text("[cache]\n")
    assert run("config", "check", cwd=tmp_path).stdout == "tagcache.conf: fine\n"


def test_the_server_in_the_foreground(tmp_path: Path) -> None:
    (tmp_path / "tagcache.conf").write_text("[server]\ntcp_port = 0\nhttp_port = 0\n")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [TAGCACHE, "server", "--reactor", "poll"],
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        # The last line that a start logs.
        eventually(lambda: "PollReactor" in log.read_text())
        port = int(log.read_text().split("listening on 127.0.0.1:")[1].split(";")[0])
        with Client(socket.create_connection(("127.0.0.1", port))) as client:
            assert client.ask(b"PING") == b"PONG\n"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
    assert not (tmp_path / "twistd.pid").exists()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("reactor", "told"),
    [
        ("warp", "there is no reactor warp; known ones are"),
        ("iocp", "--reactor=iocp cannot be used"),
    ],
)
def test_a_reactor_that_cannot_be_used_is_told_in_a_line(
    tmp_path: Path, reactor: str, told: str
) -> None:
    done = run("server", "--reactor", reactor, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) <= 4


def test_a_configuration_file_that_is_named_but_missing(tmp_path: Path) -> None:
    done = run("server", "--config", "nowhere.conf", cwd=tmp_path)
    assert done.returncode == 1
    assert "nowhere.conf" in done.stderr
    assert "No such file" in done.stderr


def test_its_version(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path).stdout.startswith("tagcache, version ")
