"""Hooks and settings that all tests share."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

from tagcache.config.environment import VARIABLES
from tests.left_out import LeftOut, skip
from tests.reliability import (  # noqa: F401 - hooks and a fixture, found by their names
    measured,
    pytest_addoption,
    pytest_runtest_logreport,
    pytest_sessionfinish,
)
from tests.sources import sources  # noqa: F401 - a fixture

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")

# Environment variables that name a replacement for a program that a test needs.
INSTEAD = {
    "redis-server": "TAGCACHE_TEST_REDIS_SERVER",
    "redis-cli": "TAGCACHE_TEST_REDIS_CLI",
}


# Prefixes of the environment variables that configure the tests themselves.
OURS = ("TAGCACHE_TEST_", "TAGCACHE_SOAK_", "TAGCACHE_FUZZ_", "TAGCACHE_NATIVE")


def forget_the_shell() -> None:
    """Undo what the tests, and the processes they start, inherit from the shell."""
    # A shell starts background jobs with SIGINT ignored, and every server would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Some tests check file modes, and read files as another user.
    os.umask(0o022)
    # These variables configure a server of the user.
    settings = {variable for variable, *_ in VARIABLES}
    for name in list(os.environ):
        if name in settings or (name.startswith("TAGCACHE_") and not name.startswith(OURS)):
            del os.environ[name]
    # A proxy cannot reach the loopback addresses of this machine.
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost,::1"


def pytest_configure(config: pytest.Config) -> None:
    forget_the_shell()
    config.addinivalue_line("markers", "needs(program): skipped where the program is missing")
    config.addinivalue_line("markers", "root: skipped where the tests do not run as root")
    config.addinivalue_line(
        "markers", "memory_engine(what): what it tests is not there where the entries are in Redis"
    )
    config.addinivalue_line("markers", "tagcache_only(what): what it tests is not there in Redis")
    config.addinivalue_line("markers", "slow: takes many seconds; left out by `make test`")
    config.addinivalue_line("markers", "soak: takes minutes; only run by `make soak`")
    # A mark of dogpile's own suites, see tests/contrib/test_dogpile.py.
    config.addinivalue_line("markers", "time_intensive: takes seconds")
    config.pluginmanager.register(LeftOut())
    if config.getoption("--write-reliability") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--write-reliability measures: it takes one process, without -n")


def pytest_xdist_auto_num_workers() -> int:
    """Two workers for each core: most tests wait for processes more than they compute."""
    return 2 * (os.cpu_count() or 1)


# Files whose tests take minutes together, and share no more than a server that starts in a second.
SPLIT = tuple(
    f"tests/{name}.py::"
    for name in (
        "contrib/test_django_suite",
        "distributed/test_dead_primary",
        "distributed/test_fail_over",
        "distributed/test_resharding",
        "integration/test_commands",
        "outside/redis_clients/test_same_as_redis",
        "outside/redis_clients/test_their_own_tests",
    )
)


class Scheduling(LoadFileScheduling):
    """The tests of a file stay in one process, except those of long files."""

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(SPLIT) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return Scheduling(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("time_intensive"):
            item.add_marker("slow")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for needed in mark.args:
            program = os.environ.get(INSTEAD.get(needed, ""), needed)
            if shutil.which(program) is None:
                skip(f"{program} is not installed (CONTRIBUTING.md names its Debian package)")
    mark = item.get_closest_marker("memory_engine")
    if mark is not None and os.environ.get("TAGCACHE_TEST_ENGINE_URL"):
        pytest.skip(f"{mark.args[0]}: only of the engine in memory")
    if item.get_closest_marker("root") is not None and os.geteuid() != 0:
        skip("it takes root to do this")
