"""Servers for clients of Redis."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import skip
from tests.outside.other_redis_clients.programs import NODE
from tests.outside.other_redis_clients.target import Target, empty, start_target

# What each Debian package brings: an extension of PHP, or a file in its include path.
EXTENSIONS = {"php-redis": "redis", "php-igbinary": "igbinary"}
LIBRARIES = {
    "php-illuminate-cache": "Illuminate/Cache/autoload.php",
    "php-illuminate-redis": "Illuminate/Redis/autoload.php",
    "php-symfony-cache": "Symfony/Component/Cache/autoload.php",
}


@pytest.fixture(scope="module")
def shared_target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    target = start_target(tmp_path_factory.mktemp("target"), login=False)
    yield target
    target.stop()


@pytest.fixture
def target(shared_target: Target) -> Target:
    """An empty server, without a password."""
    empty(shared_target)
    return shared_target


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server that clients have to log in to."""
    target = start_target(tmp_path_factory.mktemp("locked"), login=True)
    yield target
    target.stop()


@pytest.fixture
def restarted(tmp_path: Path) -> Iterator[Target]:
    """A server of its own, for a test that stops it and starts it again."""
    directory = tmp_path / "restarted"
    directory.mkdir()
    target = start_target(directory, login=False)
    yield target
    target.stop()


@pytest.fixture(scope="session")
def node_modules() -> None:
    """The packages of the lock file, installed if that has not happened yet."""
    wanted = NODE / "package-lock.json"
    installed = NODE / "node_modules" / ".installed"
    with wanted.open() as lock:
        # One of several test processes installs them.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not installed.exists() or installed.read_text() != wanted.read_text():
            command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done
            installed.write_text(wanted.read_text())


@pytest.fixture(scope="session")
def php_packages() -> None:
    """What the programs of PHP need; a test is skipped without it."""
    for package, extension in EXTENSIONS.items():
        if not php_has(f"extension_loaded('{extension}')"):
            skip(f"{package} is not installed")
    for package, file in LIBRARIES.items():
        if not php_has(f"stream_resolve_include_path('{file}')"):
            skip(f"{package} is not installed")


def php_has(expression: str) -> bool:
    done = subprocess.run(["php", "-r", f"exit((int) !({expression}));"], timeout=60)
    return done.returncode == 0
