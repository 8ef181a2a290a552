"""Answer one request from the cache, or with the path function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from tagcache.client.compute_options import ComputeOptions
from tagcache.contrib.fastapi.path_function import Call, PathFunction
from tagcache.contrib.fastapi.rendering import Renderer
from tagcache.contrib.fastapi.responses import (
    StoredResponse,
    request_directives,
    sets_cookie,
    why_not_stored,
    why_personal,
    words,
)

_FIRST_OF_THE_SERVER = 500


class NotStored(Exception):
    """The response is for one request only. This exception never leaves the package."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The options of a decorator; see ResponseCache.cached. ``vary`` is in lower case."""

    options: ComputeOptions
    vary: tuple[str, ...]
    cache_control: str | None
    authenticated: bool
    refresh: bool

    def why_bypassed(self, call: Call) -> str | None:
        """Return why a request must not use the cache, or None."""
        if call.request.method != "GET":
            return "method"
        if self.refresh and "no-store" in request_directives(call.request):
            return "no-store"
        if sets_cookie(call.before):
            return "Set-Cookie"
        return None if self.authenticated else why_personal(call.request)


class Attempt:
    """One request: the call of the path function, if it is needed, and the answer.

    Attributes:
        began: whether the function was called.
        result: what the function returned.
        response: the result as a response.
        stored: the response to store, if it may be stored.
    """

    def __init__(
        self, function: PathFunction, renderer: Renderer, policy: Policy, call: Call
    ) -> None:
        self._function = function
        self._renderer = renderer
        self._policy = policy
        self._call = call
        self._refusal: HTTPException | None = None
        self._why = ""
        self.began = False
        self.result: Any = None
        self.response: Response | None = None
        self.stored: StoredResponse | None = None

    async def produce(self) -> StoredResponse:
        """Call the function. Raises NotStored, and whatever the function raises."""
        self.began = True
        call = self._call
        try:
            result = await self._function.run(call)
        except HTTPException as error:
            if error.status_code < _FIRST_OF_THE_SERVER:
                self._refusal = error
            raise
        is_whole = isinstance(result, Response)
        response = result if is_whole else await self._renderer.response(call, result)
        self.response = response
        why = why_not_stored(response, () if is_whole else call.before, self._policy.vary)
        if why is None and not self._policy.authenticated and _used_session(call.request):
            why = "session"
        if why is not None:
            self._why = why
            if not is_whole:
                response.raw_headers.extend(call.before)
            raise NotStored
        self.result = result
        self.stored = StoredResponse.of(response, is_whole)
        return self.stored

    async def produce_or_none(self) -> StoredResponse | None:
        """Call ``produce``; return None if it raises NotStored."""
        try:
            return await self.produce()
        except NotStored:
            return None

    def answer(self, found: StoredResponse | None) -> Response:
        """Return the answer; ``found`` is from the cache, or what ``produce`` returned.

        Raises the HTTPException of the function, if the client is at fault and not the server.
        """
        if self._refusal is not None:
            raise self._refusal
        made, is_stored = self.response, self.stored is not None
        # A stale response is better than an error of the server.
        is_better = made is not None and made.status_code < _FIRST_OF_THE_SERVER
        if found is None or (is_better and not is_stored):
            return self._only_for_this_request(cast(Response, made))
        status = b"fwd=miss" if is_stored else b"hit"
        response = found.response(self._call.request, self._more(found, status))
        if made is not None and is_stored:
            response.background = made.background
        return response

    def _only_for_this_request(self, response: Response) -> Response:
        if response.headers.get("cache-status") is None:
            response.headers["cache-status"] = f'tagcache; fwd=miss; detail="{self._why}"'
        return response

    def _more(self, found: StoredResponse, status: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers that are not stored."""
        names = {name for name, _ in found.headers}
        more = []
        if not found.is_whole:
            more = [each for each in self._call.before if each[0] not in names - {b"vary"}]
            names.update(name for name, _ in more)
        policy = self._policy
        if policy.cache_control is not None and b"cache-control" not in names:
            more.append((b"cache-control", policy.cache_control.encode("latin-1")))
        known = words((*found.headers, *more), b"vary")
        vary = ", ".join(name for name in policy.vary if name not in known)
        if vary:
            more.append((b"vary", vary.encode("latin-1")))
        return [*more, (b"cache-status", b"tagcache; " + status)]


def _used_session(request: Request) -> bool:
    session = request.scope.get("session")
    return bool(session) or getattr(session, "accessed", False)
