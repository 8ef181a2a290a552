"""What the fault tests share: servers, and a network of their own."""

from __future__ import annotations

from tests.integration.conftest import server, start

__all__ = ["server", "start"]
