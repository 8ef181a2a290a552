"""The types of tagcache.engine.entry in Python; tagcache/native has the same ones in C.

Both pass the same tests. Do not use anything that is not documented here.
"""

from __future__ import annotations

from tagcache.model.int64 import UINT64_MAX
from tagcache.model.store_options import NEVER

# The bytes of an entry without its key and value, of each tag of an entry, and of a tag that few
# entries carry; measured on CPython 3.11.
ENTRY_BYTES = 285
REFERENCE_BYTES = 44
TAG_BYTES = 130


class Links:
    """A place in two rings: the order of storing, and a bucket of the expiry index.

    The rings run through the entries themselves. So an entry is moved or removed in constant time,
    and no list of a million entries is ever copied when it grows; this costs 32 bytes an entry.
    The neighbours are strong references here: code that drops entries without removing them from
    their rings must break the links, or only the garbage collector finds the entries. In the native
    core they are not references, and a freed place leaves its rings.

    A Links that is not an Entry is the end of a ring, or the mark of a scan in it.

    Attributes, to be read only; AttributeError outside the ring:
        older, newer: neighbours in the order of storing, which holds all entries.
        sooner, later: neighbours in the bucket in which the entry waits for its expiry; not set
            for an entry without a time to live.
    """

    __slots__ = ("later", "newer", "older", "sooner")

    older: Links
    newer: Links
    sooner: Links
    later: Links

    def start_rings(self) -> None:
        """Become the end of an empty ring of each kind."""
        self.older = self.newer = self.sooner = self.later = self

    def break_links(self) -> None:
        """Drop the links to all neighbours, which are about to be dropped, too."""
        for name in ("older", "newer", "sooner", "later"):
            if hasattr(self, name):
                delattr(self, name)

    def link_before(self, newer: Links) -> None:
        """Join the order of storing before ``newer``: before its end, as the newest."""
        older = newer.older
        self.older = older
        self.newer = newer
        older.newer = newer.older = self

    def unlink(self) -> None:
        """Leave the order of storing."""
        older, newer = self.older, self.newer
        older.newer = newer
        newer.older = older
        del self.older, self.newer

    def move_before(self, newer: Links) -> None:
        """Do ``unlink`` and ``link_before`` in half the time."""
        following, older = self.newer, self.older
        older.newer = following
        following.older = older
        older = newer.older
        self.older = older
        self.newer = newer
        older.newer = newer.older = self

    def wait_in(self, bucket: Links) -> None:
        """Join a bucket of the expiry index; needs no memory."""
        last = bucket.sooner
        self.sooner = last
        self.later = bucket
        last.later = bucket.sooner = self

    def take_back(self) -> None:
        """Leave the bucket; needs no memory."""
        sooner, later = self.sooner, self.later
        sooner.later = later
        later.sooner = sooner
        del self.sooner, self.later


class Entry(Links):
    """A value with its tags, time to live and age; overwriting it keeps the object.

    Attributes:
        key (read only), value: bytes.
        tags: tuple of bytes without repetition, in the order given; equal ones are shared.
        stored: when it was last stored, in seconds of the cache's monotonic clock.
        ttl: how long it exists from then on, in seconds; NEVER if it has no time to live.
        visited: whether it was read since eviction last passed by.
    """

    __slots__ = ("key", "stored", "tags", "ttl", "value", "visited")

    def __init__(
        self, key: bytes, value: bytes, tags: tuple[bytes, ...], stored: float, ttl: float
    ) -> None:
        self.key = key
        self.value = value
        self.tags = tags
        self.stored = stored
        self.ttl = ttl
        self.visited = False

    @property
    def expires(self) -> float:
        """When it ceases to exist, on the clock of ``stored``."""
        return self.stored + self.ttl

    @property
    def ttl_ms(self) -> int | None:
        """The time to live it was stored with, in milliseconds; None if it has none.

        Beyond 2**53 it is rounded, and never more than 2**64 - 1.
        """
        return None if self.ttl == NEVER else min(round(self.ttl * 1000), UINT64_MAX)


class UsedEntry(Entry):
    """An entry with its neighbours in the order of use: ``colder`` and ``hotter``."""

    __slots__ = ("colder", "hotter")

    colder: UsedEntry
    hotter: UsedEntry

    def start_use(self) -> None:
        """Become the end of an empty order of use."""
        self.colder = self.hotter = self

    def break_links(self) -> None:
        super().break_links()
        del self.colder, self.hotter

    def use_before(self, hotter: UsedEntry) -> None:
        """Join the order of use before ``hotter``: before its end, as the most recent one."""
        colder = hotter.colder
        self.colder = colder
        self.hotter = hotter
        colder.hotter = hotter.colder = self

    def leave_use(self) -> None:
        """Leave the order of use."""
        colder, hotter = self.colder, self.hotter
        colder.hotter = hotter
        hotter.colder = colder
        del self.colder, self.hotter


class Entries(dict[bytes, Entry]):
    """Entries by key; each is stored by its own key.

    It has these operations of a dict: ``get(key)``, ``pop(key, default)``, ``clear``, ``[]``,
    ``in``, ``len``, and iteration, also over ``values()`` or ``items()`` once. A MemoryError
    changes nothing.
    """

    __slots__ = ()

    def copy(self) -> Entries:
        """Return a copy, which is much faster than filling a new one."""
        return Entries(self)

    def last(self) -> Entry:
        """Return an entry; in this version, the newest. Raises KeyError."""
        for entry in reversed(self.values()):
            return entry
        raise KeyError

    def pop_last(self) -> Entry:
        """Remove and return what ``last`` returns. Raises KeyError."""
        return self.popitem()[1]


class StoreFields:
    """The attributes of Store that the native core reads and changes; see Store."""


class SieveHand:
    """The attribute of Sieve that the native core reads; see Sieve."""

    __slots__ = ("hand",)


class TagTotals:
    """The attributes of TagIndex that the native core reads and changes; see TagIndex."""

    __slots__ = ("count_all", "name_bytes", "references", "shards")
