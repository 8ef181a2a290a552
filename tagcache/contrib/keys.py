"""Make the keys and tags of function calls from the function's name, arguments and result."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from hashlib import blake2b
from pathlib import PurePath
from string import Formatter
from typing import Any
from uuid import UUID

from tagcache.client.arguments import Tag, collected
from tagcache.errors import BadArgument

# Types whose repr is the same in every process, and different for different values.
_PLAIN = (
    *(type(None), bool, int, float, complex, str, bytes),
    *(date, datetime, time, timedelta, Decimal, Fraction, UUID),
)
# Longer keys end in a hash of the arguments, to save memory. The limit is that of memcached.
_MAX_BYTES = 250
# The name of the result in the format strings of tags.
_RESULT = "result"


class _Parameters:
    """The parameters of a function (callable), for format strings over their names."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._signature = inspect.signature(function)
        self.function_name = f"{function.__module__}.{function.__qualname__}"
        self.names = self._signature.parameters.keys()

    def fields(self, text: str, argument: str, known: Iterable[str]) -> set[str]:
        """Return the names in a format string. Raises BadArgument for one that is not known."""
        told = f"{argument}={text!r}"
        try:
            fields = [field for _, field, _, _ in Formatter().parse(text) if field is not None]
        except ValueError as error:
            raise BadArgument(f"{told} is not a format string: {error}") from None
        names = {field.partition(".")[0].partition("[")[0] for field in fields}
        for name in names.difference(known):
            raise BadArgument(f"{told} names {name!r}, not a parameter of {self.function_name}")
        return names

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a call by name. Raises TypeError as the call would."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments


class TagMaker:
    """Makes the tags for a call of ``function`` (callable).

    ``tags`` are format strings (str) over the names of the parameters and ``result``, or tags as
    bytes; or a callable that gets the arguments, and ``result=`` if it has that parameter and the
    function does not. Raises BadArgument.

    >>> def find(post_id): ...
    >>> TagMaker(find, ["post:{post_id}", "author:{result}"])((7,), {})("Ann")
    ['post:7', 'author:Ann']
    """

    def __init__(
        self, function: Callable[..., Any], tags: Iterable[Tag] | Callable[..., Iterable[Tag]]
    ) -> None:
        self._parameters = _Parameters(function)
        names = set(self._parameters.names)
        self._function = tags if callable(tags) else None
        self._formats: list[Tag] = []
        if callable(tags):
            used = set(inspect.signature(tags).parameters)
        else:
            self._formats += collected(tags)
            texts = [tag for tag in self._formats if isinstance(tag, str)]
            known = {*names, _RESULT}
            used = set().union(*(self._parameters.fields(text, "tags", known) for text in texts))
        self._of_result = _RESULT in used and _RESULT not in names

    def __call__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterable[Tag] | Callable[[Any], Iterable[Tag]]:
        """Return the tags of a call, or a callable that makes them from the result."""
        if self._of_result:
            return lambda result: self._make(args, kwargs, {_RESULT: result})
        return self._make(args, kwargs, {})

    def _make(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], also: dict[str, Any]
    ) -> Iterable[Tag]:
        if self._function is not None:
            return self._function(*args, **kwargs, **also)
        if not self._formats:
            return ()
        values = {**self._parameters.bound(args, kwargs), **also}
        return [tag.format_map(values) if isinstance(tag, str) else tag for tag in self._formats]


class KeyMaker:
    """Makes the key for a call of ``function`` (callable).

    ``key`` is a callable that gets the arguments and returns the key (str), or a format string
    over the names of the parameters such as ``"post:{post_id}"``. If it is None, a key consists of
    the qualified name and the arguments. Raises BadArgument.

    >>> def find(post_id): ...
    >>> KeyMaker(find, "post:{post_id}")(7)
    'post:7'
    """

    def __init__(
        self, function: Callable[..., Any], key: str | Callable[..., str] | None = None
    ) -> None:
        self._key = key
        self._parameters = _Parameters(function)
        self._name = self._parameters.function_name
        if key is None and "<lambda>" in self._name:
            raise BadArgument(f"{self._name} has no unique name: pass key=")
        if isinstance(key, str):
            self._parameters.fields(key, "key", self._parameters.names)

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """Return the key of this call. Raises BadArgument, or TypeError as the call would."""
        if callable(self._key):
            return self._key(*args, **kwargs)
        values = self._parameters.bound(args, kwargs)
        if self._key is not None:
            return self._key.format_map(values)
        told = ",".join(f"{name}={self._text(each)}" for name, each in values.items())
        key = f"{self._name}({told})"
        if len(key.encode("utf-8", "surrogatepass")) > _MAX_BYTES:
            digest = blake2b(told.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
            return f"{self._name}(#{digest})"
        return key

    def _text(self, value: Any) -> str:
        """Return an argument as text: the same in every process, and only for equal arguments."""
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
