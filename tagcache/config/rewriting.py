"""Change values in a configuration file, and nothing else in it."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

from configobj import ConfigObj, ConfigObjError

from tagcache.config.passwords import hash_password, is_hash
from tagcache.errors import ConfigurationError


def rewrite(path: Path, changes: Mapping[tuple[str, str], str | list[str] | None]) -> None:
    """Set each (section, key) to its value, or remove it if the value is None.

    Comments and order stay. Afterwards only the owner can read the file. The change is atomic: a
    new file is written, synced and renamed into place. A plain password is replaced by its hash. A
    missing file is created, with its parent folders. Raises ConfigurationError if that fails.
    """
    try:
        text = path.read_text(encoding="utf-8-sig") if path.exists() else ""
        config = ConfigObj(text.splitlines(), interpolation=False, raise_errors=True)
        for (section, key), value in changes.items():
            if value is None:
                config.get(section, {}).pop(key, None)
            else:
                config.setdefault(section, {})[key] = value
        _hash_password(config)
        _space_comments(config)
        _replace(path, "\n".join(config.write()) + "\n")
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be written: {error.strerror}"]) from None
    except (ConfigObjError, UnicodeDecodeError):
        raise ConfigurationError(str(path), ["cannot be read, and was not changed"]) from None


def _hash_password(config: ConfigObj) -> None:
    """Replace a plain password by its hash."""
    plain = config.get("authentication", {}).get("password")
    if isinstance(plain, str) and plain and not is_hash(plain):
        config["authentication"]["password"] = hash_password(plain, secrets.token_bytes)


def _space_comments(config: ConfigObj) -> None:
    """Keep the blank before a comment that follows a value, which ConfigObj.write would drop."""
    for section in (config, *(config[name] for name in config.sections)):
        for name, comment in section.inline_comments.items():
            if comment:
                section.inline_comments[name] = comment.removeprefix("#").strip()


def _replace(path: Path, text: str) -> None:
    target = path.resolve()  # A symbolic link must stay one.
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            _keep_owner(target, file.fileno())
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _keep_owner(target: Path, descriptor: int) -> None:
    """Give the new file, which mkstemp created for this process's user, the old file's owner."""
    with contextlib.suppress(OSError):
        status = target.stat()
        os.fchown(descriptor, status.st_uid, status.st_gid)
