"""Stored passwords: scrypt hashes, or plain text until the file is next rewritten."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from hmac import compare_digest

PREFIX = "scrypt$"
# About 50 ms and 16 MiB on a current core. The parameters are stored with the hash.
_COST, _BLOCK, _PARALLEL = 2**14, 8, 1
_MAX_MEMORY = 256 * 2**20


def hash_password(password: str, random_bytes: Callable[[int], bytes]) -> str:
    """Return the hash to store. It takes tens of milliseconds of CPU time."""
    salt = random_bytes(16)
    derived = _derive(password.encode(), salt, _COST, _BLOCK, _PARALLEL)
    parts = (str(_COST), str(_BLOCK), str(_PARALLEL), _text(salt), _text(derived))
    return PREFIX + "$".join(parts)


def is_hash(stored: str) -> bool:
    """Return whether ``stored`` is a hash, not a plain password."""
    return stored.startswith(PREFIX)


def check_hash(stored: str) -> None:
    """Raise ValueError if a stored hash cannot be used."""
    _parse(stored)


def matches(stored: str, password: bytes) -> bool:
    """Return whether ``password`` is the stored one. If that is a hash, this is slow by design."""
    if not is_hash(stored):
        return compare_digest(stored.encode(), password)
    salt, derived, cost, block, parallel = _parse(stored)
    return compare_digest(_derive(password, salt, cost, block, parallel), derived)


def _derive(password: bytes, salt: bytes, cost: int, block: int, parallel: int) -> bytes:
    return hashlib.scrypt(
        password, salt=salt, n=cost, r=block, p=parallel, maxmem=_MAX_MEMORY, dklen=32
    )


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _parse(stored: str) -> tuple[bytes, bytes, int, int, int]:
    try:
        cost, block, parallel, salt, derived = stored.removeprefix(PREFIX).split("$")
        numbers = int(cost), int(block), int(parallel)
        data = [base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in (salt, derived)]
    except (ValueError, binascii.Error):
        raise ValueError("is not a scrypt hash of the form scrypt$N$r$p$salt$hash") from None
    n, r, p = numbers
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or 128 * n * r * p > _MAX_MEMORY or not data[1]:
        raise ValueError("is a scrypt hash with parameters that cannot be used")
    return data[0], data[1], *numbers
