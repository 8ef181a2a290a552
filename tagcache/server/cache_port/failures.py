"""Turn the exception of a failed command into a reply and a log line."""

from __future__ import annotations

from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.errors import CommandError, InternalError, OutOfMemory
from tagcache.server.net.connections import Connection

_OUT_OF_MEMORY = OutOfMemory("the system gives the server no more memory")
_INTERNAL_ERROR = InternalError("the command failed; the log of the server says why")

log = Logger(namespace="tagcache.protocol")


def answer_to(
    error: BaseException | None, failure: Failure | None, connection: Connection
) -> CommandError:
    """Return the error to reply with; log an unexpected one.

    ``failure`` holds ``error`` with its traceback; None while ``error`` is being handled.
    """
    if isinstance(error, CommandError):
        return error
    if isinstance(error, MemoryError):
        return _OUT_OF_MEMORY
    log.failure(
        "{listener}: {verb} from {peer} failed",
        failure,
        listener=connection.listener,
        verb=connection.last_verb,
        peer=connection.peer,
    )
    return _INTERNAL_ERROR
