"""What ``help`` shows of the clients' methods, which are made from functions that make requests."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

_OF_REQUEST = re.compile(r"(?:Request|Batch)\[(.*)\]")


def describe(method: Callable[..., Any], make: Callable[..., Any], form: str = "{}") -> None:
    """Let a method tell what it returns: ``form``, with the result of the request in it.

    ``make`` returns the request; or it is a method that awaits the result.
    """
    signature = inspect.signature(make)
    text = str(signature.return_annotation)
    of_request = _OF_REQUEST.fullmatch(text)
    returned = form.format(of_request[1] if of_request else text)
    method.__annotations__ = {**make.__annotations__, "return": returned}
    method.__dict__["__signature__"] = signature.replace(return_annotation=returned)
