"""The partitions of the engine, and calls of scripts in them.

All Redis keys of a partition have the same hash tag, so they are in the same slot of a cluster.
Everything that concerns one entry is one script in one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred

from tagcache.redis.deferreds import together
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.scripts import Script


def roots_of(prefix: str, number: int, database: int) -> list[str]:
    """Return the roots of the partitions of a database, ``number`` of them.

    A root ends in a hash tag. For a database other than 0 the hash tag begins with its number.
    """
    names = ["all"] if number == 1 else [str(each) for each in range(number)]
    of = f"{database}." if database else ""
    return [f"{prefix}{{{of}{name}}}:" for name in names]


def database_of(tag: bytes) -> int:
    """Return the number of the database that a hash tag belongs to."""
    number, dot, _ = tag.partition(b".")
    return int(number) if dot else 0


class Partitions:
    """The partitions of a database: one on a single server, many in a cluster.

    All Redis keys begin with ``prefix``, and those of a partition with its root, one of ``roots``.
    Calls that no client waits for go through the pipeline ``background``, so that they do not delay
    the others.
    """

    at_once = 100
    """Entries that a script removes in one run, during which Redis serves nobody else."""
    page = 500
    """Rows that a script returns in one run."""
    keys_at_once = 200

    def __init__(
        self,
        pipelines: Sequence[ScriptPipeline],
        prefix: str,
        number: int,
        background: ScriptPipeline | None = None,
        database: int = 0,
    ) -> None:
        self.roots = roots_of(prefix, number, database)
        self._pipelines = pipelines
        self._background = background or pipelines[0]
        self._turns = count()

    def __len__(self) -> int:
        return len(self.roots)

    @property
    def timeout(self) -> float:
        """The longest a call may take, in seconds."""
        return max(pipeline.timeout for pipeline in self._pipelines)

    def root(self, key: bytes) -> str:
        """Return the root of the partition that a key belongs to."""
        roots = self.roots
        return roots[0] if len(roots) == 1 else roots[crc32(key) % len(roots)]

    def call_for(
        self, key: bytes, pipeline: int | None, script: Script, *arguments: Any
    ) -> Deferred[Any]:
        """Call a script in the partition of a key, after earlier calls in the same pipeline.

        If ``pipeline`` is None, it runs after earlier calls for the same key.
        """
        number = crc32(key) if pipeline is None else pipeline
        return self._pipelines[number % len(self._pipelines)].call(
            script, self.root(key), key, *arguments
        )

    def call(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call a script in a partition, in any order with others."""
        pipeline = self._pipelines[next(self._turns) % len(self._pipelines)]
        return pipeline.call(script, root, *arguments)

    def call_everywhere(self, script: Script, *arguments: Any) -> Deferred[list[Any]]:
        """Call a script in each partition, in any order with others."""
        return together(self.call(root, script, *arguments) for root in self.roots)

    def call_later(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call a script through the background pipeline."""
        return self._background.call(script, root, *arguments)


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut a sequence into pieces of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
