"""Map requests to endpoints; declared once for routing and the API description."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from tagcache.server.http.fields import Field
from tagcache.server.http.messages import Call, EventualResponse
from tagcache.server.http.schema import Schema

Function = TypeVar("Function", bound=Callable[..., EventualResponse])


class Access(enum.Enum):
    """Who may call an endpoint."""

    AUTHENTICATED = "authenticated clients"
    OPEN = "everyone"
    LOOPBACK_OPEN = "everyone on this machine, and authenticated clients elsewhere"


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint.

    Attributes:
        path: ends in ``/{key}`` if the endpoint takes a key.
        about: one sentence for the description of the API.
        response: the JSON Schema of a 200; None if that is not JSON.
        body: the fields of the JSON body; None if no body is read.
        query: the parameters of the query.
        statuses: the statuses that do not follow from the other attributes.
        lookup: a function that takes a key, returns the body of a 200 at once, and never
            raises; None if the endpoint needs more than a key, or more time.
        label: the name under which its requests are counted.
        needs_query: whether a request without a query is refused.
    """

    method: str
    path: str
    endpoint: Callable[[Call], EventualResponse]
    about: str
    response: Schema | None
    body: Sequence[Field] | None = None
    query: Sequence[Field] = ()
    access: Access = Access.AUTHENTICATED
    content_type: str = "application/json"
    statuses: Sequence[int] = ()
    lookup: Callable[[bytes], bytes] | None = None
    label: str = field(init=False)
    needs_query: bool = field(init=False)

    def __post_init__(self) -> None:
        needs_query = any(parameter.required for parameter in self.query)
        object.__setattr__(self, "needs_query", needs_query)
        object.__setattr__(self, "label", f"{self.method} {self.path}")

    @property
    def takes_key(self) -> bool:
        """Whether the path ends in a key."""
        return self.path.endswith("/{key}")


def route(
    method: str,
    path: str,
    response: Schema | None,
    *,
    body: Sequence[Field] | None = None,
    query: Sequence[Field] = (),
    access: Access = Access.AUTHENTICATED,
    content_type: str = "application/json",
    statuses: Sequence[int] = (),
    lookup: str = "",
) -> Callable[[Function], Function]:
    """Declare that a method of a group is an endpoint; see Route.

    The first paragraph of its docstring describes it. ``lookup`` is the name of the attribute of
    the group that is the look-up function. A method may have several routes.
    """

    def declare(function: Function) -> Function:
        about = " ".join((function.__doc__ or "").partition("\n\n")[0].split())
        declared = Route(
            method, path, function, about, response, body, query, access, content_type, statuses
        )
        function.__dict__.setdefault("routes", []).insert(0, (declared, lookup))
        return function

    return declare


def routes_of(*groups: object) -> list[Route]:
    """Return the routes that the methods of these groups declare, in the order of declaration."""
    return [
        replace(
            declared,
            endpoint=getattr(group, name),
            lookup=getattr(group, lookup) if lookup else None,
        )
        for group in groups
        for name, function in vars(type(group)).items()
        for declared, lookup in getattr(function, "routes", ())
    ]


class Routes:
    """Finds the endpoint for a method and a raw path.

    ``lookups`` has the GET routes with a look-up function, by their path without ``/{key}``.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._exact: dict[bytes, dict[bytes, Route]] = {}
        self._with_key: dict[bytes, dict[bytes, Route]] = {}
        self.lookups: dict[bytes, Route] = {}
        for route in routes:
            if route.takes_key:
                table, path = self._with_key, route.path.removesuffix("{key}")
            else:
                table, path = self._exact, route.path
            if route.lookup is not None:
                self.lookups[path.removesuffix("/").encode()] = route
            methods = table.setdefault(path.encode(), {})
            methods[route.method.encode()] = route
            if route.method == "GET":
                methods.setdefault(b"HEAD", route)

    def find(self, path: bytes) -> tuple[dict[bytes, Route] | None, bytes]:
        """Return the endpoints of a path by method, and the raw key; None for an unknown path."""
        methods = self._exact.get(path)
        if methods is not None:
            return methods, b""
        prefix, slash, key = path.rpartition(b"/")
        if not key:
            return None, b""
        return self._with_key.get(prefix + slash), key

    def route(self, method: bytes, path: bytes) -> Route | None:
        """Return the route of a request, or None."""
        methods, _ = self.find(path)
        return methods.get(method) if methods is not None else None
