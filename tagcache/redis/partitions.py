"""The partitions of the engine, and calls of scripts in them.

All Redis keys of a partition have the same hash tag, so they are in the same slot of a cluster.
Everything that concerns one entry is one script in one round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred, succeed

from tagcache.redis.deferreds import together
from tagcache.redis.layout import Layout
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.roots import roots_of
from tagcache.redis.scripts import Script


class Partitions:
    """The partitions of a database: one on a single server, many in a cluster.

    All Redis keys begin with ``prefix``, and those of a partition with its root, one of ``roots``.
    Calls that no client waits for go through the pipeline ``background``, so that they do not delay
    the others. Calls wait until the ``layout`` has been checked.
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
        layout: Layout | None = None,
    ) -> None:
        self.roots = roots_of(prefix, number, database)
        self._pipelines = pipelines
        self._background = background or pipelines[0]
        self._layout = layout
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
        pipeline_of_it = self._pipelines[number % len(self._pipelines)]
        return self._put(pipeline_of_it, script, self.root(key), key, *arguments)

    def call(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call a script in a partition, in any order with others."""
        pipeline = self._pipelines[next(self._turns) % len(self._pipelines)]
        return self._put(pipeline, script, root, *arguments)

    def call_everywhere(self, script: Script, *arguments: Any) -> Deferred[list[Any]]:
        """Call a script in each partition, in any order with others."""
        return together(self.call(root, script, *arguments) for root in self.roots)

    def call_later(self, root: str, script: Script, *arguments: Any) -> Deferred[Any]:
        """Call a script through the background pipeline."""
        return self._put(self._background, script, root, *arguments)

    def check_layout(self) -> Deferred[None]:
        """Check that Redis has these partitions. Fails with BackendUnavailable."""
        return succeed(None) if self._layout is None else self._layout.check()

    def _put(self, pipeline: ScriptPipeline, *call: Any) -> Deferred[Any]:
        if self._layout is None or self._layout.is_known:
            return pipeline.call(*call)
        return self._layout.check().addCallback(lambda _: pipeline.call(*call))


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Cut a sequence into pieces of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
