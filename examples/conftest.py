"""What pytest must know of the whole project when it runs these tests alone."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    for name in ("slow", "soak"):
        config.addinivalue_line("markers", f"{name}: see CONTRIBUTING.md")
