"""Decide what an error reply of Redis means for the call."""

from __future__ import annotations

import re
from enum import Enum

from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from tagcache.errors import BackendUnavailable, OutOfMemory

# Redis 6.2 embeds the error of a command in a script in a sentence.
_IN_A_SENTENCE = re.compile(r"-([A-Z]+) ")
# The codes of errors that are the fault of the call, not of the server.
_OUR_FAULTS = ("ERR", "WRONGTYPE", "CROSSSLOT")
# Exceptions without a code of their own: a missing permission, or a cluster that is down.
_OF_THE_SERVER = re.compile(
    "The user executing the script|ACL failure in script|Script attempted to execute a write"
)


class Refusal(Enum):
    """Why a server did not execute a call, which may be sent again."""

    MOVED = "the partition is elsewhere"
    MOVING = "its slot is being moved"
    UNSERVED = "the server knows no server that has its slot"
    STRANGE = "the server was restarted, or another server had the partition"


def refusal_of(result: object) -> Refusal | None:
    """Return why a call was refused, without any effect; None if it was not refused."""
    if not isinstance(result, ResponseError):
        return None
    if isinstance(result, MovedError):
        return Refusal.MOVED
    if isinstance(result, AskError | TryAgainError):
        return Refusal.MOVING
    if isinstance(result, ClusterDownError) and "slot not served" in str(result):
        return Refusal.UNSERVED
    # scripts/guard.lua answers this.
    return Refusal.STRANGE if code_of(result) == "HOME" else None


def is_elsewhere(result: object) -> bool:
    """Return whether the server is no longer a primary, or its cluster cannot be used."""
    return isinstance(result, ClusterDownError | ReadOnlyError) and refusal_of(result) is None


def code_of(error: Exception) -> str:
    """Return the code of an error, such as ``READONLY``; empty if it is not one of Redis."""
    if not isinstance(error, RedisError):
        return ""
    text = str(error)
    code = error.status_code or text.partition(" ")[0]
    found = _IN_A_SENTENCE.search(text) if code in ("ERR", "Error") else None
    return found[1] if found else code


def failure_of(error: Exception) -> Exception:
    """Return the error of a call: OutOfMemory, BackendUnavailable, or ``error`` if it is a bug."""
    if not isinstance(error, RedisError):
        return error
    code = code_of(error)
    if code == "OOM":
        return OutOfMemory("the backend's memory is full")
    text = str(error)
    if code in _OUR_FAULTS and not _OF_THE_SERVER.search(text):
        return error
    return BackendUnavailable(text or type(error).__name__)
