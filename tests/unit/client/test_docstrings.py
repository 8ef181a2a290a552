"""The examples in docstrings are right."""

from __future__ import annotations

import doctest
from types import ModuleType

import pytest

from tagcache.client import arguments, early, serde, typed_serde
from tagcache.client._sync import client
from tagcache.client.fake import FakeClient
from tagcache.contrib import cached, keys


@pytest.mark.parametrize(
    "module",
    [arguments, cached, client, early, keys, serde, typed_serde],
    ids=lambda module: module.__name__,
)
def test_examples(module: ModuleType) -> None:
    found = doctest.testmod(module, extraglobs={"client": FakeClient()})
    assert found.attempted
    assert not found.failed
