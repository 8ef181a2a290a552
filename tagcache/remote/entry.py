"""What a remote engine tells of an entry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """An entry as it was at one moment.

    ``value`` is None in lists; ``size`` is the length of key and value in bytes; ``left_ms`` is
    the time to live that was left, None if it has none; ``stored_us`` is when it was stored, in
    microseconds since 1970 by the clock of the engine; ``ttl_ms`` what it was stored with.
    """

    key: bytes
    value: bytes | None
    tags: tuple[bytes, ...]
    size: int
    stored_us: int
    left_ms: int | None
    ttl_ms: int | None


@dataclass(frozen=True, slots=True)
class Miss:
    """A look-up that found nothing; ``lease`` says before which invalidations that was."""

    lease: int
