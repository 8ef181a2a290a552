"""Check that Redis has the partitions that this server uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from tagcache.errors import BackendUnavailable
from tagcache.redis import scripts
from tagcache.redis.deferreds import as_deferred, together
from tagcache.redis.pipeline import ScriptPipeline
from tagcache.redis.roots import roots_of

# Changes when the scripts no longer understand the data of earlier versions.
_VERSION = 1
# The number of partitions in a cluster before it was recorded. Such data is recognized by the
# partitions that no smaller number has; more cannot be configured.
_UNRECORDED = 64


class Layout:
    """The version of the data, and the number of partitions, which the first partition records.

    ``is_known`` says whether the last check succeeded. ``trouble`` is called with the reason if
    Redis has another layout.
    """

    def __init__(
        self, pipeline: ScriptPipeline, prefix: str, number: int, trouble: Callable[[str], None]
    ) -> None:
        self.is_known = False
        self._pipeline = pipeline
        self._root = roots_of(prefix, number, 0)[0]
        self._number = number
        # Only earlier versions use these partitions.
        self._others = roots_of(prefix, _UNRECORDED, 0)[number:] if number > 1 else []
        self._trouble = trouble
        self._waiting: list[Deferred[None]] | None = None

    def check(self) -> Deferred[None]:
        """Ask for the layout, and record it if that was not done yet.

        Fails with BackendUnavailable if Redis has another one, or cannot be used.
        """
        answer: Deferred[None] = Deferred()
        if self._waiting is not None:
            self._waiting.append(answer)
            return answer
        self._waiting = [answer]
        self._ask().addCallback(self._compare).addBoth(self._answer)
        return answer

    @as_deferred
    async def _ask(self) -> bytes:
        """Return what is recorded, and record it first if necessary."""
        recorded, _ = await self._call(self._root, "")
        if not recorded:
            others = await together(self._call(root, "") for root in self._others)
            number = _UNRECORDED if any(is_used for _, is_used in others) else self._number
            recorded, _ = await self._call(self._root, f"{_VERSION}:{number}")
        return bytes(recorded)

    def _call(self, root: str, layout: str) -> Deferred[Any]:
        return self._pipeline.call(scripts.LAYOUT, root, layout)

    def _compare(self, recorded: bytes) -> None:
        version, _, number = recorded.decode("ascii", "replace").partition(":")
        if version != str(_VERSION):
            why = (
                f"another version of TagCache has written the data: it has layout {version}, "
                f"and this server uses {_VERSION}"
            )
        elif number != str(self._number):
            why = f"the data has {number} partitions, and engine.partitions is {self._number}"
        else:
            self.is_known = True
            return
        self.is_known = False
        self._trouble(why)
        raise BackendUnavailable(why)

    def _answer(self, result: Failure | None) -> None:
        waiting, self._waiting = self._waiting or [], None
        for each in waiting:
            each.callback(result)
