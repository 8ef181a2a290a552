"""Locks shared by all processes, with the methods of redis-py's Lock."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace, TracebackType
from typing import Any
from uuid import uuid4

from tagcache.contrib.django.base import TagCacheBase
from tagcache.contrib.django.lock_requests import (
    LockError,
    LockNotOwned,
    acquisition,
    extension,
    renewal,
    token_of,
    unlocking,
)


class AsyncLock:
    """A lock: an entry that only its holder can remove; see ``alock``.

        async with cache.alock("report", timeout=60):
            ...

    Raises LockError where the caller does not hold it, or the cache is away.
    """

    def __init__(
        self,
        backend: TagCacheBase,
        name: str,
        timeout: float | None,
        sleep: float,
        blocking: bool,
        blocking_timeout: float | None,
        thread_local: bool,
    ) -> None:
        self.name = name
        self.timeout = timeout
        self.sleep = sleep
        self.blocking = blocking
        self.blocking_timeout = blocking_timeout
        self._backend = backend
        self._mine: Any = threading.local() if thread_local else SimpleNamespace()

    @property
    def _token(self) -> bytes | None:
        token: bytes | None = getattr(self._mine, "token", None)
        return token

    async def __aenter__(self) -> AsyncLock:
        if await self.acquire():
            return self
        raise LockError(f"the lock {self.name} was not acquired in time")

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.release()

    async def acquire(
        self, blocking: bool | None = None, blocking_timeout: float | None = None
    ) -> bool:
        """Take the lock, and return whether that succeeded.

        The arguments replace those of the lock, in seconds.
        """
        blocks = self.blocking if blocking is None else blocking
        seconds = self.blocking_timeout if blocking_timeout is None else blocking_timeout
        until = None if seconds is None else time.monotonic() + seconds
        token = uuid4().hex.encode()
        while not await self._ask(acquisition, token, self.timeout):
            if not blocks or (until is not None and time.monotonic() + self.sleep > until):
                return False
            await asyncio.sleep(self.sleep)
        self._mine.token = token
        return True

    async def release(self) -> None:
        """Release the lock. Raises LockNotOwned if its time was over."""
        token, self._mine.token = self._held(), None
        await self._if_mine(unlocking, token)

    async def extend(self, additional_time: float, replace_ttl: bool = False) -> bool:
        """Add seconds to the time that is left, or replace it; return True.

        Raises LockNotOwned if the time was over.
        """
        self._check_timeout()
        await self._if_mine(extension, self._held(), additional_time, replace_ttl)
        return True

    async def reacquire(self) -> bool:
        """Start the lock's timeout again; return True. Raises LockNotOwned if it was over."""
        self._check_timeout()
        await self._if_mine(renewal, self._held(), self.timeout)
        return True

    async def locked(self) -> bool:
        """Return whether anybody holds the lock."""
        token: bytes = await self._ask(token_of)
        return token != b""

    async def owned(self) -> bool:
        """Return whether this lock is held, and by the caller."""
        token: bytes = await self._ask(token_of)
        return token == self._token

    def _held(self) -> bytes:
        token = self._token
        if token is None:
            raise LockError(f"the lock {self.name} is not held here")
        return token

    def _check_timeout(self) -> None:
        if self.timeout is None:
            raise LockError(f"the lock {self.name} has no timeout")

    async def _if_mine(self, make: Any, *arguments: Any) -> None:
        if not await self._ask(make, *arguments):
            raise LockNotOwned(f"the lock {self.name} is not held any more")

    async def _ask(self, make: Any, *arguments: Any) -> Any:
        client = await self._backend.async_client()
        found = await client._run(make(client._requests, self.name, *arguments))
        if found is None:
            raise LockError(f"the cache of the lock {self.name} is away")
        return found
