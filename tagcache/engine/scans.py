"""Scan entries and tags while they come and go, or for a snapshot.

A scan yields None for each entry that does not match, so that its caller can pause and continue.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from tagcache.engine.entry import Entry, Links
from tagcache.engine.store import Store
from tagcache.model.views import Saved


def any_of(store: Store, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
    """Yield the entries that carry at least one of the tags, each once."""
    earlier: list[bytes] = []
    started = store.monotonic()
    for tag in dict.fromkeys(tags):
        for entry in store.tags.entries(tag):
            carried = entry.tags if store.is_current(entry) else ()
            # Skip entries stored since the start: they may have been yielded with an earlier tag.
            if (
                tag in carried
                and entry.stored <= started
                and not any(other in carried for other in earlier)
            ):
                yield entry.key, entry
            else:
                yield None
        earlier.append(tag)


def all_of(store: Store, tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
    """Yield the entries that carry all of the tags; none for no tags."""
    if tags:
        smallest = min(tags, key=store.tags.count)
        for entry in store.tags.entries(smallest):
            if store.is_current(entry) and all(tag in entry.tags for tag in tags):
                yield entry.key, entry
            else:
                yield None


def by_prefix(store: Store, prefix: bytes) -> Iterator[tuple[bytes, Entry] | None]:
    """Yield the entries whose keys begin with ``prefix``, the last stored first.

    A mark in the ring is the position of the scan. Entries may come and go on both sides of it;
    new ones are added at the newest end, which the scan has already passed.
    """
    end = store.end
    mark = Links()
    mark.link_before(end)
    try:
        # A new end means that the cache was flushed, and this ring is being dismantled.
        while store.end is end and (place := mark.older) is not end:
            store.sieve.leave(mark)
            mark.unlink()
            mark.link_before(place)
            if (
                isinstance(place, Entry)
                and place.key.startswith(prefix)
                and store.is_live(place, store.monotonic())
            ):
                yield place.key, place
            else:
                yield None
    finally:
        if store.end is end:
            store.sieve.leave(mark)
            mark.unlink()


def tags_by_prefix(store: Store, prefix: bytes) -> Iterator[tuple[bytes, int, int] | None]:
    """Yield (tag, keys, bytes of keys and values) for each tag that begins with ``prefix``."""
    for tag, _ in store.tags.sizes():
        if not tag.startswith(prefix):
            yield None
            continue
        keys = size = 0
        for entry in store.tags.entries(tag):
            if store.is_current(entry) and tag in entry.tags:
                keys += 1
                size += len(entry.key) + len(entry.value)
            yield None
        if keys:
            yield tag, keys, size


def saved(store: Store, grace_of: Callable[[Entry], float]) -> Iterator[Saved]:
    """Yield every entry for a snapshot, the oldest first; nothing may change meanwhile.

    ``grace_of`` returns the grace of an entry in seconds. An expired entry is included while its
    grace lasts.
    """
    now = store.monotonic()
    place = store.end.newer
    while place is not store.end:
        if isinstance(place, Entry) and not (store.dead and store.is_dead(place)):
            grace = grace_of(place)
            if place.expires + grace > now:
                age = now - place.stored
                yield Saved(place.key, place.value, place.tags, age, place.ttl, grace=grace)
        place = place.newer
