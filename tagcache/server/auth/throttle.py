"""Slows down password guessing, per address and for all addresses together."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TypeVar

from twisted.logger import Logger

from tagcache.server.observe.log_throttle import LogThrottle

FREE_FAILURES = 5
LONGEST_PAUSE_SECONDS = 30.0
FORGET_SECONDS = 300.0
# The budget of wrong passwords from all addresses: a burst, and then a rate.
MOST_AT_ONCE = 100
PER_SECOND = 10.0
LOOPBACK = "loopback"
_HERE = (LOOPBACK, "unix")
_MOST_GROUPS = 10_000

T = TypeVar("T")
log = Logger(namespace="tagcache.credentials")


@lru_cache(maxsize=_MOST_GROUPS)
def group_of(address: str) -> str:
    """Return the group of ``address``: all addresses that the same client probably controls.

    A group is all of loopback, the /64 of an IPv6 address, or a single IPv4 address, even if it
    is mapped into IPv6.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return address  # "unix"
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    if ip.is_loopback:
        return LOOPBACK
    return str(ip) if ip.version == 4 else f"{IPv6Address(int(ip) >> 64 << 64)}/64"


class Throttle:
    """Counts consecutive failures per group of addresses; after a few, each one doubles a pause.

    During the pause the caller refuses attempts without a check, so that guessing takes time.
    Groups that never gave a right password also share a budget of failures: when it is used up,
    all of them wait until it refills. The last 10,000 groups that gave a right password, and this
    machine itself, then have a separate budget, so that an attacker with many addresses does not
    lock them out. ``monotonic`` returns seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        # group: (failures, end of the pause, time of the last failure)
        self._failures: OrderedDict[str, tuple[int, float, float]] = OrderedDict()
        self._trusted: OrderedDict[str, None] = OrderedDict()
        self._shared = _Budget(monotonic)
        self._reserved = _Budget(monotonic)
        self._used_up = LogThrottle(monotonic=monotonic)

    @property
    def counting(self) -> bool:
        """Whether any failure is counted that a success could reset."""
        return bool(self._failures)

    def pause(self, address: str) -> float:
        """Return for how many seconds attempts from ``address`` are refused; 0.0 if none."""
        group = group_of(address)
        known = self._failures.get(group)
        own = known[1] - self._monotonic() if known else 0.0
        return own if own > 0 else self._budget(group).wait()

    def failed(self, address: str) -> None:
        """Record a failure."""
        now = self._monotonic()
        group = group_of(address)
        count, _, last = self._failures.pop(group, (0, 0.0, now))
        count = 1 if now - last > FORGET_SECONDS else count + 1
        beyond = count - FREE_FAILURES
        pause = min(2.0 ** min(beyond - 1, 10), LONGEST_PAUSE_SECONDS) if beyond > 0 else 0.0
        _put(self._failures, group, (count, now + pause, now))
        self._budget(group).spend()
        if self._shared.wait() and (more := self._used_up.now()) is not None:
            log.warn(
                "many wrong passwords from many addresses: only {rate:g} a second are checked "
                "from addresses that never gave the right one{more}",
                rate=PER_SECOND,
                more=more,
            )

    def succeeded(self, address: str) -> None:
        """Reset the count of failures; a pause that has begun continues."""
        group = group_of(address)
        self._trusted.pop(group, None)
        _put(self._trusted, group, None)
        known = self._failures.pop(group, None)
        if known is not None and known[1] > self._monotonic():
            self._failures[group] = (0, *known[1:])

    def _budget(self, group: str) -> _Budget:
        if self._shared.wait() and (group in _HERE or group in self._trusted):
            return self._reserved
        return self._shared


class _Budget:
    """A token bucket; checks that are in progress when it becomes empty may overdraw it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._left = float(MOST_AT_ONCE)
        self._since = monotonic()

    def wait(self) -> float:
        """Return the seconds until a token is available; 0.0 if one is available now."""
        return max(1 - self._now(), 0.0) / PER_SECOND

    def spend(self) -> None:
        self._left, self._since = self._now() - 1, self._monotonic()

    def _now(self) -> float:
        gained = (self._monotonic() - self._since) * PER_SECOND
        return min(self._left + gained, MOST_AT_ONCE)


def _put(kept: OrderedDict[str, T], group: str, value: T) -> None:
    kept[group] = value
    if len(kept) > _MOST_GROUPS:
        kept.popitem(last=False)
