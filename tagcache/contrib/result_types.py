"""The type of a function's results, for serdes that load values as their type."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

from tagcache.client.requests import Requests
from tagcache.errors import BadArgument


def typed_requests(requests: Requests, function: Callable[..., Any], expected: Any) -> Requests:
    """Return the requests for the results of a function.

    With a serde that knows types, the results have the type ``expected``, or if that is None, the
    type of the function's annotation. Raises BadArgument.
    """
    if expected is None:
        if not requests.knows_types:
            return requests
        expected = _annotated(function)
    return requests.typed(expected)


def _annotated(function: Callable[..., Any]) -> Any:
    """Return the annotation of what a function, or a coroutine function, returns."""
    try:
        hints = get_type_hints(inspect.unwrap(function), include_extras=True)
    except Exception as error:
        # Evaluating annotations may raise anything.
        raise BadArgument(
            f"the annotations of {function!r} cannot be read ({error}): pass type="
        ) from error
    return hints.get("return", Any)
