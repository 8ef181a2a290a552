"""What the soak shares with the other tests."""

from __future__ import annotations

from tests.integration.conftest import server, start

__all__ = ["server", "start"]
