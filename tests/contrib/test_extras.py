"""The error of a backend whose framework is not installed."""

from __future__ import annotations

import importlib
import sys

import pytest


@pytest.mark.parametrize(
    ("backend", "framework", "extra"),
    [
        ("cachelib", "cachelib", "cachelib"),
        ("django", "django.core.cache.backends.base", "django"),
        ("dogpile", "dogpile.cache.api", "dogpile"),
        ("fastapi", "starlette.requests", "fastapi"),
        ("flask_caching", "flask_caching", "flask"),
    ],
)
def test_the_error_names_the_extra_to_install(
    monkeypatch: pytest.MonkeyPatch, backend: str, framework: str, extra: str
) -> None:
    module = f"tagcache.contrib.{backend}"
    for name in list(sys.modules):
        if name.startswith("tagcache.contrib.") and backend in name:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, framework, None)
    with pytest.raises(ImportError, match=rf"^{module} needs: .*\'tagcache-server\[{extra}\]\'$"):
        importlib.import_module(module)
