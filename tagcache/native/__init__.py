"""The native core: entries and their tables in C, if it could be built.

Without it, tagcache.engine.python_entry does the same in Python. With ``0``, the environment
variable TAGCACHE_NATIVE disables the core; with ``require``, no server starts without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from enum import Enum, IntEnum
from importlib import import_module
from types import ModuleType
from typing import NamedTuple

from tagcache.errors import ConfigurationError
from tagcache.model.store_options import StoreOptions

VARIABLE = "TAGCACHE_NATIVE"


class NativeState(Enum):
    """Whether the native core is in use, or why not; the values are shown to users."""

    IN_USE = "in use"
    TURNED_OFF = "turned off"
    NOT_BUILT = "not built"


class Dialect(IntEnum):
    """How the native core reads requests on the cache port, and writes the replies."""

    LINE = 0
    RESP2 = 1
    RESP3 = 2


# It has no Dialect, because it is no choice of a client of the cache port.
HTTP = 3


class NativeAnswers(NamedTuple):
    """What the native core may answer on a connection, in one Dialect or HTTP.

    ``verbs`` are the names of a look-up, a store, a store with tags, a look-up of many keys,
    incrementing and decrementing a counter, the same with an argument, a removal, a look-up that
    takes a lease after a miss, a renewal (in RESP: a test for existence), an expiry in seconds and
    in milliseconds, how long an entry still lives in both, and a test for existence; empty for
    those that the dialect does not have. The readers parse the options of a store: in a line, the
    fields of TTL and tags with the tab between them; in RESP, the bulk strings after the value; in
    HTTP, these fields of the JSON object. They return StoreOptions; None, or an exception, leaves
    the request to Python.
    """

    dialect: int
    verbs: tuple[bytes, ...]
    read_options: Callable[[bytes], StoreOptions | None]
    read_tag_options: Callable[[bytes], StoreOptions | None]


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
