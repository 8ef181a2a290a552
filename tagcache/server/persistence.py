"""Keeps the entries over a restart: reads a snapshot at the start, and writes some."""

from __future__ import annotations

import errno
import gc
import glob
import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, succeed
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from tagcache.config.settings import Settings
from tagcache.engine import snapshot
from tagcache.errors import BrokenSnapshot, CommandError
from tagcache.interfaces import ICache

_PROGRESS_SECONDS = 2.0
_CHECK_SECONDS = 0.05

log = Logger(namespace="tagcache.persistence")


class Persistence(Service):
    """Loads ``persistence.snapshot_file`` before anybody can ask, and saves it again.

    While the server runs, a forked process writes: it sees all entries as they were at one
    moment, and nobody waits but for the fork. At the end this process writes itself. In
    either case the new file takes the place of the old one when it is complete and on the
    disk, and not before.
    """

    def __init__(
        self,
        cache: ICache,
        settings: Settings,
        reactor: Any,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._reactor = reactor
        self._wall = wall
        name = settings.persistence.snapshot_file
        # twistd may change the working directory; a link is to stay one.
        self._path = Path(name).resolve() if name else None
        self._interval = settings.persistence.snapshot_interval_seconds
        self._loop: LoopingCall | None = None
        self._child: int | None = None
        self._status = 0
        self._state: dict[str, Any] = {
            "snapshot_taken": None,
            "snapshot_seconds": None,
            "snapshot_entries": None,
            "snapshot_bytes": None,
            "snapshot_error": None,
            "loaded_entries": None,
            "loaded_seconds": None,
        }

    def configure(self, settings: Settings) -> None:
        """Take a new interval; it counts from now."""
        self._interval = settings.persistence.snapshot_interval_seconds
        if self.running:
            self._stop_loop()
            self._start_loop()

    def describe(self) -> dict[str, Any]:
        """Return how it stands, as a JSON object; times are seconds, since 1970 where taken."""
        taken = self._state["snapshot_taken"]
        return {
            "snapshot_file": str(self._path) if self._path is not None else None,
            "snapshot_age_seconds": None if taken is None else round(self._wall() - taken, 3),
            "snapshot_in_progress": self._child is not None,
            **self._state,
        }

    def load(self) -> None:
        """Read the snapshot, if there is one; a broken one is set aside and logged."""
        path = self._path
        if path is None:
            return
        started = time.monotonic()
        for unfinished in path.parent.glob(f"{glob.escape(path.name)}.new-*"):
            # Of a process that was killed; one that still writes it finds it gone, and gives up.
            with suppress(OSError):
                unfinished.unlink()
        # It would look at all of them again and again.
        gc.disable()
        try:
            with path.open("rb") as file:
                header = snapshot.read_header(file)
                loaded, left_out, total = self._load_entries(file, header)
                size = file.tell()
        except FileNotFoundError:
            log.info("no snapshot {path} yet: starting empty", path=str(path))
            return
        except (BrokenSnapshot, OSError) as error:
            self._start_empty(path, error)
            return
        finally:
            gc.enable()
        seconds = time.monotonic() - started
        self._state |= {
            "snapshot_taken": header.taken,
            "snapshot_entries": total,
            "snapshot_bytes": size,
            "loaded_entries": loaded,
            "loaded_seconds": round(seconds, 3),
        }
        log.info(
            "loaded {loaded} entries from {path} in {seconds:.1f} s; {expired} had expired "
            "meanwhile{left_out}",
            loaded=loaded,
            path=str(path),
            seconds=seconds,
            expired=total - loaded - left_out,
            left_out=f", {left_out} are beyond today's limits" if left_out else "",
        )

    def _load_entries(self, file: Any, header: snapshot.Header) -> tuple[int, int, int]:
        """Return how many were loaded, how many were beyond the limits, and how many there were."""
        downtime = max(self._wall() - header.taken, 0.0)
        loaded = left_out = number = 0
        told = time.monotonic()
        for number, entry in enumerate(snapshot.read_entries(file), 1):
            try:
                loaded += self._cache.restore(entry, downtime)
            except CommandError:
                left_out += 1
            if not number % 1000 and time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("loading: {number} of about {total}", number=number, total=header.about)
        return loaded, left_out, number

    def _start_empty(self, path: Path, error: Exception) -> None:
        for _ in self._cache.flush():
            pass
        for _ in self._cache.reclaim():
            pass
        aside = path.with_name(f"{path.name}.broken-{int(self._wall())}")
        try:
            path.replace(aside)
            where = f"it is now {aside}"
        except OSError as refusal:
            where = f"it can not be set aside: {refusal.strerror}"
        log.error(
            "the snapshot {path} can not be used: {why}; {where}. Starting with an empty cache",
            path=str(path),
            why=getattr(error, "strerror", None) or str(error),
            where=where,
        )

    def startService(self) -> None:
        super().startService()
        self._start_loop()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        super().stopService()
        self._stop_loop()
        if self._child is not None:
            # What it writes is out of date.
            os.kill(self._child, signal.SIGKILL)
            yield self._wait_for_child(self._child)
        self._save_here()

    def _start_loop(self) -> None:
        if self._path is not None and self._interval:
            self._loop = LoopingCall(self.save)
            self._loop.clock = self._reactor
            self._loop.start(self._interval, now=False)

    def _stop_loop(self) -> None:
        if self._loop is not None and self._loop.running:
            self._loop.stop()
        self._loop = None

    def save(self) -> Deferred[None]:
        """Have a snapshot written by a forked process; fires when it has ended, well or not."""
        if self._path is None or self._child is not None:
            return succeed(None)
        result_end, child_end = os.pipe()
        started = time.monotonic()
        try:
            with warnings.catch_warnings():
                # The child only writes a file, and touches nothing that a thread may hold.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
        except OSError as error:
            os.close(result_end)
            os.close(child_end)
            self._failed(error)
            return succeed(None)
        if not child:
            self._in_child(self._path, child_end)
        os.close(child_end)
        self._child = child
        return self._see_to_it(child, result_end, started)

    @inlineCallbacks
    def _see_to_it(
        self, child: int, result_end: int, started: float
    ) -> Generator[Deferred[Any], Any, None]:
        status = yield self._wait_for_child(child)
        with os.fdopen(result_end, "rb") as pipe:
            said = pipe.read()
        if not self.running:
            return
        if not said:
            self._failed(OSError(errno.ECHILD, f"the writing process ended with status {status}"))
            return
        result = json.loads(said)
        if "error" in result:
            self._failed(OSError(0, result["error"]))
        else:
            self._succeeded(result, time.monotonic() - started)

    @inlineCallbacks
    def _wait_for_child(self, child: int) -> Generator[Deferred[Any], Any, int]:
        """Fires with its exit status when it has ended."""
        while self._child == child:
            try:
                ended, status = os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                ended, status = child, 0  # somebody else has waited for it
            if ended:
                self._child = None
                self._status = status
                if status and self._path is not None:
                    with suppress(OSError):
                        self._unfinished(self._path, child).unlink()
            else:
                yield deferLater(self._reactor, _CHECK_SECONDS)
        return self._status

    def _in_child(self, path: Path, child_end: int) -> NoReturn:
        """Write, tell, and end; nothing of the server may go on in this process."""
        outcome = 1
        try:
            gc.disable()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Connections must not be held open here when the server closes them.
            os.closerange(3, child_end)
            os.closerange(child_end + 1, 2**31 - 1)
            os.nice(10)
            try:
                said = self._write(path)
            except OSError as error:
                said = {"error": error.strerror or str(error)}
            os.write(child_end, json.dumps(said).encode())
            outcome = 0
        finally:
            os._exit(outcome)

    def _save_here(self) -> None:
        if self._path is None:
            return
        started = time.monotonic()
        try:
            result = self._write(self._path)
        except OSError as error:
            self._failed(error)
        else:
            self._succeeded(result, time.monotonic() - started)

    @staticmethod
    def _unfinished(path: Path, pid: int) -> Path:
        """Where a process writes the file that is to take the place of ``path``."""
        return path.with_name(f"{path.name}.new-{pid}")

    def _write(self, path: Path) -> dict[str, Any]:
        """Write the snapshot; the one before stays if that fails. Raises OSError."""
        taken = self._wall()
        new = self._unfinished(path, os.getpid())
        try:
            descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb", buffering=2**20) as file:
                header = snapshot.Header(len(self._cache), taken)
                total = snapshot.write(file, header, self._cache.saved())
                file.flush()
                os.fsync(file.fileno())
                size = file.tell()
            new.replace(path)
            _sync_directory(path.parent)
        except OSError:
            with suppress(OSError):
                new.unlink()
            raise
        return {"taken": taken, "total": total, "size": size}

    def _succeeded(self, result: dict[str, Any], seconds: float) -> None:
        self._state |= {
            "snapshot_taken": result["taken"],
            "snapshot_seconds": round(seconds, 3),
            "snapshot_entries": result["total"],
            "snapshot_bytes": result["size"],
            "snapshot_error": None,
        }
        log.info(
            "saved {total} entries, {size} bytes, to {path} in {seconds:.1f} s",
            path=str(self._path),
            seconds=seconds,
            **{name: result[name] for name in ("total", "size")},
        )

    def _failed(self, error: OSError) -> None:
        why = error.strerror or str(error)
        self._state["snapshot_error"] = why
        log.warn(
            "no snapshot was written to {path}: {why}; the one before stays as it is",
            path=str(self._path),
            why=why,
        )


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
