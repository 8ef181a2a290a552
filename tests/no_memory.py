"""Allocations that fail: CPython's own test module does it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

import pytest


def failing_allocations() -> Any:
    """Return ``_testcapi``. Skip the module that calls if it is missing, or if CPython crashes."""
    testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its test modules")
    if _frees_code_in_use(testcapi):
        pytest.skip(
            "this CPython frees the code of a function that it has no memory for, and crashes:"
            " https://github.com/python/cpython/issues/122752",
            allow_module_level=True,
        )
    return testcapi


def _made() -> Callable[[], None]:
    return lambda: None


def _frees_code_in_use(testcapi: Any) -> bool:
    function = _made()
    assert isinstance(function, FunctionType)
    code = function.__code__
    before = sys.getrefcount(code)
    testcapi.set_nomemory(0, 1)
    try:
        _made()
    except MemoryError:
        pass
    finally:
        testcapi.remove_mem_hooks()
    lost = before - sys.getrefcount(code)
    for _ in range(lost):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(code))
    return lost > 0
