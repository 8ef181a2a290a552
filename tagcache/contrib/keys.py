"""Keys of function calls: the name of the function, and the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from string import Formatter
from typing import Any
from uuid import UUID

from tagcache.errors import BadArgument

# Types whose repr is the same in every process, and differs if the values differ.
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes),
    *(date, datetime, time, timedelta, Decimal, Fraction, UUID),
)
# Longer keys end in a hash of the arguments, to save memory. The limit is that of memcached.
_MAX_BYTES = 250


class KeyMaker:
    """Makes the key for a call of ``function`` (callable).

    ``key`` is a callable that gets the arguments and returns the key (str), or a format string
    over the names of the parameters such as ``"post:{post_id}"``; with None, a key consists of the
    qualified name and the arguments. Raises BadArgument.
    """

    def __init__(
        self, function: Callable[..., Any], key: str | Callable[..., str] | None = None
    ) -> None:
        self._function = function
        self._key = key
        self._signature = inspect.signature(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        if key is None and "<lambda>" in self._name:
            raise BadArgument(f"{self._name} has no unique name: pass key=")
        if isinstance(key, str):
            self._check_format(key)

    def _check_format(self, key: str) -> None:
        try:
            fields = [field for _, field, _, _ in Formatter().parse(key) if field is not None]
        except ValueError as error:
            raise BadArgument(f"key={key!r} is not a format string: {error}") from None
        for field in fields:
            name = field.partition(".")[0].partition("[")[0]
            if name not in self._signature.parameters:
                raise BadArgument(f"key={key!r} names {name!r}, not a parameter of {self._name}")

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of this call. Raises BadArgument, or TypeError as the call would."""
        if callable(self._key):
            return self._key(*args, **kwargs)
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        if self._key is not None:
            return self._key.format(**bound.arguments)
        told = ",".join(f"{name}={self._text(each)}" for name, each in bound.arguments.items())
        key = f"{self._name}({told})"
        if len(key.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
            digest = blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            return f"{self._name}(#{digest})"
        return key

    def _text(self, value: Any) -> str:
        """Return an argument as text: the same for equal arguments only, in every process."""
        kind = type(value)
        if kind in _PLAIN:
            return repr(value)
        if kind in (tuple, list):
            return f"{kind.__name__}[{','.join(map(self._text, value))}]"
        if kind in (set, frozenset):
            return f"{kind.__name__}[{','.join(sorted(map(self._text, value)))}]"
        if isinstance(value, Mapping) and kind is dict:
            pairs = sorted(f"{self._text(name)}:{self._text(each)}" for name, each in value.items())
            return f"dict[{','.join(pairs)}]"
        if isinstance(value, (Enum, type)) or inspect.isfunction(value):
            return _path(value)
        if isinstance(value, PurePath):
            return repr(value)
        raise BadArgument(
            f"no key can be made of an argument of type {kind.__name__}: pass key= to cached"
            f" for {self._name}"
        )


def _path(value: Any) -> str:
    if isinstance(value, Enum):
        return f"{_path(type(value))}.{value.name}"
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in name:
        raise BadArgument(f"{name} has no unique name, so no key can be made of it: pass key=")
    return name
