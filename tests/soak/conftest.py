"""Fixtures that the soak shares with other tests."""

from __future__ import annotations

from tests.integration.conftest import server, start

__all__ = ["server", "start"]
