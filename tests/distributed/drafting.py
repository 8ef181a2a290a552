"""Changes of entries for tests, and keys that can be changed together."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import Any

from tagcache.model.drafts import Draft, Stored
from tests.distributed.engines import Remote


def append(key: bytes, more: bytes) -> Callable[[Draft], int]:
    def change(draft: Draft) -> int:
        old = draft.get(key) or Stored(b"")
        draft.put(key, old.value + more, old.tags, old.expires_ms)
        return len(old.value + more)

    return change


def read(*keys: bytes) -> Callable[[Draft], list[Stored | None]]:
    return lambda draft: [draft.get(key) for key in keys]


def meanwhile(call: Callable[[], object]) -> None:
    """Make a call of another server: in a thread, as the event loop of this one is running."""
    thread = Thread(target=call)
    thread.start()
    thread.join()


def near_one_another(engine: Any, number: int) -> list[bytes]:
    """Return keys in one partition."""
    keys = [b"k%d" % n for n in range(2000)]
    if isinstance(engine, Remote):
        root = engine.partitions.root(keys[0])
        keys = [key for key in keys if engine.partitions.root(key) == root]
    return keys[:number]


def far_apart(engine: Remote) -> list[bytes]:
    """Return keys in two partitions."""
    roots = {engine.partitions.root(key): key for key in (b"k%d" % n for n in range(1000))}
    return list(roots.values())[:2]
