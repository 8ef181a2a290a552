"""Fixtures of the fault tests: servers, and a separate network."""

from __future__ import annotations

from tests.integration.conftest import server, start

__all__ = ["server", "start"]
