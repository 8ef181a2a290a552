"""What all tests share."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")

# Other programs that a test takes in place of one it needs.
INSTEAD = {
    "redis-server": "TAGCACHE_TEST_REDIS_SERVER",
    "redis-cli": "TAGCACHE_TEST_REDIS_CLI",
}


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs(program): skipped where the program is missing")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for needed in mark.args:
            program = os.environ.get(INSTEAD.get(needed, ""), needed)
            if shutil.which(program) is None:
                why = f"{program} is not installed (the README names its Debian package)"
                # Where everything was installed on purpose, a skip would hide a hole.
                if os.environ.get("CI"):
                    pytest.fail(why)
                pytest.skip(why)
