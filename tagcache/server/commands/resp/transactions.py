"""MULTI and EXEC: commands that are queued, and executed atomically."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar, cast

from tagcache.errors import AnswerTooLarge, CommandError, NotInTransaction
from tagcache.model.admission import check_lengths
from tagcache.model.interfaces import IEngine, ISession, Versions
from tagcache.model.work import run_to_end
from tagcache.server.commands.resp.table import (
    ALL_KEYS,
    MAX_ARGUMENTS,
    MOST_ANSWER_BYTES,
    RedisError,
    RespCommand,
    error_reply,
)
from tagcache.server.commands.table import Reply
from tagcache.server.net.inbox import OBJECT_BYTES
from tagcache.server.then import then
from tagcache.wire import resp

if TYPE_CHECKING:
    from tagcache.server.resp.caller import RespCaller

T = TypeVar("T")

# A transaction blocks all other clients until it is done.
MOST_QUEUED = 10_000
MOST_QUEUED_ARGUMENTS = 100_000
MOST_WATCHED = 1000
_TOO_LARGE = f"the answers of a transaction have more than {MOST_ANSWER_BYTES} bytes"
_SHORT = 1024
# The approximate memory of a watched key, without the key itself.
_VERSION_BYTES = 300


class Transaction:
    """What a client has queued since MULTI.

    Attributes:
        queued: the commands, each with its arguments.
        count: the number of all their arguments.
        held_bytes: the approximate memory of ``queued``.
        refused: whether a command could not be queued, so that EXEC will execute nothing.
    """

    __slots__ = ("count", "held_bytes", "queued", "refused")

    def __init__(self) -> None:
        self.queued: list[tuple[RespCommand, list[bytes]]] = []
        self.count = 0
        self.held_bytes = 0
        self.refused = False

    def queue(self, command: RespCommand, arguments: list[bytes]) -> bytes:
        """Add a command, and return the reply ``QUEUED``. Raises RedisError."""
        if not command.transaction:
            raise RedisError("ERR Command not allowed inside a transaction")
        if len(self.queued) >= MOST_QUEUED:
            raise RedisError(f"ERR a transaction has {MOST_QUEUED} commands at most")
        if self.count + len(arguments) > MOST_QUEUED_ARGUMENTS:
            raise RedisError(f"ERR a transaction has {MOST_QUEUED_ARGUMENTS} arguments at most")
        self.count += len(arguments)
        self.queued.append((command, arguments))
        self.held_bytes += sum(map(len, arguments)) + (len(arguments) + 2) * OBJECT_BYTES
        return resp.QUEUED

    def keys(self) -> set[bytes]:
        """Return the keys of all commands."""
        return {key for row, arguments in self.queued for key in row.keys.of(arguments)}


class _Executor:
    """The Caller of the commands of a transaction; their results are never Deferreds."""

    def __init__(self, caller: RespCaller, session: ISession, engine: IEngine) -> None:
        self.session = session
        self.engine = engine
        self.resp = caller.resp
        self.now_ms = caller.now_ms
        self._caller = caller
        self._size = 0

    def run_work(self, work: Generator[None, None, T]) -> T:
        return run_to_end(work)

    def invalidated(self, verb: bytes, names: Sequence[bytes], count: int) -> None:
        self._caller.invalidated(verb, names, count)

    def fetch(self, key: bytes, lease_ms: int, wait_ms: int) -> NoReturn:
        raise NotInTransaction

    def forget_watched(self) -> None:
        """Do nothing: EXEC records the invalidations."""

    def execute(self, command: RespCommand, arguments: list[bytes]) -> bytes:
        """Return the reply to a command; an error does not end the transaction."""
        try:
            reply = cast(bytes, command.run(self, arguments))
            if len(reply) > _SHORT and self._size + len(reply) > MOST_ANSWER_BYTES:
                raise AnswerTooLarge(_TOO_LARGE)
        except CommandError as error:
            return error_reply(error)
        self._size += len(reply)
        return reply


def multi(caller: RespCaller, arguments: list[bytes]) -> Reply:
    if caller.transaction is not None:
        raise RedisError("ERR MULTI calls can not be nested")
    caller.transaction = Transaction()
    return resp.OK


def execute(caller: RespCaller, arguments: list[bytes]) -> Reply:
    transaction, watched = caller.transaction, caller.watched
    if transaction is None:
        raise RedisError("ERR EXEC without MULTI")
    caller.transaction = None
    caller.forget_watched()
    if transaction.refused:
        raise RedisError(
            "EXECABORT Transaction discarded because of previous errors.", "exec_abort"
        )

    def run(session: ISession, engine: IEngine) -> bytes:
        executor = _Executor(caller, session, engine)
        return resp.array([executor.execute(*each) for each in transaction.queued])

    done = caller.session.transact(watched, transaction.keys(), run)
    return then(done, lambda reply: resp.null_array(caller.resp) if reply is None else reply)


def discard(caller: RespCaller, arguments: list[bytes]) -> Reply:
    if caller.transaction is None:
        raise RedisError("ERR DISCARD without MULTI")
    caller.transaction = None
    caller.forget_watched()
    return resp.OK


def watch(caller: RespCaller, arguments: list[bytes]) -> Reply:
    if caller.transaction is not None:
        raise RedisError("ERR WATCH inside MULTI is not allowed")
    new = {key for key in arguments[1:] if key not in caller.watched}
    if len(caller.watched) + len(new) > MOST_WATCHED:
        raise RedisError(f"ERR a client watches {MOST_WATCHED} keys at most")

    for key in new:
        check_lengths(caller.engine.limits, key, b"")

    def note(versions: Versions) -> bytes:
        caller.watched = {**caller.watched, **versions}
        caller.watched_bytes += sum(map(len, versions)) + len(versions) * _VERSION_BYTES
        return resp.OK

    return then(caller.session.versions(new), note)


def unwatch(caller: RespCaller, arguments: list[bytes]) -> Reply:
    caller.forget_watched()
    return resp.OK


# These are executed at once, even after MULTI.
IMMEDIATE = frozenset((b"MULTI", b"EXEC", b"DISCARD", b"WATCH", b"QUIT", b"RESET"))

TRANSACTION_COMMANDS = (
    RespCommand(b"MULTI", 1, multi, transaction=False, summary="start to queue commands"),
    RespCommand(b"EXEC", 1, execute, transaction=False, summary="execute the queued commands"),
    RespCommand(b"DISCARD", 1, discard, transaction=False, summary="discard the queued commands"),
    RespCommand(
        b"WATCH",
        -2,
        watch,
        ALL_KEYS,
        transaction=False,
        summary="let EXEC fail on a change",
        most=MAX_ARGUMENTS,
    ),
    RespCommand(b"UNWATCH", 1, unwatch, summary="watch no key"),
)
