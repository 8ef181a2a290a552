"""Keep the entries across restarts: load a snapshot at the start, and write snapshots."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from twisted.application.service import Service
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.settings import Settings
from tagcache.engine import snapshot
from tagcache.errors import BrokenSnapshot, CommandError, InvalidDatabase
from tagcache.model.interfaces import IMaintained
from tagcache.server.upkeep.snapshot_file import SnapshotFile

_PROGRESS_SECONDS = 2.0
_CHECK_SECONDS = 0.05

log = Logger(namespace="tagcache.persistence")


class Persistence(Service):
    """Loads ``persistence.snapshot_file`` before the first request, and saves snapshots to it.

    While the server runs, a forked process writes snapshots: it sees all entries as they were at
    the fork, and clients wait only for the fork. Loading such a snapshot would bring back entries
    that were removed or overwritten after the fork, so it is not loaded, unless
    ``persistence.after_crash`` is ``load``. At a clean stop, this process writes the snapshot;
    that one is final, and the next start loads it.
    """

    def __init__(
        self,
        cache: IMaintained,
        settings: Settings,
        reactor: Any,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._cache = cache
        self._reactor = reactor
        self._wall = wall
        name = settings.persistence.snapshot_file
        self._file = SnapshotFile(Path(name)) if name else None
        self._loads_any = settings.persistence.after_crash == "load"
        self._source: Path | None = None
        self._interval = settings.persistence.snapshot_interval_seconds
        self._last_begun = 0.0
        self._next: IDelayedCall | None = None
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
            "after_crash": None,
        }

    def configure(self, settings: Settings) -> None:
        """Take a new interval; it counts from the last snapshot."""
        interval = settings.persistence.snapshot_interval_seconds
        if interval != self._interval:
            self._interval = interval
            if self.running:
                self._schedule()

    def describe(self) -> dict[str, Any]:
        """Return its state as a JSON object, times in seconds; ``snapshot_taken`` is since 1970."""
        taken = self._state["snapshot_taken"]
        return {
            "snapshot_file": str(self._file.path) if self._file is not None else None,
            "snapshot_age_seconds": None if taken is None else round(self._wall() - taken, 3),
            "snapshot_in_progress": self._child is not None,
            **self._state,
        }

    def load(self) -> None:
        """Lock the snapshot, and load it if that cannot bring back removed entries.

        A broken one is put aside and logged. Raises PersistenceError.
        """
        file = self._file
        if file is None:
            return
        file.lock()
        file.remove_unfinished()
        # A loaded file remains only if no new one has been written since.
        path = file.path if file.path.exists() else file.loaded
        # The garbage collector would traverse all entries again and again.
        gc.disable()
        try:
            with path.open("rb") as opened:
                header = snapshot.read_header(opened)
                clean = header.final and path == file.path
                if clean or self._loads_any:
                    self._load_entries(opened, header)
                    self._source = path
            if not clean:
                self._log_crash(path)
        except FileNotFoundError:
            log.info("no snapshot {path} yet: starting empty", path=str(file.path))
        except (BrokenSnapshot, OSError) as error:
            self._start_empty(file, path, error)
        finally:
            gc.enable()

    def put_aside(self) -> None:
        """Rename the loaded file, so that it is not loaded again after a crash.

        Call this before the first command is executed. Raises PersistenceError.
        """
        if self._file is not None and self._source == self._file.path:
            self._file.put_aside(self._source, "loaded")

    def _load_entries(self, opened: BinaryIO, header: snapshot.Header) -> None:
        started = told = time.monotonic()
        downtime = max(self._wall() - header.taken, 0.0)
        loaded = left_out = homeless = total = 0
        for total, entry in enumerate(snapshot.read_entries(opened), 1):
            try:
                loaded += self._cache.restore(entry, downtime)
            except InvalidDatabase:
                homeless += 1
            except CommandError:
                left_out += 1
            if not total % 1000 and time.monotonic() - told > _PROGRESS_SECONDS:
                told = time.monotonic()
                log.info("loading: {number} of about {total}", number=total, total=header.about)
        seconds = time.monotonic() - started
        self._state |= {
            "snapshot_taken": header.taken,
            "snapshot_entries": total,
            "snapshot_bytes": opened.tell(),
            "loaded_entries": loaded,
            "loaded_seconds": round(seconds, 3),
        }
        log.info(
            "loaded {loaded} entries from {path} in {seconds:.1f} s; {expired} had expired "
            "meanwhile{left_out}",
            loaded=loaded,
            path=opened.name,
            seconds=seconds,
            expired=total - loaded - left_out - homeless,
            left_out=f", {left_out} exceed the current limits" if left_out else "",
        )
        if homeless:
            log.warn(
                "{homeless} entries of {path} were not loaded, because their database numbers are "
                "not less than cache.databases. The next snapshot will not contain them",
                homeless=homeless,
                path=opened.name,
            )

    def _log_crash(self, path: Path) -> None:
        self._state["after_crash"] = "load" if self._loads_any else "empty"
        if self._loads_any:
            what = "It was loaded anyway, because persistence.after_crash is load"
        else:
            what = (
                "Starting with an empty cache (persistence.after_crash = load would load it; the "
                "next snapshot replaces it)"
            )
        log.warn(
            "{path} was not written by a clean stop of this version: it may contain entries that "
            "were removed or overwritten later. {what}",
            path=str(path),
            what=what,
        )

    def _start_empty(self, file: SnapshotFile, path: Path, error: Exception) -> None:
        for _ in self._cache.flush():
            pass
        for _ in self._cache.reclaim():
            pass
        aside = file.put_aside(path, f"broken-{int(self._wall())}")
        log.error(
            "the snapshot {path} cannot be used: {why}; it was renamed to {aside}. Starting with "
            "an empty cache",
            path=str(path),
            why=getattr(error, "strerror", None) or str(error),
            aside=str(aside),
        )

    def startService(self) -> None:
        super().startService()
        self._last_begun = self._reactor.seconds()
        self._schedule()

    @inlineCallbacks
    def stopService(self) -> Generator[Deferred[Any], Any, None]:
        super().stopService()
        self._unschedule()
        if self._child is not None:
            # The child's snapshot would be out of date.
            os.kill(self._child, signal.SIGKILL)
            yield self._wait_for_child(self._child)
        if self._file is not None:
            self._save_here(self._file)
            self._file.unlock()

    def _schedule(self) -> None:
        """Schedule the next snapshot, one interval after the last one."""
        self._unschedule()
        if self._file is not None and self._interval:
            left = self._last_begun + self._interval - self._reactor.seconds()
            self._next = self._reactor.callLater(max(left, 0), self._save_in_turn)

    def _unschedule(self) -> None:
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def _save_in_turn(self) -> None:
        self._last_begun = self._reactor.seconds()
        saved = maybeDeferred(self.save)
        saved.addErrback(self._broke)
        saved.addCallback(lambda _: self._schedule() if self.running else None)

    def _broke(self, failure: Failure) -> None:
        """Record an unexpected error; the next snapshot is still scheduled."""
        log.failure("a snapshot failed; the next one is still scheduled", failure)
        self._state["snapshot_error"] = repr(failure.value)

    def save(self) -> Deferred[None]:
        """Write a snapshot in a forked process; fires when that has ended, even if it failed."""
        file = self._file
        if file is None or self._child is not None:
            return succeed(None)
        started = time.monotonic()
        # Take the time now: the child has the entries of this moment, but may begin later.
        taken = self._wall()
        parent = os.getpid()
        ends: tuple[int, ...] = ()
        try:
            ends = result_end, child_end = os.pipe()
            with warnings.catch_warnings():
                # The child only writes a file, and takes no lock that a thread may hold.
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
        except OSError as error:
            for end in ends:
                os.close(end)
            self._failed(error)
            return succeed(None)
        if not child:
            self._in_child(file, parent, child_end, taken)
        os.close(child_end)
        self._child = child
        return self._supervise(child, result_end, started)

    @inlineCallbacks
    def _supervise(
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
        """Wait until the child has ended; fires with its exit status."""
        while self._child == child:
            try:
                ended, status = os.waitpid(child, os.WNOHANG)
            except ChildProcessError:
                ended, status = child, 0  # its status was already collected
            if ended:
                self._child = None
                self._status = status
                if status and self._file is not None:
                    self._file.remove_unfinished_of(child)
            else:
                yield deferLater(self._reactor, _CHECK_SECONDS)
        return self._status

    def _in_child(self, file: SnapshotFile, parent: int, child_end: int, taken: float) -> NoReturn:
        """Write, report and exit; no other code of the server may run in this process."""
        outcome = 1
        try:
            gc.disable()
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # This process must not hold open connections that the server closes, nor the lock
            # after the server has ended.
            os.closerange(3, child_end)
            os.closerange(child_end + 1, 2**31 - 1)
            os.nice(10)
            try:
                # A child that outlives its server must not replace the file of the next server.
                said = self._write(file, False, taken, lambda: os.getppid() == parent)
            except OSError as error:
                said = {"error": error.strerror or str(error)}
            os.write(child_end, json.dumps(said).encode())
            outcome = 0
        finally:
            os._exit(outcome)

    def _save_here(self, file: SnapshotFile) -> None:
        started = time.monotonic()
        try:
            result = self._write(file, True, self._wall(), lambda: True)
        except OSError as error:
            self._failed(error)
        else:
            self._succeeded(result, time.monotonic() - started)

    def _write(
        self, file: SnapshotFile, final: bool, taken: float, may_replace: Callable[[], bool]
    ) -> dict[str, Any]:
        """Write the snapshot. Raises OSError; the previous one remains."""
        total = 0

        def write(opened: BinaryIO) -> None:
            nonlocal total
            header = snapshot.Header(len(self._cache), taken, final)
            total = snapshot.write(opened, header, self._cache.saved())

        size = file.write(write, may_replace)
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
            path=str(self._file and self._file.path),
            seconds=seconds,
            **{name: result[name] for name in ("total", "size")},
        )

    def _failed(self, error: OSError) -> None:
        why = error.strerror or str(error)
        self._state["snapshot_error"] = why
        log.warn(
            "no snapshot was written to {path}: {why}; the previous one is unchanged",
            path=str(self._file and self._file.path),
            why=why,
        )
