"""Let the native core answer plain requests to a cache, if it can."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tagcache.engine import headroom
from tagcache.engine.entry import Entry
from tagcache.engine.store import Store
from tagcache.model import int64
from tagcache.model.activity import Activity
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.native import core


def plain_requests(
    store: Store,
    activity: Activity,
    sampled: Callable[[Entry], int],
    put: Callable[[bytes, bytes, StoreOptions], int | None],
    delete: Callable[[bytes], bool],
) -> Any:
    """Return a PlainRequests of the native core; None without it.

    ``sampled`` is called with the entry of a hit that is recorded, and returns how many hits later
    to record the next one.
    """
    if core is None:
        return None
    uses = None if store.lru is None else store.lru.end
    parts = store, store.shards, store.dead, activity.removed, uses
    return core.PlainRequests(*parts, sampled, put, delete, headroom.check)


def use_limits(plain: Any, limits: Limits, longest_value: int) -> None:
    """Make ``plain`` obey ``limits`` from now on, and store only values up to so many bytes."""
    plain.use_limits(
        limits,
        limits.max_key_length,
        longest_value,
        limits.max_value_length,
        limits.max_tags_per_entry,
        limits.max_tag_length,
        min(limits.max_memory, int64.MAX),
        limits.tag_rules is not None,
    )
