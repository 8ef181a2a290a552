"""The two key files of the manhole: the authorized keys and the host key."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from twisted.conch.ssh.keys import BadKeyError, EncryptedKeyError, Key

from tagcache.errors import TagCacheError


class KeyFileError(TagCacheError):
    """A key file cannot be used: the operator has to correct it."""


def read_authorized_keys(path: Path) -> list[Key]:
    """Return the public keys in an authorized_keys file; there is at least one.

    Lines with options before the key are refused, because the options would have no effect.
    Raises KeyFileError.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    found = []
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith(b"#"):
            continue
        try:
            key = Key.fromString(text)
        except (BadKeyError, EncryptedKeyError, ValueError) as error:
            raise KeyFileError(
                f"{path} line {number} is not a public key (options before the key are not "
                "supported)"
            ) from error
        if not key.isPublic():
            raise KeyFileError(f"{path} line {number} is not a public key")
        found.append(key)
    if not found:
        raise KeyFileError(f"{path} holds no public key")
    return found


def check_host_key(path: Path) -> None:
    """Raise KeyFileError if the host key exists and cannot be used, or cannot be created."""
    if path.exists():
        _read(path)
    elif not path.parent.is_dir():
        raise KeyFileError(f"there is no directory {path.parent}")


def host_key(path: Path) -> Key:
    """Return the server's private key; creates it, readable by its owner only, if missing.

    Raises KeyFileError.
    """
    if path.exists():
        return _read(path)
    key = Key(Ed25519PrivateKey.generate())
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.toString("OPENSSH", subtype="v1"))
    except OSError as error:
        raise KeyFileError(f"{path} cannot be created: {error.strerror}") from None
    return key


def _read(path: Path) -> Key:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise KeyFileError(f"{path} can be read by others (mode {mode:04o}); chmod 600 it")
    try:
        key = Key.fromString(content)
    except (BadKeyError, EncryptedKeyError, ValueError) as error:
        raise KeyFileError(f"{path} is not a private key without a passphrase") from error
    if key.isPublic():
        raise KeyFileError(f"{path} is a public key; the private one is needed")
    return key
