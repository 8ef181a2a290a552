"""The native core: entries and their tables in C, where it was built.

Without it, the same is done in Python (tagcache.engine.python_entry). The environment variable
TAGCACHE_NATIVE chooses: ``0`` does without it, and ``require`` lets no server start without it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from enum import Enum
from importlib import import_module
from types import ModuleType

from tagcache.errors import ConfigurationError

VARIABLE = "TAGCACHE_NATIVE"


class NativeState(Enum):
    """Whether the native core is in use, and why not; the values are shown to users."""

    IN_USE = "in use"
    TURNED_OFF = "turned off"
    NOT_BUILT = "not built"


core: ModuleType | None = None
state = NativeState.NOT_BUILT
if os.environ.get(VARIABLE) == "0":
    state = NativeState.TURNED_OFF
else:
    with suppress(ImportError):
        core = import_module("tagcache.native._core")
        state = NativeState.IN_USE


def check_wanted(wanted: str) -> None:
    """Check the value of the environment variable, which is empty if it is not set.

    Raises ConfigurationError for an unknown value, and if the native core is required and missing.
    """
    if wanted not in ("", "0", "1", "require"):
        raise ConfigurationError(VARIABLE, [f"{wanted!r} is none of 0, 1 and require"])
    if wanted == "require" and state is not NativeState.IN_USE:
        fault = (
            f"the native core is required, and {state.value}: install a C compiler and Python's "
            "headers (on Debian: gcc, python3-dev), then install TagCache again"
        )
        raise ConfigurationError(VARIABLE, [fault])
