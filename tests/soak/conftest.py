"""Fixtures that the soak shares with other tests."""

from __future__ import annotations

from tests.distributed.conftest import cluster, front, redis
from tests.integration.conftest import server, start

__all__ = ["cluster", "front", "redis", "server", "start"]
