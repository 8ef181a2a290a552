"""Path functions: how a framework calls them, and the keys and tags of their results."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from tagcache.client.arguments import Tag
from tagcache.contrib.fastapi.responses import Headers
from tagcache.contrib.keys import KeyMaker, TagMaker
from tagcache.errors import BadArgument

Key = str | Callable[..., str] | None
Tags = Iterable[Tag] | Callable[..., Iterable[Tag]]

# Parameters that are added to a function without a request or a response. FastAPI fills them.
_REQUEST = "tagcache_request"
_RESPONSE = "tagcache_response"
# Types of arguments that the framework creates for each request. They are not part of a key.
_OF_THE_FRAMEWORK = (HTTPConnection, Response, BackgroundTask)
# Types whose values are equal if their texts are.
_AS_IN_A_PATH = (str, int, UUID)
_LONGEST_PATH = 180


@dataclass(frozen=True, slots=True)
class Call:
    """The call of a path function for one request.

    ``injected`` is the response to which FastAPI lets dependencies and the function add headers,
    ``before`` the headers of the dependencies. ``args`` and ``kwargs`` are the function's own.
    """

    request: Request
    injected: Response | None
    before: Headers
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def added(self) -> Headers:
        """Return the headers that the function has added to ``injected``."""
        if self.injected is None:
            return ()
        return tuple(each for each in self.injected.headers.raw if each not in self.before)


class PathFunction:
    """A path function, and how its keys and tags are made. Raises BadArgument.

    ``signature`` is the function's, with a request and a response for FastAPI to inject.
    """

    def __init__(
        self, function: Callable[..., Any], key: Key, tags: Tags, ignore: Collection[str]
    ) -> None:
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise BadArgument(f"a stream cannot be cached: {function!r}")
        self._function = function
        self.is_coroutine = inspect.iscoroutinefunction(function)
        self.name = f"{function.__module__}.{function.__qualname__}"
        self._own = inspect.signature(function)
        self.signature = _with_injected(function)
        unknown = sorted(set(ignore) - self._own.parameters.keys())
        if unknown:
            raise BadArgument(f"ignore= names {unknown[0]!r}, not a parameter of {self.name}")
        self._ignored = frozenset(ignore)
        self._key = None if key is None else KeyMaker(function, key)
        self._tags = TagMaker(function, tags)

    def call_of(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call | None:
        """Return the call if the framework makes it; None if the program does."""
        own = {name: each for name, each in kwargs.items() if name not in (_REQUEST, _RESPONSE)}
        given = (*args, *kwargs.values())
        request = next((each for each in given if isinstance(each, Request)), None)
        if request is None:
            return None
        injected = next((each for each in given if isinstance(each, Response)), None)
        before = () if injected is None else tuple(injected.headers.raw)
        return Call(request, injected, before, args, own)

    async def run(self, call: Call) -> Any:
        """Return the result of the function, which runs in a thread if it is not a coroutine."""
        if self.is_coroutine:
            return await self._function(*call.args, **call.kwargs)
        return await run_in_threadpool(self._function, *call.args, **call.kwargs)

    def key(self, call: Call, vary: Iterable[str]) -> str:
        """Return the key of a call. ``vary`` names request headers. Raises BadArgument."""
        headers = [f"{name}={call.request.headers.getlist(name)}" for name in vary]
        if self._key is not None:
            return _with_digest(self._key(*call.args, **call.kwargs), headers)
        path = call.request.scope.get("root_path", "") + call.request.scope["path"]
        parts = [*self._parts(call), *headers]
        if len(path.encode("utf-8", "surrogatepass")) > _LONGEST_PATH:
            parts, path = [path, *parts], path[: _LONGEST_PATH // 4]
        return _with_digest(f"{self.name}({path})", parts)

    def _parts(self, call: Call) -> Iterator[str]:
        """Yield everything that the key depends on, except the path. Raises BadArgument."""
        known = call.request.path_params
        for name, value in self._arguments(call).items():
            if isinstance(value, Request):
                # A function that takes the request may read its host and its query.
                yield str(value.url)
            if name in self._ignored or isinstance(value, _OF_THE_FRAMEWORK):
                continue
            if name in known and type(value) in _AS_IN_A_PATH and str(value) == str(known[name]):
                # The path contains it. A dependency may have the same name, and another value.
                continue
            try:
                yield f"{name}={_text_of(_plain(value))}"
            except BadArgument:
                raise BadArgument(
                    f"no key can be made of the argument {name!r} of {self.name}, which is of type"
                    f" {type(value).__qualname__}: name it in ignore= if the response does not"
                    f" depend on it, or pass key="
                ) from None

    def _arguments(self, call: Call) -> dict[str, Any]:
        if not call.args:
            # FastAPI passes all arguments by name.
            return call.kwargs
        bound = self._own.bind(*call.args, **call.kwargs)
        bound.apply_defaults()
        # For a class-based endpoint, the instance holds the request.
        return {name: each for name, each in bound.arguments.items() if name != "self"}

    def tags(self, call: Call, result: Any) -> Iterable[Tag]:
        """Return the tags of the result of a call."""
        made = self._tags(call.args, call.kwargs)
        return made(result) if callable(made) else made


def _with_injected(function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature with a request and a response if it has none.

    Annotations given as text are resolved, because FastAPI may not look for their names in the
    function's module.
    """
    signature = inspect.signature(function)
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, AttributeError, TypeError):
        # Some names are imported for annotations only. FastAPI itself needs all of them.
        hints = {}

    def resolved(name: str, annotation: Any) -> Any:
        hint = hints.get(name, annotation) if isinstance(annotation, str) else annotation
        return None if hint is type(None) else hint

    parameters = [
        each.replace(annotation=resolved(each.name, each.annotation))
        for each in signature.parameters.values()
    ]
    has = [each.annotation for each in parameters if isinstance(each.annotation, type)]
    keyword_only = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(name, keyword_only, annotation=kind)
        for name, kind in ((_REQUEST, Request), (_RESPONSE, Response))
        if not any(issubclass(each, kind) for each in has)
    ]
    rest = [each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    return signature.replace(
        parameters=[*parameters[: len(parameters) - len(rest)], *more, *rest],
        return_annotation=resolved("return", signature.return_annotation),
    )


def _argument(value: Any) -> None:
    """A placeholder: a function of one argument, from which a key is made."""


_text_of = KeyMaker(_argument)


def _plain(value: Any) -> Any:
    """Return models and dataclasses as their type and their fields."""
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return [_plain(each) for each in value]
    if type(value) is dict:
        return {name: _plain(each) for name, each in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return [
            type(value),
            {each.name: _plain(getattr(value, each.name)) for each in fields(value)},
        ]
    if hasattr(type(value), "model_fields"):
        # A model of pydantic, which yields its fields and what was given beside them.
        return [type(value), {name: _plain(each) for name, each in value}]
    return value


def _with_digest(key: str, parts: Iterable[str]) -> str:
    """Return the key with a digest of the parts, because these may be secret."""
    listed = list(parts)
    if not listed:
        return key
    data = repr(listed).encode("utf-8", "surrogatepass")
    return f"{key}#{blake2b(data, digest_size=16).hexdigest()}"
