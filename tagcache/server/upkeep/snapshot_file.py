"""The snapshot on disk: locked while a server uses it, and replaced atomically."""

from __future__ import annotations

import fcntl
import glob
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tagcache.errors import PersistenceError

_BUFFER_BYTES = 2**20
# Never follow a link, or reuse a file that another process created.
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


class SnapshotFile:
    """The file at ``path``, and the files beside it whose names begin with its name.

    - ``NAME.lock`` is locked by the process that uses the snapshot. The file remains.
    - ``NAME.new-PID`` is being written.
    - ``NAME.loaded`` was loaded, and is out of date.
    """

    def __init__(self, path: Path) -> None:
        # twistd may change the working directory.
        self.path = path.resolve()
        self.loaded = self._beside("loaded")
        self._lock: int | None = None

    def lock(self) -> None:
        """Lock the snapshot against other processes. Raises PersistenceError."""
        name = self._beside("lock")
        descriptor = -1
        try:
            descriptor = os.open(name, _LOCK, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise PersistenceError(
                f"another server uses {self.path}: process {holder} has locked {name}"
            ) from None
        except OSError as error:
            if descriptor >= 0:
                os.close(descriptor)
            raise PersistenceError(f"{name} cannot be locked: {error.strerror}") from None
        self._lock = descriptor

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def remove_unfinished(self) -> None:
        """Remove unfinished files of killed processes; if one still writes, it fails."""
        for unfinished in self.path.parent.glob(f"{glob.escape(self.path.name)}.new-*"):
            with suppress(OSError):
                unfinished.unlink()

    def remove_unfinished_of(self, pid: int) -> None:
        """Remove the unfinished file of a process that was killed."""
        with suppress(OSError):
            self._unfinished(pid).unlink()

    def put_aside(self, file: Path, suffix: str) -> Path:
        """Rename one of the files so that it is never loaded again.

        Returns its new path. Raises PersistenceError.
        """
        aside = self._beside(suffix)
        try:
            file.replace(aside)
            _sync_directory(aside.parent)
        except OSError as error:
            raise PersistenceError(
                f"{file} cannot be renamed to {aside.name}: {error.strerror}; remove it, or a "
                "later start might bring back entries that are removed from now on"
            ) from None
        return aside

    def write(self, write: Callable[[BinaryIO], object], may_replace: Callable[[], bool]) -> int:
        """Write a new file with ``write``, and replace the old one with it.

        The old file is replaced when the new one is complete and on disk, and only if
        ``may_replace`` then returns True. Returns the size in bytes. Raises OSError; the old file
        remains.
        """
        pid = os.getpid()
        new = self._unfinished(pid)
        # A file of this name may remain: in a container, each server may have the same process id.
        with suppress(FileNotFoundError):
            new.unlink()
        try:
            descriptor = os.open(new, _NEW, 0o600)
            with os.fdopen(descriptor, "wb", buffering=_BUFFER_BYTES) as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            if not may_replace():
                raise InterruptedError("the server has ended")
            new.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError:
            self.remove_unfinished_of(pid)
            raise
        with suppress(OSError):
            # The new file replaces the loaded one.
            self.loaded.unlink()
        return size

    def _unfinished(self, pid: int) -> Path:
        return self._beside(f"new-{pid}")

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{suffix}")


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
