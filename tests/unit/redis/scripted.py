"""A Redis server that answers as a test says, and an event loop whose time stands still."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed

from tagcache.redis.scripts import Script


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Its time is 0 at first, and moves only by ``advance``; sockets work as they do elsewhere."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[asyncio.TimerHandle] = []
        super().__init__()

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Any, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:
        self.timers.append(super().call_at(when, callback, *args, **kwargs))
        return self.timers[-1]


def advance(seconds: float) -> None:
    """Move the time of the running loop."""
    _loop().now += seconds


async def advance_when_awaited(seconds: float) -> None:
    """Wait until somebody waits for exactly so long, and let the time pass."""
    loop = _loop()
    end = loop.now + seconds
    await until(lambda: any(it.when() == end and not it.cancelled() for it in loop.timers))
    loop.now = end


def _loop() -> FakeTimeLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, FakeTimeLoop)
    return loop


def in_fake_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test that is a coroutine on a FakeTimeLoop."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until the condition is met; time does not pass."""
    while not condition():
        await asyncio.sleep(0)


async def result(deferred: Deferred[Any]) -> Any:
    """Wait for a Deferred."""
    return await deferred.asFuture(asyncio.get_running_loop())


class Error:
    """An error reply: its code and its text."""

    def __init__(self, text: str) -> None:
        self.text = text


class Push(list[Any]):
    """A message that was not asked for (RESP3)."""


HANG = object()
"""No answer ever."""
CLOSE = object()
"""The connection is closed without an answer."""


def evalsha(script: Script, root: str, *arguments: Any) -> tuple[Any, ...]:
    """The words of the command that runs a script on a partition."""
    return (b"EVALSHA", script.digest, 1, root, *arguments)


def slots(*owners: tuple[int, int, ScriptedServer]) -> list[Any]:
    """The answer to CLUSTER SLOTS: who has which slots, from the first to the last."""
    return [
        [first, last, [b"127.0.0.1", server.port, b"%d" % server.port]]
        for first, last, server in owners
    ]


class ScriptedServer:
    """Answers on a loopback port, or at a path, what the test says, command by command.

    ``expect`` adds a command to the script. Other commands are answered as ``replies`` says by
    their first word, or their first two. ``heard`` has all commands but those. Leaving the context
    checks that the script was followed to its end.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self.script: deque[tuple[tuple[bytes, ...], Any]] = deque()
        self.replies: dict[bytes, Any] = {
            b"CLIENT SETINFO": "OK",
            b"HELLO": {b"server": b"redis", b"proto": 3},
            b"INFO": b"# Memory\r\nmaxmemory_policy:noeviction\r\n",
            b"SCRIPT": b"loaded",
        }
        self.heard: list[tuple[bytes, ...]] = []
        self.greeted: list[tuple[bytes, ...]] = []
        self.unexpected: list[tuple[bytes, ...]] = []
        self.writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def __aenter__(self) -> ScriptedServer:
        if self._path is not None:
            self._server = await asyncio.start_unix_server(self._serve, self._path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        self._server.close()
        self.disconnect()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if kind is None:
            assert not self.unexpected
            assert not self.script

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def expect(self, *words: Any, answer: Any) -> None:
        """Add a command, of which these are the first words, to the script."""
        self.script.append((tuple(map(_word, words)), answer))

    def push(self, *message: Any) -> None:
        """Send a push message to every client that is connected."""
        for writer in self.writers:
            writer.write(_encode(Push(message)))

    def disconnect(self) -> None:
        """Close every connection."""
        for writer in self.writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.append(task)
        self.writers.append(writer)
        try:
            while command := await _read_command(reader):
                answer = self._answer(command)
                if answer is CLOSE:
                    break
                if answer is not HANG:
                    writer.write(_encode(answer))
        except ConnectionError:
            pass  # the client is gone
        finally:
            self.writers.remove(writer)
            writer.close()

    def _answer(self, command: tuple[bytes, ...]) -> Any:
        if self.script:
            words, answer = self.script[0]
            if command[: len(words)] == words:
                self.script.popleft()
                self.heard.append(command)
                return answer
        for name in (b" ".join(command[:2]), command[0]):
            if name in self.replies:
                self.greeted.append(command)
                return self.replies[name]
        self.unexpected.append(command)
        return Error(f"ERR the test does not expect {command!r}")


def _word(word: Any) -> bytes:
    return word if isinstance(word, bytes) else str(word).encode()


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, ...]:
    """Read an array of bulk strings; an empty tuple at the end of the stream."""
    head = await reader.readline()
    if not head:
        return ()
    words = []
    for _ in range(int(head[1:])):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return tuple(words)


def _encode(answer: Any) -> bytes:
    """Return a reply: str is a simple string, bytes are a bulk string, None is nil."""
    if answer is None:
        return b"$-1\r\n"
    if isinstance(answer, Error):
        return b"-%s\r\n" % answer.text.encode()
    if isinstance(answer, str):
        return b"+%s\r\n" % answer.encode()
    if isinstance(answer, int):
        return b":%d\r\n" % answer
    if isinstance(answer, bytes):
        return b"$%d\r\n%s\r\n" % (len(answer), answer)
    if isinstance(answer, dict):
        pairs = b"".join(_encode(name) + _encode(value) for name, value in answer.items())
        return b"%%%d\r\n" % len(answer) + pairs
    mark = b">" if isinstance(answer, Push) else b"*"
    return b"%b%d\r\n" % (mark, len(answer)) + b"".join(map(_encode, answer))


class ScriptedPipeline:
    """Stands in for a pipeline: a test answers its calls, in any order.

    Scripts in ``replies`` are answered at once, by name.
    """

    timeout = 5.0

    def __init__(self) -> None:
        self.replies: dict[str, Any] = {}
        self.calls: list[tuple[str, str, tuple[Any, ...], Deferred[Any]]] = []

    def call(self, script: Script, root: str, *arguments: Any) -> Deferred[Any]:
        if script.name in self.replies:
            return succeed(self.replies[script.name])
        answer: Deferred[Any] = Deferred()
        self.calls.append((script.name, root, arguments, answer))
        return answer

    @property
    def waiting(self) -> list[tuple[str, str]]:
        """Script and partition of each call that has no answer yet."""
        return [(name, root) for name, root, _, _ in self.calls]

    def answer(self, script: Script, answer: Any, root: str | None = None) -> tuple[Any, ...]:
        """Answer the first call of a script, of all or of a partition; returns its arguments."""
        for call in self.calls:
            name, where, arguments, deferred = call
            if name == script.name and root in (None, where):
                self.calls.remove(call)
                if isinstance(answer, Exception):
                    deferred.errback(answer)
                else:
                    deferred.callback(answer)
                return arguments
        raise AssertionError(f"{script.name} is not among {self.waiting}")

    async def close(self) -> None:
        """Close nothing."""


def outcome(deferred: Deferred[Any]) -> list[Any]:
    """Empty until it fires; then the result, or the error."""
    found: list[Any] = []
    deferred.addCallbacks(found.append, lambda reason: found.append(reason.value))
    return found
