"""How the loop of ``twistd --reactor=uvloop`` reports errors that nobody caught."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import uvloop

from tagcache.uvloopreactor import install, report


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    """The loop that install() gives to Twisted."""
    given: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr("twisted.internet.asyncioreactor.install", given.append)
    install()
    yield given[0]
    given[0].close()


async def lost(error: Exception) -> None:
    """Create a failed future, and drop it without reading its error."""
    asyncio.get_running_loop().create_future().set_exception(error)
    gc.collect()


async def lost_by_a_task(error: Exception) -> None:
    async def fail() -> None:
        raise error

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    del task
    gc.collect()


def test_the_loop_is_uvloops(loop: asyncio.AbstractEventLoop) -> None:
    assert isinstance(loop, uvloop.Loop)
    assert loop.get_exception_handler() is report


def test_a_cancelled_name_look_up_is_not_logged(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    loop.run_until_complete(lost(socket.gaierror(socket.EAI_AGAIN, "Temporary failure")))
    assert caplog.records == []


@pytest.mark.parametrize(
    ("leave", "error"),
    [
        (lost, OSError("out of reach")),
        (lost, ValueError("not a name")),
        (lost_by_a_task, socket.gaierror(socket.EAI_AGAIN, "Temporary failure")),
    ],
)
def test_other_errors_are_logged(
    loop: asyncio.AbstractEventLoop,
    caplog: pytest.LogCaptureFixture,
    leave: Callable[[Exception], Coroutine[Any, Any, None]],
    error: Exception,
) -> None:
    loop.run_until_complete(leave(error))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_a_connection_that_is_cancelled_during_its_name_look_up(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    """The real case: uvloop looks up a name that does not exist, and the task is cancelled."""

    async def give_up() -> None:
        attempt = asyncio.create_task(asyncio.open_connection("x." * 200, 1))
        await asyncio.sleep(0)
        attempt.cancel()
        await asyncio.wait([attempt])
        # Look-ups run in libuv's threads; one that starts later ends later.
        for _ in range(5):
            await asyncio.gather(
                *(loop.getaddrinfo("x." * 200, 1) for _ in range(8)), return_exceptions=True
            )
        gc.collect()

    loop.run_until_complete(give_up())
    assert [each for each in caplog.records if each.name == "asyncio"] == []
