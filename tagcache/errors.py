"""Every exception that TagCache raises on purpose; each docstring says whose fault it is."""

from __future__ import annotations

from collections.abc import Sequence


class TagCacheError(Exception):
    """The base of all exceptions here; never raised itself."""


class CommandError(TagCacheError):
    """A command could not be executed, and changed nothing: the client's fault.

    ``code`` (str) is what the line protocol sends after ``ERR``; ``str(error)`` says in a
    sentence what was wrong.
    """

    code = "bad_request"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.code)


class KeyTooLong(CommandError):
    """The key has more bytes than ``cache.max_key_length``."""

    code = "key_too_long"


class ValueTooLarge(CommandError):
    """The value has more bytes than ``cache.max_value_length``."""

    code = "value_too_large"


class TooManyTags(CommandError):
    """The entry carries more tags than ``cache.max_tags_per_entry``."""

    code = "too_many_tags"


class TagTooLong(CommandError):
    """A tag has more bytes than ``cache.max_tag_length``."""

    code = "tag_too_long"


class OutOfMemory(CommandError):
    """There is no room for the entry within ``cache.max_memory``, or in the process: the operator's
    fault."""

    code = "out_of_memory"


class BackendUnavailable(CommandError):
    """The distributed engine cannot be reached, or did not answer in time: the operator's fault.

    If it did not answer, the command may have been executed.
    """

    code = "backend_unavailable"


class NotAnInteger(CommandError):
    """The stored value is not a decimal 64-bit integer, so it cannot be counted up or down."""

    code = "value is not an integer"


class IntegerOverflow(CommandError):
    """The result would not fit into a signed 64-bit integer."""

    code = "integer overflow"


class CrossPartition(CommandError):
    """Entries that must change together are in different partitions: the fault of the operator,
    who chose the engine, or of the client."""

    code = "cross_partition"

    def __init__(self) -> None:
        super().__init__(
            "the entries are in different partitions of the Redis engine, so they cannot be "
            "changed atomically"
        )


class NotInTransaction(CommandError):
    """The engine cannot do this in a transaction: the client's fault."""

    code = "not_in_transaction"

    def __init__(self) -> None:
        super().__init__("this cannot be done in a transaction with the Redis engine")


class NotSupportedByBackend(CommandError):
    """The engine cannot do this: the client's fault, or the operator's, who chose the engine."""

    code = "not_supported_by_backend"

    def __init__(self) -> None:
        super().__init__(
            "the Redis engine has no leases, no grace and no soft invalidations yet; the memory "
            "engine has"
        )


class AnswerTooLarge(CommandError):
    """The answer would have more bytes than the server returns for one request."""

    code = "answer_too_large"


class InternalError(CommandError):
    """The server met an unexpected error, and logged it: our bug."""

    code = "internal_error"


class RateLimited(CommandError):
    """The client's address sends more requests than ``security.rate_limit_per_minute``: the
    client's fault."""

    code = "rate_limited"


class AuthenticationRequired(CommandError):
    """The client must authenticate first: the client's fault."""

    code = "auth_required"


class InvalidArgument(CommandError):
    """A field of a request is missing or cannot be read; ``code`` names which."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


class InvalidDatabase(CommandError):
    """No database has this number: the client's fault, or ``cache.databases`` is too small."""

    code = "invalid_db"

    def __init__(self, number: int, count: int) -> None:
        super().__init__(f"there is no database {number}: cache.databases is {count}")


class BrokenSnapshot(TagCacheError):
    """A snapshot is damaged or not a snapshot: the fault of the disk or the operator.

    ``str(error)`` says what is wrong with it.
    """


class PersistenceError(TagCacheError):
    """The snapshot cannot be locked or renamed: another server uses it, or the disk failed."""


class LineTooLong(TagCacheError):
    """A request line is longer than any legal request: the client's fault.

    ``lines`` (list of bytes) are the complete requests that came before it.
    """

    def __init__(self, lines: list[bytes]) -> None:
        super().__init__("line_too_long")
        self.lines = lines


class MalformedRequest(TagCacheError):
    """A request in RESP breaks the protocol or is larger than any legal one: the client's fault.

    ``requests`` (list of lists of bytes) are the complete requests that came before it;
    ``str(error)`` is the message to the client, in the words of Redis.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"Protocol error: {reason}")
        self.requests: list[list[bytes]] = []


class ConfigurationError(TagCacheError):
    """The configuration cannot be used: the operator's fault.

    ``faults`` (sequence of str) has one sentence for each fault; ``str(error)`` lists all of
    them, one per line, below a line that names the source.
    """

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        self.source = source
        self.faults = tuple(faults)
        lines = [f"tagcache: the configuration cannot be used ({source}):"]
        lines += [f"  - {fault}" for fault in self.faults]
        super().__init__("\n".join(lines))


class CredentialsFixed(TagCacheError):
    """The credentials cannot be changed: the environment sets them, or someone else just did."""


class ListenError(TagCacheError):
    """A port could not be opened: the operator's fault, or another process uses it."""


class ClientError(TagCacheError):
    """The base of all exceptions of the clients; never raised itself."""


class Unavailable(ClientError):
    """The cache cannot be reached or does not answer: the network's or the operator's fault.

    With ``ignore_exc`` it counts as a miss, like a value that cannot be decoded.
    """


class ConnectionFailed(Unavailable):
    """No connection could be made, or one broke: the network's fault, or no server is there."""


class CircuitOpen(ConnectionFailed):
    """Nothing was sent: the server failed a moment ago and is considered unavailable; see ``state``
    of the client. ``str(error)`` says for how long, when the next attempt is, and how it failed."""


class TimedOut(Unavailable, TimeoutError):
    """The server did not accept or answer in time; the connection is closed, because its state
    is unknown. The command may have been executed."""


class PoolExhausted(Unavailable):
    """No connection of the pool became free within ``pool_timeout`` seconds: ``pool_size`` is too
    small for the concurrency of the program, or the server is slow. Callers wait in order."""


class AuthenticationFailed(ClientError):
    """The server rejects the user and password, or requires them: the configuration's fault."""


class Refused(ClientError):
    """The server refused the request and changed nothing: the request's fault, or a limit's.

    ``code`` (str) is an error word of docs/protocol.md, for instance ``value_too_large``;
    ``str(error)`` has the detail as well, if the server sent one.
    """

    def __init__(self, code: str, detail: str = "") -> None:
        self.code = code
        super().__init__(f"the server said: {code}" + (f": {detail}" if detail else ""))


class BadArgument(ClientError, ValueError):
    """An argument or option cannot be used, and nothing was sent: the caller's fault."""


class CannotDecode(ClientError):
    """The stored value was not written by this client's ``serde``: the fault of the program that
    stored it, or of an option that differs between the two."""


class UnexpectedReply(ClientError):
    """The reply does not follow the protocol: another kind of server, or our bug."""
