"""The processes of docs/examples/compose, with its files and environment, without containers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.distributed.redis_server import CLI, SERVER, free_port
from tests.distributed.test_servers import healthy
from tests.integration.running import RunningServer, eventually
from tests.unit.test_compose_example import FOLDER, OURS, VALKEY, filled_in

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "sh")


def test_what_its_services_run(
    start: Callable[..., RunningServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    # The programs of the other tests in place of Valkey's, on a free port.
    programs = tmp_path / "bin"
    programs.mkdir()
    server = f"sed 's/^bind .*/bind 127.0.0.1/' | exec {shutil.which(SERVER)} - --port {port}\n"
    cli = f'exec {shutil.which(CLI)} -p {port} "$@"\n'
    for name, text in (("valkey-server", server), ("valkey-cli", cli)):
        (programs / name).write_text("#!/bin/sh\n" + text)
        (programs / name).chmod(0o755)
    password = filled_in(VALKEY["environment"]["VALKEY_PASSWORD"])
    environ = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "VALKEY_PASSWORD": password,
        "RIGHTS": VALKEY["environment"]["RIGHTS"],
    }
    command = [each.replace("$$", "$") for each in VALKEY["command"]]
    valkey = subprocess.Popen(
        command, env=environ, cwd=tmp_path, stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        check = VALKEY["healthcheck"]["test"]
        assert check[0] == "CMD-SHELL"

        def answers(**more: str) -> bool:
            check_command = ["sh", "-c", check[1].replace("$$", "$")]
            done = subprocess.run(check_command, env={**environ, **more}, capture_output=True)
            return done.returncode == 0

        eventually(answers)
        assert not answers(VALKEY_PASSWORD="wrong")
        assert password not in Path(f"/proc/{valkey.pid}/cmdline").read_text()
        monkeypatch.setenv("TAGCACHE_TEST_REACTOR", "asyncio")
        ours = {name: filled_in(text) for name, text in OURS["environment"].items()}
        ours["TAGCACHE_ENGINE_URL"] = ours["TAGCACHE_ENGINE_URL"].replace(
            "valkey:6379", f"127.0.0.1:{port}"
        )
        # On loopback only, and not on the ports of the containers.
        ours |= {"HOST": "127.0.0.1", "TCP_PORT": "0", "PORT": "0"}
        text = (FOLDER / "tagcache.conf").read_text("utf-8")
        one, two = (start(config=text, environ=ours) for _ in range(2))
        eventually(lambda: healthy(one) and healthy(two))
        login = b"AUTH\tadmin\t" + ours["TAGCACHE_PASSWORD"].encode()
        with one.connect() as a, two.connect() as b:
            assert a.ask(b"GET\tpage:1") == b"ERR auth_required\n"
            assert (a.ask(login), b.ask(login)) == (b"OK\n", b"OK\n")
            assert a.ask(b"PUT\tpage:1\t-\tpost:1,author:7\tHello") == b"OK\n"
            assert b.ask(b"GET\tpage:1") == b"VALUE\tHello\n"
            assert b.ask(b"INV_TAG\tauthor:7") == b"INV_TAG\t1\n"
            assert a.ask(b"GET\tpage:1") == b"NF\n"
        assert password not in one.text()
        one.process.terminate()
        # Twisted ends by the signal that it got; process 1 of a container cannot, and returns 0.
        assert one.process.wait(60) == -signal.SIGTERM
        assert "stopping; " in one.text()
        assert two.ask(login) == b"OK\n"
    finally:
        # The shim is a pipeline, all in one process group.
        os.killpg(valkey.pid, 9)
        valkey.wait()
