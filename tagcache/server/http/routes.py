"""Which request leads to which endpoint: declared once, for routing and for describing it."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred

from tagcache.server.http.fields import Field
from tagcache.server.http.messages import Call, Response


class Access(enum.Enum):
    """Who may call an endpoint."""

    AUTHENTICATED = "whoever has authenticated"
    OPEN = "everyone"
    LOOPBACK_OPEN = "everyone on this machine, else whoever has authenticated"


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. ``path`` ends in ``/{key}`` where it takes a key.

    ``body`` is None where no body is read, else its fields; ``answer`` is the JSON Schema of a
    200, None where that is not JSON. A Deferred answers later. ``lookup`` is there where a key is
    all it takes: it returns the body of a 200 at once, and raises nothing.
    """

    method: str
    path: str
    endpoint: Callable[[Call], Response | Deferred[Response]]
    about: str
    answer: dict[str, Any] | None
    body: Sequence[Field] | None = None
    query: Sequence[Field] = ()
    access: Access = Access.AUTHENTICATED
    content_type: str = "application/json"
    statuses: Sequence[int] = ()
    lookup: Callable[[bytes], bytes] | None = None
    # As it is counted.
    label: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", f"{self.method} {self.path}")

    @property
    def takes_key(self) -> bool:
        """Whether the path ends in a key."""
        return self.path.endswith("/{key}")


class Routes:
    """Finds the endpoint for a method and a raw path.

    ``lookups`` are the GETs that can be answered by a look-up, by their path without ``/{key}``.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.all = tuple(routes)
        self._exact: dict[bytes, dict[bytes, Route]] = {}
        self._with_key: dict[bytes, dict[bytes, Route]] = {}
        # By the path before the slash.
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
