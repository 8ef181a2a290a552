"""The log: levels, formats and files."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twisted.logger import ILogObserver, Logger, LogPublisher
from zope.interface.verify import verifyObject

from tagcache.server.observe.logs import LogWriter
from tests.helpers import settings_with


@pytest.fixture
def writer() -> Iterator[Callable[..., LogWriter]]:
    made = []

    def make(path: Path | None, level: str = "info", format: str = "pretty") -> LogWriter:
        made.append(LogWriter(settings_with(logging={"level": level, "format": format}), path))
        return made[-1]

    yield make
    for each in made:
        each.close()


def logger(observer: LogWriter) -> Logger:
    return Logger("some.place", observer=LogPublisher(observer))


def test_it_is_an_observer(tmp_path: Path, writer: Callable[..., LogWriter]) -> None:
    assert verifyObject(ILogObserver, writer(tmp_path / "log"))


def test_pretty_lines(tmp_path: Path, writer: Callable[..., LogWriter]) -> None:
    observer = writer(tmp_path / "log")
    logger(observer).warn("{who} was here", who="someone")
    (line,) = (tmp_path / "log").read_text().splitlines()
    stamp, rest = line[:24], line[24:]
    assert rest == " warn     some.place: someone was here"
    assert stamp[4] == stamp[7] == "-"
    assert stamp[-1] == "Z"


def test_json_lines(tmp_path: Path, writer: Callable[..., LogWriter]) -> None:
    observer = writer(tmp_path / "log", format="json")
    logger(observer).info("two\nlines {x}", x="é")
    try:
        raise RuntimeError("boom")
    except RuntimeError:
        logger(observer).failure("it failed")
    first, second = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (first["level"], first["namespace"], first["message"]) == (
        "info",
        "some.place",
        "two\nlines é",
    )
    assert "traceback" not in first
    assert (second["level"], second["message"]) == ("critical", "it failed")
    assert "RuntimeError: boom" in second["traceback"]


def test_what_a_client_sent_cannot_pass_for_a_line_of_ours(
    tmp_path: Path, writer: Callable[..., LogWriter]
) -> None:
    logger(writer(tmp_path / "log")).info("{x}", x="a\n2026-01-01 forged\r\nb")
    lines = (tmp_path / "log").read_bytes().split(b"\n")
    assert len(lines) == 4
    assert lines[1].startswith(b"    2026")
    assert b"\r" not in b"".join(lines)


@pytest.mark.parametrize(
    ("level", "count"), [("debug", 5), ("info", 4), ("warn", 3), ("error", 2), ("critical", 1)]
)
def test_levels(tmp_path: Path, level: str, count: int, writer: Callable[..., LogWriter]) -> None:
    observer = writer(tmp_path / "log", level)
    log = logger(observer)
    for emit in (log.debug, log.info, log.warn, log.error, log.critical):
        emit("x")
    assert len((tmp_path / "log").read_text().splitlines()) == count


def test_the_level_can_be_changed(tmp_path: Path, writer: Callable[..., LogWriter]) -> None:
    observer = writer(tmp_path / "log")
    log = logger(observer)
    log.debug("not this")
    observer.configure(settings_with(logging={"level": "debug"}))
    log.debug("but this")
    assert (tmp_path / "log").read_text().count("this") == 1


def test_an_event_without_a_level_is_information(
    tmp_path: Path, writer: Callable[..., LogWriter]
) -> None:
    writer(tmp_path / "log")({"log_time": 0, "log_format": "old style"})
    assert "info     -: old style" in (tmp_path / "log").read_text()


def test_a_file_that_was_moved_away_is_opened_anew(
    tmp_path: Path, writer: Callable[..., LogWriter]
) -> None:
    observer = writer(tmp_path / "log")
    log = logger(observer)
    log.info("one")
    (tmp_path / "log").rename(tmp_path / "log.1")
    observer.reopen()
    log.info("two")
    assert "one" in (tmp_path / "log.1").read_text()
    assert "two" in (tmp_path / "log").read_text()


def test_a_new_file_is_not_for_everyone(tmp_path: Path, writer: Callable[..., LogWriter]) -> None:
    before = os.umask(0)
    try:
        observer = writer(tmp_path / "log")
        (tmp_path / "log").rename(tmp_path / "log.1")
        observer.reopen()
    finally:
        os.umask(before)
    for name in ("log", "log.1"):
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    # The mode that an operator set remains.
    (tmp_path / "log").chmod(0o644)
    observer.reopen()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o644


def test_a_file_that_cannot_be_opened_anew_is_kept(
    tmp_path: Path, writer: Callable[..., LogWriter]
) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    observer = writer(directory / "log")
    directory.rename(tmp_path / "moved")
    observer.reopen()
    logger(observer).info("still here")
    assert "still here" in (tmp_path / "moved" / "log").read_text()


def test_standard_output(
    capsys: pytest.CaptureFixture[str], writer: Callable[..., LogWriter]
) -> None:
    observer = writer(None)
    observer.reopen()
    logger(observer).info("hello")
    assert "hello" in capsys.readouterr().out


def test_a_full_disk_does_no_harm(writer: Callable[..., LogWriter]) -> None:
    observer = writer(Path("/dev/full"))
    logger(observer).info("lost")
    logger(observer).info("lost too")
    with contextlib.suppress(OSError):
        observer.close()


def test_no_memory_for_a_line_is_no_error(
    tmp_path: Path, writer: Callable[..., LogWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(event: object) -> str:
        raise MemoryError

    observer = writer(tmp_path / "log")
    with monkeypatch.context() as patch:
        patch.setattr("tagcache.server.observe.logs.formatEvent", no_memory)
        logger(observer).info("lost")
    logger(observer).info("kept")
    (line,) = (tmp_path / "log").read_text().splitlines()
    assert line.endswith("kept")
