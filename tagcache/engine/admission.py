"""Check what may be stored, and share equal tag sets and times to live."""

from __future__ import annotations

from tagcache.engine import headroom
from tagcache.engine.store import Store
from tagcache.model.admission import check_tags
from tagcache.model.limits import Limits
from tagcache.model.store_options import NEVER, StoreOptions

# Most entries have the same tag set and time to live as others. Sharing one object for equal ones
# saves memory. The number of remembered objects is bounded: longer tag sets are not shared, and
# when there are too many, all are forgotten.
_SHARED_TAGS = 8192
_SHARED_TAG_BYTES = 512
_SHARED_TTLS = 4096
# Check for free memory each time that so many tag sets are remembered.
_CHECKED_AFTER = 256


class Admission:
    """Checks tags and times to live against ``limits``, and returns shared objects for them."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._limits = limits
        self._shared_tags: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
        self._shared_ttls: dict[float, float] = {}

    def __len__(self) -> int:
        """Return how many tag sets are remembered."""
        return len(self._shared_tags)

    def renew(self, limits: Limits) -> None:
        """Use new limits, and forget the tag sets, which were checked against the old ones."""
        self._limits = limits
        self._shared_tags.clear()

    def check(self, options: StoreOptions) -> None:
        """Check ``options``, and set the effective TTL in them. Raises TooManyTags, TagTooLong."""
        limits = self._limits
        if options.tags:
            options.tags = self.tags(options.tags)
        options.ttl_ms = limits.effective_ttl_ms(options.asked_ms)
        options.ttl = NEVER if options.ttl_ms is None else self.ttl(options.ttl_ms / 1000)
        options.checked = limits

    def tags(self, given: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the tags without repetition. Raises TooManyTags, TagTooLong."""
        shared = self._shared_tags.get(given)
        if shared is not None:
            return shared
        checked = tuple(map(self._store.tags.name, check_tags(self._limits, given)))
        if sum(map(len, given)) <= _SHARED_TAG_BYTES:
            if not len(self) % _CHECKED_AFTER:
                self._give_way()
            if len(self) >= _SHARED_TAGS + self._store.items // 8:
                self._shared_tags.clear()
            self._shared_tags[given] = checked
        return checked

    def _give_way(self) -> None:
        """Forget the tag sets if memory is low: refused stores may have left some, too."""
        try:
            headroom.check()
        except MemoryError:
            self._shared_tags.clear()

    def ttl(self, seconds: float) -> float:
        """Return the time to live as one shared object for all equal ones."""
        if len(self._shared_ttls) >= _SHARED_TTLS:
            self._shared_ttls.clear()
        return self._shared_ttls.setdefault(seconds, seconds)
