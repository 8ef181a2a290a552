"""The interfaces between the parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from zope.interface import Attribute, Interface

from tagcache.model.activity import TagActivity
from tagcache.model.drafts import Draft
from tagcache.model.fetched import Fetched, FreshCounts
from tagcache.model.limits import Limits
from tagcache.model.statistics import Counters, EngineTotals, Totals
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import Consistency, EntryView, Saved, TagMeasure, TagSize

if TYPE_CHECKING:
    # The memory engine must not need Twisted.
    from twisted.internet.defer import Deferred

    from tagcache.engine.entry import Entry

T = TypeVar("T")

# By key, an object that differs after every change of the entry.
Versions: TypeAlias = "Mapping[bytes, object]"


class IMeasured(Interface):
    """What a cache can report about itself at once, almost for free."""

    memory: int = Attribute("The approximate bytes that all entries and their indexes take.")
    max_memory: int = Attribute("The bytes that they may take; 0: no limit.")
    backlog: int = Attribute("How many entries were removed but still use memory.")

    def counters() -> Counters:
        """Return the counts since the start."""

    def held() -> Totals:
        """Return the totals, which include expired entries that are not removed yet."""


class IMaintained(IMeasured):
    """Maintenance of all entries in this process, of one cache or of several.

    Work is a generator that yields often; see ICache.
    """

    limits: Limits = Attribute("The limits of an entry; may be replaced while running.")
    on_garbage: Callable[[], None] = Attribute("Called when there is something to reclaim.")

    def __len__() -> int:
        """Return how many entries use memory: live ones, expired ones, and the backlog."""

    def flush() -> Generator[None, None, int]:
        """Work that removes every entry, and returns how many."""

    def reclaim() -> Iterator[None]:
        """Free the memory of removed entries, yielding after each."""

    def sweep() -> Iterator[None]:
        """Remove expired entries, yielding after each."""

    def saved() -> Iterator[Saved]:
        """Yield every entry for a snapshot, oldest first; nothing may change in the meantime.

        The entries of one database come after those of another.
        """

    def restore(entry: Saved, downtime: float) -> bool:
        """Store an entry of a snapshot that is ``downtime`` seconds old; False if it expired.

        Raises like ``put``, and InvalidDatabase.
        """


class ICache(IMaintained):
    """A tag-aware cache of byte strings.

    Keys, values and tags are ``bytes``. ``ttl_ms`` is milliseconds; None and 0 both mean the
    default. No method sees an entry that has expired. A method that raises, even a MemoryError,
    has changed nothing.

    Invalidations are work: a generator that yields often, so that the caller can do other things
    in between, and returns how many entries were removed. Nothing happens before it runs. All
    matching entries disappear at once, whatever their number; if there are many, ``reclaim`` frees
    their memory later. With ``soft``, those that have a grace become stale.
    """

    plain: Any = Attribute("The PlainRequests of the native core; None without the core.")

    def get(key: bytes, now: float | None = None) -> bytes | None:
        """Return the value, or None; counts a hit or a miss.

        ``now`` is the cache's monotonic time in seconds, if the caller has just read it.
        """

    def get_many(keys: Collection[bytes], now: float | None = None) -> list[bytes | None]:
        """Return what ``get`` returns for each of the keys, atomically."""

    def peek(key: bytes) -> Entry | None:
        """Return the whole entry, or None; count nothing. The caller must not change it."""

    def created_ms(entry: Entry) -> int:
        """Return when an entry was stored, in milliseconds since 1970 by the current wall clock."""

    def put(key: bytes, value: bytes, tags: Collection[bytes], ttl_ms: int | None) -> int | None:
        """Store, replacing value, tags, TTL and creation time.

        Returns the effective TTL in milliseconds, or None for an entry that does not expire.
        Raises KeyTooLong, ValueTooLarge, TooManyTags, TagTooLong, OutOfMemory.
        """

    def put_with(
        key: bytes, value: bytes, options: StoreOptions, now: float | None = None
    ) -> int | None:
        """Like ``put``, but check tags and TTL only if these options have not been checked."""

    def add(key: bytes, value: bytes, tags: Collection[bytes], ttl_ms: int | None) -> bool:
        """Store only if the key is absent; return whether it was stored. Raises like ``put``."""

    def increment(key: bytes, by: int, tags: Collection[bytes], ttl_ms: int | None) -> int:
        """Add ``by`` to a stored integer and return the result; an absent key starts at 0.

        The TTL restarts; a TTL or tags that are given replace the old ones.
        Raises NotAnInteger, IntegerOverflow, and like ``put``.
        """

    def decrement(key: bytes, by: int, tags: Collection[bytes], ttl_ms: int | None) -> int:
        """Subtract ``by``; the smallest 64-bit integer always overflows. See ``increment``."""

    def touch(key: bytes, ttl_ms: int | None) -> bool:
        """Start a new time to live, like ``put``; return whether the entry was there.

        The entry counts as stored now, but not as a put.
        """

    def delete(key: bytes) -> bool:
        """Remove one entry; return whether it was there."""

    def draft(keys: Collection[bytes], counts: bool = False) -> Draft:
        """Return a draft of these entries as they are now; ``counts``: count hits and misses."""

    def carry_out(draft: Draft) -> None:
        """Make the changes of the draft. Raises like ``put``, before it changes anything.

        Only OutOfMemory may be raised after some changes were made. Nothing else may happen between
        ``draft`` and this.
        """

    def version(key: bytes) -> object:
        """Return an object that differs after every change of the entry, which may be absent.

        The caller must keep the object for as long as it compares it.
        """

    def invalidate_tag(tag: bytes, soft: bool = False) -> Generator[None, None, int]:
        """Work that removes every entry that carries the tag, and returns how many."""

    def invalidate_any(tags: Collection[bytes], soft: bool = False) -> Generator[None, None, int]:
        """Work that removes every entry that carries at least one of the tags."""

    def invalidate_all(tags: Collection[bytes], soft: bool = False) -> Generator[None, None, int]:
        """Work that removes every entry that carries all of the tags; none for no tags."""

    def invalidate_keys(keys: Collection[bytes], soft: bool = False) -> Generator[None, None, int]:
        """Work that removes the entries with these keys."""

    def keys_by_tag(tag: bytes) -> Generator[None, None, list[bytes]]:
        """Work that returns the keys of the entries with the tag, atomically, in no order."""

    def scan_any(tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield the entries that carry at least one of the tags, each once; see ``scan``."""

    def scan_all(tags: Collection[bytes]) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield the entries that carry all of the tags; none for no tags. See ``scan``."""

    def scan(prefix: bytes) -> Iterator[tuple[bytes, Entry] | None]:
        """Yield the entries whose keys begin with ``prefix``, the last stored first.

        Yields None for each entry that does not match, so that the caller can do other things.
        Entries that are stored or removed after the start are left out.
        """

    def scan_keys(
        cursor: int, count: int | None, wanted: Callable[[bytes], bool] | None
    ) -> Generator[None, None, tuple[int, list[bytes]]]:
        """Work that returns what IEngine.scan_keys returns."""

    def random_key() -> bytes | None:
        """Return a key at random, or None if there is none."""

    def scan_tags(prefix: bytes) -> Iterator[tuple[bytes, int, int] | None]:
        """Yield (tag, keys, bytes) for each tag that begins with ``prefix``, in no order.

        ``bytes`` is the length of its entries' keys and values. Yields None in between, as
        ``scan`` does.
        """

    def totals() -> Totals:
        """Remove expired entries, then return the totals.

        ``tags`` and ``bytes`` still count the entries of the ``backlog``.
        """

    def activity(tag: bytes) -> TagActivity:
        """Return the activity of a tag, if it is one of the busiest."""

    def check() -> Generator[None, None, Consistency]:
        """Work that checks whether entries, indexes and totals agree, and returns its findings.

        The cache can be used in the meantime; a flush restarts the check. If there are very many
        tags, the lengths of their names are only checked if no tag is added or removed meanwhile.
        """


class ISession(Interface):
    """The operations of one client on the entries of an engine.

    Keys, values and tags are ``bytes``; ``ttl_ms`` is milliseconds, None and 0 both mean the
    default. Every method returns its result, or a Deferred of it. It raises a CommandError at
    once, or the Deferred fails with it: BackendUnavailable if the engine cannot be reached.
    The calls of one session that concern one key are executed in the order of the calls.
    """

    def get(key: bytes) -> bytes | Deferred[bytes | None] | None:
        """Return the value, or None; count a hit or a miss."""

    def put(
        key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | Deferred[int | None] | None:
        """Store, and return the effective TTL in milliseconds; None: the entry does not expire.

        Raises KeyTooLong, ValueTooLarge, TooManyTags, TagTooLong, OutOfMemory.
        """

    def put_with(
        key: bytes, value: bytes, options: StoreOptions
    ) -> int | Deferred[int | None] | None:
        """Like ``put``, with options that many calls share."""

    def add(
        key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> bool | Deferred[bool]:
        """Store only if the key is absent; return whether it was stored. Raises like ``put``."""

    def increment(
        key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | Deferred[int]:
        """Add ``by`` to a stored integer and return the result; an absent key starts at 0.

        The TTL restarts; a TTL or tags that are given replace the old ones.
        Raises NotAnInteger, IntegerOverflow, and like ``put``.
        """

    def decrement(
        key: bytes, by: int = 1, tags: Collection[bytes] = (), ttl_ms: int | None = None
    ) -> int | Deferred[int]:
        """Subtract ``by``; the smallest 64-bit integer always overflows. See ``increment``."""

    def touch(key: bytes, ttl_ms: int | None = None) -> bool | Deferred[bool]:
        """Start a new time to live; return whether the entry was there."""

    def delete(key: bytes) -> bool | Deferred[bool]:
        """Remove one entry; return whether it was there."""

    def get_many(
        keys: Sequence[bytes],
    ) -> list[bytes | None] | Deferred[list[bytes | None]]:
        """Return what ``get`` returns for each of the keys, not necessarily atomically."""

    def update(
        keys: Collection[bytes], change: Callable[[Draft], T], counts: bool = False
    ) -> T | Deferred[T]:
        """Let ``change`` read and change these entries, atomically.

        Returns what ``change`` returns. It may be called again if another server has changed an
        entry meanwhile, so it must only read and change the draft. ``counts``: count a hit or a
        miss for each key. Raises like ``put``; CrossPartition if the entries are in different
        partitions; and whatever ``change`` raises, in which case nothing is changed.
        """

    def versions(keys: Collection[bytes]) -> Versions | Deferred[Versions]:
        """Return the state of these entries, for ``transact``."""

    def transact(
        unchanged: Versions, keys: Collection[bytes], run: Callable[[ISession, IEngine], T]
    ) -> T | Deferred[T | None] | None:
        """Call ``run`` so that everything it does is atomic, and return its result.

        ``run`` gets a session and an engine, whose methods return no Deferreds; ``keys`` are those
        of the entries that it reads or changes. Returns None, and does nothing, if an entry of
        ``unchanged`` has changed. See ``update``.
        """

    def fetch(key: bytes, lease_ms: int) -> Fetched | Deferred[Fetched]:
        """Look up a key; if it has no entry, take its lease, unless another client has it.

        The holder of a lease computes the value and calls ``fill``, or ``release``, within
        ``lease_ms`` milliseconds. A stale entry is returned if there is one. Counts a hit or a
        miss. Raises KeyTooLong.
        """

    def fill(token: int, key: bytes, value: bytes, options: StoreOptions) -> bool | Deferred[bool]:
        """Store the value for which a lease was granted, and end the lease.

        Returns False, and stores nothing, if the value may be outdated: since the lease was
        granted, the key was stored, removed or invalidated, or a tag of the value was
        invalidated, or everything was removed; or if ``token`` is not that of the key's current
        lease. Raises like ``put``; then the lease stays.
        """

    def release(token: int, key: bytes) -> bool | Deferred[bool]:
        """End a lease without a value; return whether it still existed."""

    def invalidate_tag(tag: bytes, soft: bool = False) -> int | Deferred[int]:
        """Remove every entry that carries the tag, atomically; return how many.

        With ``soft``, entries that have a grace become stale.
        """

    def invalidate_any(tags: Collection[bytes], soft: bool = False) -> int | Deferred[int]:
        """Remove every entry that carries at least one of the tags, atomically."""

    def invalidate_all(tags: Collection[bytes], soft: bool = False) -> int | Deferred[int]:
        """Remove every entry that carries all of the tags, atomically; none for no tags."""

    def invalidate_keys(keys: Collection[bytes], soft: bool = False) -> int | Deferred[int]:
        """Remove the entries with these keys."""

    def flush() -> int | Deferred[int]:
        """Remove every entry, and end all leases; return the number of entries."""


class IEngine(IMeasured):
    """Where entries are kept: in this process, or in servers that several processes share.

    Every method returns its result, or a Deferred of it (see ISession), except those of IMeasured,
    and ``activity``, ``describe``, ``fresh_counts`` and ``open_session``.
    """

    limits: Limits = Attribute("The limits of an entry; may be replaced while running.")
    session: ISession = Attribute("A session for calls that belong to no connection.")
    store: ICache | None = Attribute(
        "The cache in this process that answers plain look-ups at once, or None."
    )
    eviction_policy: str | None = Attribute("What is evicted when memory is full; None: nothing.")
    trouble: str = Attribute("Why the engine cannot be used now; empty while it can.")
    on_lease_end: Callable[[bytes], None] = Attribute(
        "Called with the key of a lease that ended early."
    )

    def open_session() -> ISession:
        """Return a session for one connection."""

    def peek(key: bytes) -> EntryView | Deferred[EntryView | None] | None:
        """Return the whole entry, or None; count nothing."""

    def peek_many(
        keys: Sequence[bytes],
    ) -> list[EntryView | None] | Deferred[list[EntryView | None]]:
        """Return what ``peek`` returns for each of the keys, not necessarily atomically."""

    def keys_by_tag(tag: bytes) -> list[bytes] | Deferred[list[bytes]]:
        """Return the keys of the entries that carry the tag, atomically, in no order."""

    def search(
        tags: Sequence[bytes], every: bool = False, offset: int = 0, limit: int | None = None
    ) -> list[EntryView] | Deferred[list[EntryView]]:
        """Return entries that carry any, or ``every``, one of the tags, without their values."""

    def newest(
        prefix: bytes, offset: int, limit: int
    ) -> list[EntryView] | Deferred[list[EntryView]]:
        """Return entries whose keys begin with ``prefix``, the last stored first, no values."""

    def scan_keys(
        cursor: int, count: int | None = None, wanted: Callable[[bytes], bool] | None = None
    ) -> tuple[int, list[bytes]] | Deferred[tuple[int, list[bytes]]]:
        """Return the next cursor, 0 at the end, and keys from ``cursor`` on; 0 is the start.

        About ``count`` keys are looked at, or all; those for which ``wanted`` is false are left
        out. A key that exists throughout a scan is returned at least once.
        """

    def random_key() -> bytes | Deferred[bytes | None] | None:
        """Return a key at random, or None if there is none."""

    def count(tags: Sequence[bytes], every: bool = False) -> int | Deferred[int]:
        """Return how many entries ``search`` would find."""

    def count_keys(keys: Sequence[bytes]) -> int | Deferred[int]:
        """Return how many of these keys there are, each counted once."""

    def largest_tags(
        prefix: bytes, most: int, measure: TagMeasure = "keys"
    ) -> list[TagSize] | Deferred[list[TagSize]]:
        """Return at most ``most`` tags that begin with ``prefix``, the largest first."""

    def activity(tag: bytes) -> TagActivity:
        """Return the activity of a tag, as far as it is known."""

    def fresh_counts() -> FreshCounts:
        """Return the counts of leases and stale entries; all 0 if the engine has none."""

    def all_counters() -> Counters | Deferred[Counters]:
        """Return the counts of all servers of this engine."""

    def totals() -> EngineTotals | Deferred[EngineTotals]:
        """Remove expired entries, then return what the engine holds."""

    def check() -> Consistency | Deferred[Consistency]:
        """Check whether entries, indexes and totals agree. The engine remains usable."""

    def describe() -> dict[str, Any]:
        """Return the part of INFO about the engine, as a JSON object."""


class IDatabases(IMeasured):
    """The numbered databases of an engine: each is an IEngine with its own entries and counts.

    A database is created when it is first used, except 0, which always exists. The attributes and
    methods of IMeasured concern all of them together.
    """

    count: int = Attribute("How many databases there may be; their numbers begin with 0.")
    limits: Limits = Attribute("The limits of an entry; may be replaced while running.")

    def __getitem__(number: int) -> IEngine:
        """Return the database with this number. Raises InvalidDatabase."""

    def __iter__() -> Iterator[tuple[int, IEngine]]:
        """Yield number and engine of the databases in use, in the order of their numbers."""

    def flush_all() -> int | Deferred[int]:
        """Remove every entry of every database; return how many."""


class ISerde(Interface):
    """Converts objects to bytes and back, for a client."""

    name = Attribute("its name in options and URLs (str)")

    def dump(value: Any) -> bytes:
        """Return the object as bytes. Raises TypeError or ValueError if that is impossible."""

    def load(data: bytes) -> Any:
        """Return the object; the reverse of ``dump``. Raises ValueError for other data."""
