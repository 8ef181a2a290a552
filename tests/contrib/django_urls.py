"""The URLs of the project in django_project."""

from __future__ import annotations

from typing import Any

urlpatterns: list[Any] = []
