"""Whether the native core is in use is chosen by a variable, and said everywhere."""

from __future__ import annotations

import os

import pytest

from tagcache import native
from tagcache.engine import entry, python_entry
from tagcache.errors import ConfigurationError
from tagcache.native import NativeState

WANTED = os.environ.get(native.VARIABLE, "")


def test_the_engine_uses_what_was_chosen() -> None:
    if native.state is NativeState.IN_USE:
        assert WANTED != "0"
        assert entry.Entry is native.core.Entry  # type: ignore[union-attr]
    else:
        assert WANTED != "require"
        assert native.core is None
        assert entry.Entry is python_entry.Entry


@pytest.mark.parametrize("wanted", ["", "0", "1"])
def test_without_a_requirement_every_state_will_do(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    for state in NativeState:
        monkeypatch.setattr(native, "state", state)
        native.check_wanted(wanted)


def test_a_requirement_needs_the_native_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "state", NativeState.IN_USE)
    native.check_wanted("require")
    monkeypatch.setattr(native, "state", NativeState.NOT_BUILT)
    with pytest.raises(ConfigurationError, match="the native core is required, and not built"):
        native.check_wanted("require")


def test_an_unknown_value_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="'yes' is none of 0, 1 and require"):
        native.check_wanted("yes")
