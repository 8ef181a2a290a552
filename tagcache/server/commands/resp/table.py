"""The rows of the table of RESP commands, and the interface of their caller."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

from twisted.internet.defer import Deferred

from tagcache.errors import (
    AuthenticationRequired,
    CommandError,
    IntegerOverflow,
    NotAnInteger,
    OutOfMemory,
)
from tagcache.model.fetched import Fetched
from tagcache.model.interfaces import IEngine, ISession
from tagcache.server.commands.table import Reply
from tagcache.server.then import then, together
from tagcache.wire import resp

T = TypeVar("T")


class RedisError(CommandError):
    """A request of a Redis client that cannot be executed.

    ``text`` is the reply; its first word is Redis's prefix for this kind of error.
    """

    def __init__(self, text: str, code: str = "bad_request") -> None:
        super().__init__(text)
        self.code = code


# The longest list of values; a longer one would block other clients while it is written.
MOST_ANSWER_BYTES = 64 * 2**20
# The most arguments of a request; and of a request without a list of keys, values or tags.
MAX_ARGUMENTS = 128 * 1024
_FEW_ARGUMENTS = 64
_MOST_SHOWN_BYTES = 128
SYNTAX_ERROR = "ERR syntax error"
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
# Errors that Redis has as well, in the words of Redis.
_IN_REDIS: dict[type[CommandError], str] = {
    NotAnInteger: NOT_AN_INTEGER,
    IntegerOverflow: "ERR increment or decrement would overflow",
    OutOfMemory: "OOM command not allowed when used memory > 'maxmemory'.",
    AuthenticationRequired: "NOAUTH Authentication required.",
}


def error_reply(error: CommandError) -> bytes:
    """Return the reply to a request that failed.

    It is in the words of Redis. For an error that Redis does not have, it is ``ERR``, the code of
    the error, and the detail.
    """
    if isinstance(error, RedisError):
        return resp.error(str(error))
    text = _IN_REDIS.get(type(error))
    if text is None:
        detail = str(error)
        text = f"ERR {error.code}" + (f": {detail}" if detail != error.code else "")
    return resp.error(text)


def shown(text: bytes) -> str:
    """Return the beginning of an argument for an error message."""
    return text[:_MOST_SHOWN_BYTES].decode("utf-8", "replace")


class Caller(Protocol):
    """The connection that sends a command, or the transaction that contains it."""

    @property
    def session(self) -> ISession:
        """The client's session, which accesses the entries."""

    @property
    def engine(self) -> IEngine:
        """The engine that keeps the entries."""

    def fetch(self, key: bytes, lease_ms: int, wait_ms: int) -> Fetched | Deferred[Fetched]:
        """Look up a key, or take its lease; wait while another client has it."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since 1970."""

    @property
    def resp(self) -> int:
        """The version of the protocol in which replies are written: 2 or 3."""

    def run_work(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run work over many entries to its end; return the result, or a Deferred of it."""

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Record that a command removed ``count`` entries by these keys or tags."""


class Keys(NamedTuple):
    """Where the keys of a command are among its arguments, as in COMMAND INFO.

    ``last`` counts from the end if it is negative. All zero: it has no keys.
    """

    first: int
    last: int
    step: int

    def of(self, arguments: Sequence[bytes]) -> Sequence[bytes]:
        """Return the keys in a request."""
        if not self.first:
            return ()
        end = self.last + 1 if self.last >= 0 else len(arguments) + self.last + 1
        return arguments[self.first : end : self.step]


class ScriptKeys(Keys):
    """The keys of EVAL and EVALSHA; the argument before them is their number."""

    __slots__ = ()

    def of(self, arguments: Sequence[bytes]) -> Sequence[bytes]:
        number = arguments[2]
        return arguments[3 : 3 + int(number)] if number.isdigit() and len(number) < 10 else ()


NO_KEYS = Keys(0, 0, 0)
ONE_KEY = Keys(1, 1, 1)
ALL_KEYS = Keys(1, -1, 1)

# A caller is Any here, because commands of the connection need more than a Caller.
RespFunction: TypeAlias = Callable[[Any, list[bytes]], Reply]


@dataclass(frozen=True, slots=True)
class RespCommand:
    """One row of the table.

    Attributes:
        verb: the name in upper case.
        arity: the number of arguments, including the verb; if negative, the minimum.
        run: takes a caller and the arguments, the verb first; returns the reply. Raises
            CommandError.
        keys: where its keys are.
        writes: whether it may change entries.
        transaction: whether it may be queued by MULTI.
        refused: whether the command is not supported, and ``run`` names an alternative.
        summary: what it does, for COMMAND DOCS.
        alone: whether it waits for earlier commands of the client even if it has one key,
            because it bypasses the session, which keeps their order.
        most: the largest number of arguments, including the verb.
    """

    verb: bytes
    arity: int
    run: RespFunction
    keys: Keys = NO_KEYS
    writes: bool = False
    transaction: bool = True
    refused: bool = False
    summary: str = ""
    alone: bool = False
    most: int = _FEW_ARGUMENTS


def outside_transactions(verb: bytes, arity: int, run: RespFunction, summary: str) -> RespCommand:
    """Return the row of a command without keys that MULTI does not queue."""
    return RespCommand(verb, arity, run, transaction=False, summary=summary)


def for_each(
    caller: Caller, items: Collection[bytes], call: Callable[[bytes], T | Deferred[T]]
) -> list[T] | Deferred[list[T]]:
    """Return the results of ``call`` for each of the items, in slices if there are many."""

    def work() -> Generator[None, None, list[T | Deferred[T]]]:
        results: list[T | Deferred[T]] = []
        for item in items:
            results.append(call(item))
            yield
        return results

    return then(caller.run_work(work()), together)
