"""Work: a generator that yields often, so that its caller can pause and continue later."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

T = TypeVar("T")


def run_to_end(work: Generator[Any, None, T]) -> T:
    """Run ``work`` to its end in one go, and return its result."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: T = end.value
            return result
