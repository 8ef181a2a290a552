"""The seams between the parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zope.interface import Attribute, Interface

from tagcache.model.activity import TagActivity
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, Totals
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import Consistency, EntryView, Miss, Saved

if TYPE_CHECKING:
    # The engine in memory is to do without.
    from twisted.internet.defer import Deferred

    from tagcache.engine.entry import Entry


class IMeasured(Interface):
    """What can be told of a cache at once."""

    memory: int = Attribute("How many bytes all entries and their indexes take, about.")
    max_memory: int = Attribute("How many bytes they may take; 0: no limit.")
    backlog: int = Attribute("How many entries are removed already, and still hold memory.")

    def counters() -> Counters:
        """Return what was counted since the start; costs nothing."""

    def held() -> Totals:
        """Return what is in the cache, with what has expired and is unswept; costs nothing."""


class ICache(IMeasured):
    """A tag-aware cache of byte strings.

    Keys, values and tags are ``bytes``. ``ttl_ms`` is milliseconds; None and 0 both mean that
    none is given, so that the default applies. An entry past its expiry does not exist for
    any method. A method that raises, be it a MemoryError, has changed nothing.

    Invalidations come as work: a generator that yields now and then, so that the caller can
    stop and go on, and returns how many entries there were. Nothing happens before it is run.
    All entries that are meant go at one moment, whatever their number; the memory of many is
    given back later, by ``reclaim``.
    """

    limits: Limits = Attribute("What an entry may be at most; may be replaced while running.")
    on_garbage: Callable[[], None] = Attribute("Is called when there is something to reclaim.")
    refusing: bool = Attribute("Whether stores are refused with OutOfMemory; may be set.")

    def __len__() -> int:
        """Return how many entries hold memory: live ones, unswept ones, and the backlog."""

    def get(key: bytes, now: float | None = None) -> bytes | None:
        """Return the value, or None; counts a hit or a miss.

        ``now`` is what the cache's monotonic clock says, in seconds, where it was just read.
        """

    def get_many(keys: Collection[bytes], now: float | None = None) -> list[bytes | None]:
        """Return what ``get`` returns for each of the keys, at one moment."""

    def peek(key: bytes) -> Entry | None:
        """Return the whole entry, or None; counts nothing. Not to be changed."""

    def created_ms(entry: Entry) -> int:
        """Return when it was stored, in milliseconds since 1970 by the wall clock as it is now."""

    def put(key: bytes, value: bytes, tags: Collection[bytes], ttl_ms: int | None) -> int | None:
        """Store, replacing value, tags, TTL and creation time.

        Returns the TTL in force in milliseconds, or None for an entry that does not expire.
        Raises KeyTooLong, ValueTooLarge, TooManyTags, TagTooLong, OutOfMemory.
        """

    def put_with(
        key: bytes, value: bytes, options: StoreOptions, now: float | None = None
    ) -> int | None:
        """Do as ``put``; checks tags and TTL only where these options were not checked yet."""

    def add(key: bytes, value: bytes, tags: Collection[bytes], ttl_ms: int | None) -> bool:
        """Store only if the key is absent; say whether it was stored. Raises as ``put``."""

    def increment(key: bytes, by: int, tags: Collection[bytes], ttl_ms: int | None) -> int:
        """Add ``by`` to a stored integer and return the result; an absent key starts at 0.

        The TTL starts anew; a TTL or tags given replace the old ones.
        Raises NotAnInteger, IntegerOverflow, and as ``put``.
        """

    def decrement(key: bytes, by: int, tags: Collection[bytes], ttl_ms: int | None) -> int:
        """Subtract ``by``; the smallest 64-bit integer always overflows. See ``increment``."""

    def touch(key: bytes, ttl_ms: int | None) -> bool:
        """Give an entry the time to live that ``put`` would, from now; say whether it was there.

        It counts as stored now, but not as a put.
        """

    def delete(key: bytes) -> bool:
        """Remove one entry; say whether it was there."""

    def invalidate_tag(tag: bytes) -> Generator[None, None, int]:
        """Work that removes every entry that carries the tag, and returns how many."""

    def invalidate_any(tags: Collection[bytes]) -> Generator[None, None, int]:
        """Work that removes every entry that carries at least one of the tags."""

    def invalidate_all(tags: Collection[bytes]) -> Generator[None, None, int]:
        """Work that removes every entry that carries all of the tags; none for no tags."""

    def invalidate_keys(keys: Collection[bytes]) -> Generator[None, None, int]:
        """Work that removes the entries with these keys."""

    def keys_by_tag(tag: bytes) -> Generator[None, None, list[bytes]]:
        """Work that returns the keys of the entries that carry the tag, in no particular order.

        They are those that there are at one moment.
        """

    def scan_any(tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield the entries that carry at least one of the tags, each once; see ``scan``."""

    def scan_all(tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield the entries that carry all of the tags; none for no tags. See ``scan``."""

    def scan(prefix: bytes) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield the entries whose keys begin with ``prefix``, the last stored first.

        Yields None for each entry that does not fit, so that the caller can stop and go on.
        Entries stored after the start are left out, and so are those removed meanwhile.
        """

    def scan_tags(prefix: bytes) -> Iterator[tuple[bytes, int, int] | None]:
        """Yield (tag, keys, bytes) for each tag that begins with ``prefix``, in no order.

        ``bytes`` is the length of its entries' keys and values. Yields None between, as ``scan``.
        """

    def flush() -> Generator[None, None, int]:
        """Work that removes every entry, and returns how many."""

    def reclaim() -> Iterator[None]:
        """Give back the memory of entries that are removed already, yielding after each."""

    def sweep() -> Iterator[None]:
        """Reclaim expired entries, yielding after each, so that the caller can stop and go on."""

    def saved() -> Iterator[Saved]:
        """Yield every entry for a snapshot, the oldest first; nothing may change meanwhile."""

    def restore(entry: Saved, downtime: float) -> bool:
        """Store an entry of a snapshot that is ``downtime`` seconds old; False if it expired.

        Raises as ``put``.
        """

    def totals() -> Totals:
        """Return what is in the cache; first reclaims all that has expired and is unswept.

        Of the entries in ``backlog``, ``tags`` and ``bytes`` still count what they hold.
        """

    def activity(tag: bytes) -> TagActivity:
        """Return what went on with a tag, as far as it is one of the busiest."""

    def check() -> Generator[None, None, Consistency]:
        """Work that looks whether entries, indexes and totals agree, and returns what it found.

        Everything may go on meanwhile; a flush makes it begin again. The names of very many tags
        are only added up if a moment is found in which none comes or goes.
        """

    def top_tags(count: int) -> Generator[None, None, list[tuple[bytes, int]]]:
        """Work that returns at most ``count`` tags and their numbers of keys, the largest first."""


@dataclass(frozen=True, slots=True)
class RemoteTotals:
    """What is in a remote cache at a moment, and what all its servers have counted.

    As Totals; ``backlog`` is how many entries are removed already, and still hold memory.
    """

    items: int
    tags: int
    bytes: int
    backlog: int
    counters: Counters


class IRemoteCache(Interface):
    """A tag-aware cache elsewhere, which several servers share: what ICache does, with Deferreds.

    Arguments and results are those of ICache. What can be known to be wrong is raised at once,
    as there; else a Deferred fails with it, or with OutOfMemory, or with BackendUnavailable:
    within the engine's timeout for whatever concerns one key. A command that failed so may have
    been carried out. Commands with the same ``lane`` are carried out in the order of the calls;
    where None is given, those of the same key are.
    """

    limits: Limits = Attribute("What an entry may be at most; may be replaced while running.")
    hits: int = Attribute("How many look-ups through this server found their key.")
    misses: int = Attribute("How many did not.")
    puts: int = Attribute("How many entries were stored through this server.")
    invalidations: int = Attribute("How many entries were removed on request of its clients.")

    def get(key: bytes, lane: int | None = None) -> Deferred[bytes | Miss]:
        """Look up, counting a hit or a miss. What is computed after a miss can be stored with
        its ``lease``."""

    def get_near(key: bytes) -> bytes | None:
        """Return a value at once that is kept near, counting a hit; None if that cannot be."""

    def get_many(keys: Collection[bytes]) -> Deferred[list[bytes | Miss]]:
        """Look up each of the keys, not necessarily at one moment."""

    def peek(key: bytes) -> Deferred[EntryView | None]:
        """Return the whole entry; counts nothing."""

    def peek_many(keys: Sequence[bytes]) -> Deferred[list[EntryView | None]]:
        """Return what ``peek`` does for each, not necessarily at one moment."""

    def put(
        key: bytes,
        value: bytes,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lease: int | None = None,
        lane: int | None = None,
    ) -> Deferred[int | None]:
        """Store; but store nothing where one of the tags was invalidated since the lease."""

    def add(
        key: bytes,
        value: bytes,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lane: int | None = None,
    ) -> Deferred[bool]:
        """Store only if the key is absent, atomically."""

    def increment(
        key: bytes,
        by: int = 1,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lane: int | None = None,
    ) -> Deferred[int]:
        """Count up, atomically."""

    def decrement(
        key: bytes,
        by: int = 1,
        tags: Collection[bytes] = (),
        ttl_ms: int | None = None,
        lane: int | None = None,
    ) -> Deferred[int]:
        """Count down, atomically."""

    def touch(key: bytes, ttl_ms: int | None = None, lane: int | None = None) -> Deferred[bool]:
        """Give an entry a new time to live."""

    def delete(key: bytes, lane: int | None = None) -> Deferred[bool]:
        """Remove one entry."""

    def invalidate_tag(tag: bytes) -> Deferred[int]:
        """Remove what carries the tag."""

    def invalidate_any(tags: Collection[bytes]) -> Deferred[int]:
        """Remove what carries at least one of the tags."""

    def invalidate_all(tags: Collection[bytes]) -> Deferred[int]:
        """Remove what carries all of the tags."""

    def invalidate_keys(keys: Collection[bytes]) -> Deferred[int]:
        """Remove the entries with these keys, not necessarily at one moment."""

    def keys_by_tag(tag: bytes) -> Deferred[list[bytes]]:
        """Return the keys of what carries the tag."""

    def search(
        tags: Sequence[bytes], every: bool = False, offset: int = 0, limit: int | None = None
    ) -> Deferred[list[EntryView]]:
        """Return what carries any, or ``every``, one of the tags; each once, without values."""

    def count(tags: Sequence[bytes], every: bool = False) -> Deferred[int]:
        """Return how many entries ``search`` would find."""

    def newest(prefix: bytes, offset: int, limit: int) -> Deferred[list[EntryView]]:
        """Return entries whose keys begin with ``prefix``, the last stored first, no values."""

    def tags(prefix: bytes) -> Deferred[list[tuple[bytes, int, int]]]:
        """Return (tag, keys, bytes) for each tag that begins with ``prefix``."""

    def top_tags(count: int = 20) -> Deferred[list[tuple[bytes, int]]]:
        """Return at most ``count`` tags and their numbers of keys, the largest first."""

    def flush() -> Deferred[int]:
        """Remove everything."""

    def settle() -> Deferred[Any]:
        """Remove what has expired or was invalidated up to now, and give back its memory."""

    def reclaim() -> Deferred[None]:
        """Give back the memory of what was flushed."""

    def counters() -> Deferred[Counters]:
        """Return what all servers have counted."""

    def totals() -> Deferred[RemoteTotals]:
        """Settle, and return what is in the cache."""

    def held(name_tags: bool) -> Deferred[RemoteTotals]:
        """Return what is in the cache, with what has expired and is unswept.

        To know how many ``tags`` there are may take listing them all: that is done only if told
        so, else the number is that of the last time.
        """

    def check() -> Deferred[Consistency]:
        """Look whether entries and indexes agree; everything may go on meanwhile."""

    def tell_counts() -> Deferred[Any]:
        """Add what was counted here to what all servers count together."""

    def activity(tag: bytes) -> TagActivity:
        """Return what this server did to a tag; hits and misses are not known."""


class ISerde(Interface):
    """How a client turns objects into bytes and back."""

    name = Attribute("what it is called in options and URLs (str)")

    def dump(value: Any) -> bytes:
        """Return the object as bytes. Raises TypeError or ValueError if it cannot be."""

    def load(data: bytes) -> Any:
        """Return the object; the reverse of ``dump``. Raises ValueError if these are not its."""
