"""Writes log lines with the configured level, format (pretty or JSON) and file."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from twisted.logger import ILogObserver, Logger, LogLevel, formatEvent
from zope.interface import implementer

from tagcache.config.settings import Settings

# Twisted logs starts and stops by class name. We leave these out, and log our own lines.
_DETAILS = ("twisted.scripts.", "log_legacy")

log = Logger(namespace="tagcache.logs")


@implementer(ILogObserver)
class LogWriter:
    """Writes events of the configured level and above, one line each.

    ``path`` is the file to append to; None means the present standard output (twistd later
    replaces ``sys.stdout`` with the log itself).
    """

    def __init__(self, settings: Settings, path: Path | None) -> None:
        self._path = path
        self._stream: TextIO = sys.stdout if path is None else _open(path)
        self._format = _as_json if settings.logging.format == "json" else _pretty
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take a new level."""
        self._level = LogLevel.levelWithName(settings.logging.level)

    def reopen(self) -> None:
        """Continue in a new file if the old one was moved, as log rotation does."""
        if self._path is None:
            return
        try:
            stream = _open(self._path)
        except OSError as error:
            log.error(
                "cannot reopen {path}: {why}; still writing to the old file",
                path=str(self._path),
                why=error.strerror,
            )
            return
        self._stream.close()
        self._stream = stream

    def close(self) -> None:
        """Close the file; nothing more is written."""
        if self._path is not None:
            self._stream.close()

    def __call__(self, event: dict[str, Any]) -> None:
        level = event.get("log_level") or LogLevel.info
        namespace = event.get("log_namespace", "-")
        if level is LogLevel.info and namespace.startswith(_DETAILS):
            level = LogLevel.debug
        if level < self._level:
            return
        try:
            message = formatEvent(event)
            failure = event.get("log_failure")
            traceback = failure.getTraceback() if failure is not None else None
            moment = datetime.fromtimestamp(event["log_time"], UTC)
            self._stream.write(self._format(moment, level.name, namespace, message, traceback))
            self._stream.flush()
        except (OSError, ValueError, MemoryError):
            # A full disk, a closed pipe or a lack of memory must not stop the server, and cannot be
            # reported anywhere.
            return


def _open(path: Path) -> TextIO:
    # The log contains clients and keys, so only the owner and the group can read a new file.
    return open(
        path,
        "a",
        encoding="utf-8",
        errors="backslashreplace",
        opener=lambda name, flags: os.open(name, flags, 0o640),
    )


def _pretty(
    moment: datetime, level: str, namespace: str, message: str, traceback: str | None
) -> str:
    text = message if traceback is None else f"{message}\n{traceback.rstrip()}"
    # Indent further lines, so that text from a client cannot pass for a separate log line.
    text = text.replace("\r", "\\r").replace("\n", "\n    ")
    stamp = moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
    return f"{stamp} {level:<8} {namespace}: {text}\n"


def _as_json(
    moment: datetime, level: str, namespace: str, message: str, traceback: str | None
) -> str:
    fields = {
        "time": moment.isoformat(timespec="milliseconds"),
        "level": level,
        "namespace": namespace,
        "message": message,
    }
    if traceback is not None:
        fields["traceback"] = traceback
    return json.dumps(fields, separators=(",", ":")) + "\n"
