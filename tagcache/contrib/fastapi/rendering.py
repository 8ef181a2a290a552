"""Make the response that FastAPI makes from the result of a path function."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from tagcache.contrib.fastapi.path_function import Call
from tagcache.errors import BadArgument

# The place in the request's scope where ``_give`` finds the result.
_GIVEN = "tagcache.result"
_OF_THE_ROUTE = (
    *("response_model", "status_code", "response_class"),
    *("response_model_include", "response_model_exclude", "response_model_by_alias"),
    *("response_model_exclude_unset", "response_model_exclude_defaults"),
    "response_model_exclude_none",
)

Handler = Callable[[Request], Awaitable[Response]]


class Renderer:
    """Makes the response that FastAPI would make from the result of a path function.

    It creates a FastAPI route with the options of the function's own route, whose function
    returns the result.
    """

    def __init__(self, name: str, is_coroutine: bool) -> None:
        self._name = name
        self._give = _give if is_coroutine else _give_in_a_thread
        # A function may have several routes. Those of FastAPI have no hash.
        self._handlers: dict[int, tuple[Any, Handler]] = {}

    async def response(self, call: Call, result: Any) -> Response:
        """Return the response. Raises BadArgument if the route is not one of FastAPI."""
        route = _route(call.request)
        if not hasattr(route, "response_model"):
            raise BadArgument(
                f"{self._name} returned an object of type {type(result).__name__}, not a response"
            )
        found = self._handlers.get(id(route))
        if found is None:
            found = self._handlers[id(route)] = route, self._handler(route)
        status = None if call.injected is None else call.injected.status_code
        call.request.scope[_GIVEN] = (result, status)
        try:
            response = await found[1](call.request)
        finally:
            del call.request.scope[_GIVEN]
        response.raw_headers.extend(call.added())
        return response

    def _handler(self, route: Any) -> Handler:
        from fastapi.routing import APIRoute

        options = {name: getattr(route, name) for name in _OF_THE_ROUTE}
        return APIRoute("/", self._give, **options).get_route_handler()


def _route(request: Request) -> Any:
    # Recent versions of FastAPI keep the options of the including routers here.
    known = request.scope.get("fastapi")
    context = known.get("effective_route_context") if isinstance(known, dict) else None
    return context if hasattr(context, "response_model") else request.scope.get("route")


def _give_in_a_thread(request: Request, response: Response) -> Any:
    result, status = request.scope[_GIVEN]
    if status is not None:
        response.status_code = status
    return result


async def _give(request: Request, response: Response) -> Any:
    return _give_in_a_thread(request, response)
