"""The table of commands: its rows, and the functions that a client can call."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, TypeVar

from tagcache.model.fetched import Fetched
from tagcache.model.interfaces import IEngine, ISession
from tagcache.wire import line as wire

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred

_AUTH_REQUIRED = wire.error("auth_required")

T = TypeVar("T")

Reply: TypeAlias = "bytes | Deferred[bytes]"


class Caller(Protocol):
    """The connection that sends a command: its session, and the server behind it."""

    @property
    def session(self) -> ISession:
        """The client's session, which accesses the entries."""

    @property
    def engine(self) -> IEngine:
        """The engine that keeps the entries."""

    def fetch(self, key: bytes, lease_ms: int, wait_ms: int) -> Fetched | Deferred[Fetched]:
        """Look up a key, or take its lease; wait while another client has it."""

    def select(self, database: int) -> None:
        """Use another database from the next request on. Raises InvalidDatabase."""

    def run_work(self, work: Generator[None, None, T]) -> T | Deferred[T]:
        """Run work over many entries to its end; return the result, or a Deferred of it."""

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        """Record that a command removed ``count`` entries by these keys or tags."""

    def left_out(self, count: int) -> None:
        """Record that a list left out ``count`` keys that the line protocol cannot express."""


# A caller is Any here, because administrative commands also need a connection.
Function: TypeAlias = Callable[[Any, list[bytes]], Reply]


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    Attributes:
        run: takes a caller and the fields of the request, the verb first; raises CommandError for
            fields that it cannot use.
        form: the fields after the verb, for the documentation, with a blank for each TAB.
        replies: the replies other than errors, separated by commas.
        about: what it does, in a sentence.
        one_key: whether it concerns one key. The engine keeps the order of such commands, so
            several of one client may be in progress.
    """

    verb: bytes
    run: Function
    form: str
    replies: str
    about: str
    one_key: bool = False


class Disconnect(Exception):
    """Raised by a command after which the connection is closed; carries its reply."""

    def __init__(self, reply: bytes) -> None:
        super().__init__(reply)
        self.reply = reply


class Verbs(NamedTuple):
    """The commands that a client may use.

    Attributes:
        commands: each verb, in upper and in lower case, with its function.
        otherwise: the function for every other verb.
        one_key: the verbs, in upper case, of the commands that concern one key.
        admitted: whether the client may use more than AUTH.
    """

    commands: Mapping[bytes, Function]
    otherwise: Function
    one_key: frozenset[bytes] = frozenset()
    admitted: bool = True


class CommandTable:
    """All commands, and those for a client that has not authenticated yet; ``rows`` are all."""

    def __init__(self, commands: Iterable[Command]) -> None:
        self.rows = rows = tuple(commands)
        one_key = frozenset(row.verb for row in rows if row.one_key)
        self.everything = Verbs(_both_cases(rows), _unknown, one_key)
        auth = [row for row in rows if row.verb == b"AUTH"]
        self.only_auth = Verbs(_both_cases(auth), _not_authenticated, admitted=False)


def _both_cases(rows: Iterable[Command]) -> dict[bytes, Function]:
    table: dict[bytes, Function] = {}
    for row in rows:
        table[row.verb] = table[row.verb.lower()] = row.run
    return table


def _unknown(caller: Caller, fields: list[bytes]) -> bytes:
    return wire.UNKNOWN_COMMAND


def _not_authenticated(caller: Caller, fields: list[bytes]) -> bytes:
    return _AUTH_REQUIRED
