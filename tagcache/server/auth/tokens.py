"""Bearer tokens: random, with a lifetime, limited in number."""

from __future__ import annotations

import string
from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256

LENGTH = 48
MOST_TOKENS = 10_000
_ALPHABET = string.ascii_letters + string.digits


class Tokens:
    """Tokens that are valid for ``lifetime`` seconds; beyond the limit the oldest is removed.

    Only digests are stored, so that the timing of a look-up reveals nothing about a token.
    """

    def __init__(
        self,
        lifetime: float,
        monotonic: Callable[[], float],
        choose: Callable[[Sequence[str]], str],
    ) -> None:
        self.lifetime = lifetime
        self._monotonic = monotonic
        self._choose = choose
        self._expiry: OrderedDict[bytes, float] = OrderedDict()

    def issue(self) -> str:
        """Return a new token."""
        token = "".join(self._choose(_ALPHABET) for _ in range(LENGTH))
        self._expiry[_digest(token.encode())] = self._monotonic() + self.lifetime
        if len(self._expiry) > MOST_TOKENS:
            self._expiry.popitem(last=False)
        return token

    def is_valid(self, token: bytes) -> bool:
        """Return whether the token was issued, and neither expired nor revoked."""
        digest = _digest(token)
        expiry = self._expiry.get(digest)
        if expiry is None:
            return False
        if expiry > self._monotonic():
            return True
        del self._expiry[digest]
        return False

    def expiry(self, token: bytes) -> float:
        """Return when a token expires, in seconds of the monotonic clock; 0.0 if unknown."""
        return self._expiry.get(_digest(token), 0.0)

    def revoke_all(self) -> None:
        """Make every token invalid."""
        self._expiry.clear()


def _digest(token: bytes) -> bytes:
    return sha256(token).digest()
