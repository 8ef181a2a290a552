"""Read the arguments of Redis clients as Redis does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, DecimalException

from tagcache.model import int64
from tagcache.model.drafts import Draft
from tagcache.server.commands.resp.table import NOT_AN_INTEGER, SYNTAX_ERROR, RedisError

# Redis accepts an integer in its shortest form only.
_INTEGER = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_MOST_FLOAT_BYTES = 40
# The longest time to live; the deadline is a 64-bit integer, too, for more than a hundred years.
_MOST_MS = int64.MAX - 2**42


def integer(text: bytes, error: str = NOT_AN_INTEGER) -> int:
    """Read a signed 64-bit integer. Raises RedisError with ``error``."""
    number = int(text) if _INTEGER.fullmatch(text) else None
    if number is None or not int64.MIN <= number <= int64.MAX:
        raise RedisError(error)
    return number


def natural(text: bytes, error: str = "ERR value is out of range, must be positive") -> int:
    """Read an integer that is not negative. Raises RedisError with ``error``."""
    number = integer(text)
    if number < 0:
        raise RedisError(error)
    return number


def decimal(text: bytes, error: str = "ERR value is not a valid float") -> Decimal:
    """Read a decimal number. Raises RedisError with ``error``."""
    try:
        number = Decimal(text.decode("ascii")) if len(text) <= _MOST_FLOAT_BYTES else None
    except (UnicodeDecodeError, DecimalException):
        number = None
    if number is None or number.is_nan() or text.strip() != text or b"_" in text:
        raise RedisError(error)
    return number


class Expiry:
    """When an entry expires, as given in a request.

    ``at_ms`` is milliseconds since 1970, ``in_ms`` milliseconds from now; one of them is None.
    """

    __slots__ = ("at_ms", "in_ms")

    def __init__(self, text: bytes, unit_ms: int, absolute: bool, verb: str) -> None:
        """Read ``text``, a number of ``unit_ms`` milliseconds. Raises RedisError."""
        number = integer(text) * unit_ms
        if not int64.MIN <= number <= (int64.MAX if absolute else _MOST_MS):
            raise RedisError(f"ERR invalid expire time in '{verb}' command")
        self.at_ms = number if absolute else None
        self.in_ms = None if absolute else number

    def check_positive(self, verb: str) -> Expiry:
        """Return this expiry. Raises RedisError if it is 0 or less."""
        if (self.in_ms if self.at_ms is None else self.at_ms) <= 0:  # type: ignore[operator]
            raise RedisError(f"ERR invalid expire time in '{verb}' command")
        return self

    def on(self, draft: Draft) -> int:
        """Return the deadline in milliseconds since 1970 by the clock of the engine."""
        return draft.now_ms + (self.in_ms or 0) if self.at_ms is None else self.at_ms


# The options of SET and GETEX: the unit in milliseconds, and whether the number is a point in time.
EXPIRY_OPTIONS = {
    b"EX": (1000, False),
    b"PX": (1, False),
    b"EXAT": (1000, True),
    b"PXAT": (1, True),
}


# The options that give a time from now, as most clients write them: their units in milliseconds.
RELATIVE = {b"EX": 1000, b"PX": 1, b"ex": 1000, b"px": 1}


def time_to_live(word: bytes, text: bytes, verb: str) -> int:
    """Return the milliseconds that a word of RELATIVE and its number give. Raises RedisError.

    This is a fast path for stores without other options; it takes a fraction of Options' time.
    """
    in_ms = integer(text) * RELATIVE[word]
    if not 0 < in_ms <= _MOST_MS:
        raise RedisError(f"ERR invalid expire time in '{verb}' command")
    return in_ms


class Options:
    """The options at the end of a request: words, some with a value.

    ``given`` holds each word, in upper case, with its value or True.
    """

    def __init__(
        self, arguments: Sequence[bytes], words: frozenset[bytes], with_value: frozenset[bytes]
    ) -> None:
        """Read the options; if a word is repeated, the last value counts.

        Raises RedisError for an unknown word or a missing value.
        """
        self.given: dict[bytes, bytes | bool] = {}
        at = 0
        while at < len(arguments):
            word = arguments[at].upper()
            if word in words:
                self.given[word] = True
            elif word in with_value and at + 1 < len(arguments):
                at += 1
                self.given[word] = arguments[at]
            else:
                raise RedisError(SYNTAX_ERROR)
            at += 1

    def __contains__(self, word: bytes) -> bool:
        return word in self.given

    def value(self, word: bytes) -> bytes | None:
        """Return the value of a word, or None if it was not given."""
        value = self.given.get(word)
        return value if isinstance(value, bytes) else None

    def at_most_one(self, *words: bytes) -> None:
        """Raise RedisError if more than one of these was given."""
        if sum(word in self.given for word in words) > 1:
            raise RedisError(SYNTAX_ERROR)

    def expiry(self, verb: str) -> Expiry | None:
        """Return the expiry that EX, PX, EXAT or PXAT gives. Raises RedisError."""
        self.at_most_one(*EXPIRY_OPTIONS, b"KEEPTTL", b"PERSIST")
        for word, (unit_ms, absolute) in EXPIRY_OPTIONS.items():
            text = self.value(word)
            if text is not None:
                return Expiry(text, unit_ms, absolute, verb).check_positive(verb)
        return None
