"""Servers for programs that we did not write."""

from __future__ import annotations

from tests.integration.conftest import server, start

__all__ = ["server", "start"]
