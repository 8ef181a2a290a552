"""The signatures that ``help`` shows for methods made from functions that return requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

_OF_REQUEST = re.compile(r"(?:Request|Batch)\[(.*)\]")


def describe(method: Callable[..., Any], make: Callable[..., Any], form: str = "{}") -> None:
    """Give ``method`` the signature of ``make``; it returns ``form`` with the result type in it.

    ``make`` returns the request, or is a method that awaits the result.
    """
    signature = inspect.signature(make)
    text = str(signature.return_annotation)
    of_request = _OF_REQUEST.fullmatch(text)
    returned = form.format(of_request[1] if of_request else text)
    method.__annotations__ = {**make.__annotations__, "return": returned}
    method.__dict__["__signature__"] = signature.replace(return_annotation=returned)
