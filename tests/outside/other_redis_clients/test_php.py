"""PHP's extension redis: its class, the caches of frameworks on it, and the sessions it keeps."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest

from tests.distributed.redis_server import free_port
from tests.integration.running import eventually
from tests.outside.other_redis_clients import programs
from tests.outside.other_redis_clients.programs import PHP
from tests.outside.other_redis_clients.target import HOST, PASSWORD, USER, Target

pytestmark = pytest.mark.needs("redis-server", "redis-cli", "php")

SITE = PHP / "session_site.php"
CASES = programs.cases({name: PHP / f"{name}.php" for name in ("phpredis", "frameworks")})
Results = Callable[[str], dict[str, str | None]]


@pytest.fixture(scope="module")
def results(php_packages: None, shared_target: Target, locked: Target) -> Results:
    """Run a program the first time that one of its tests is asked for."""

    @cache
    def run(program: str) -> dict[str, str | None]:
        return programs.run(PHP / f"{program}.php", (), shared_target, locked)

    return run


@pytest.mark.parametrize(("program", "name"), CASES)
def test_classes(program: str, name: str, results: Results) -> None:
    error = results(program)[name]
    assert error is None, error


@contextmanager
def site(directory: Path, target: Target, **parameters: str) -> Iterator[str]:
    """PHP's own web server; its sessions are at the target. It yields a URL."""
    path = f"tcp://{HOST}:{target.port}"
    settings = {
        "session.save_handler": "redis",
        "session.save_path": f"{path}?{urlencode(parameters)}" if parameters else path,
        "redis.session.locking_enabled": "1",
        # Until the lock is free.
        "redis.session.lock_retries": "-1",
    }
    options = [word for name, value in settings.items() for word in ("-d", f'{name}="{value}"')]
    port = free_port()
    log = directory / "php.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["php", *options, "-S", f"{HOST}:{port}", str(SITE)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**programs.environ(target, target), "PHP_CLI_SERVER_WORKERS": "4"},
            # Its workers do not end with it, but with their process group.
            process_group=0,
        )
    try:
        eventually(lambda: b"started" in log.read_bytes())
        yield f"http://{HOST}:{port}"
        assert b"Warning" not in log.read_bytes(), log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_sessions_of_a_site(php_packages: None, target: Target, tmp_path: Path) -> None:
    with site(tmp_path, target) as url, httpx.Client(base_url=url) as client:
        assert [client.get("/visit").json() for _ in range(3)] == [1, 2, 3]
        before = client.cookies["PHPSESSID"]
        assert client.get("/new-id").json() == 3
        assert client.cookies["PHPSESSID"] != before
        assert client.get("/look").json() == 3
        assert httpx.get(f"{url}/look").json() == 0
        assert client.get("/leave").json() == 0
        assert client.get("/look").json() == 0


def test_a_session_is_locked(php_packages: None, target: Target, tmp_path: Path) -> None:
    with site(tmp_path, target, prefix="mine:") as url, httpx.Client(base_url=url) as client:
        client.get("/look")
        with ThreadPoolExecutor(4) as threads:
            visits = threads.map(lambda _: client.get("/visit").json(), range(20))
            assert sorted(visits) == list(range(1, 21))


def test_sessions_behind_a_password(php_packages: None, locked: Target, tmp_path: Path) -> None:
    for credentials in ({"auth[user]": USER, "auth[pass]": PASSWORD}, {"auth": PASSWORD}):
        with site(tmp_path, locked, **credentials) as url, httpx.Client(base_url=url) as client:
            assert [client.get("/visit").json() for _ in range(2)] == [1, 2]
