"""A pump of the native core."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest

from tagcache import native


@pytest.fixture
def pump() -> Iterator[Any]:
    core: Any = native.core
    with select.epoll() as others:
        yield core.Pump(others.fileno())
