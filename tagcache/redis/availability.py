"""Whether Redis can be used, and why not."""

from __future__ import annotations

from twisted.logger import Logger

log = Logger(namespace="tagcache.backend")


class Availability:
    """Knows whether the engine at ``place`` can be used, and logs each change once.

    ``trouble`` says why it cannot be used; it is empty while it can.
    """

    def __init__(self, place: str) -> None:
        self.trouble = "not reached yet"
        self.place = place
        self._last_error = ""
        self._logged = False

    def note(self, error: str) -> None:
        """Note an error that keeps commands from being carried out."""
        self._last_error = error
        if not self.trouble:
            self.lost(error)

    def lost(self, why: str) -> None:
        """Note that an attempt to use it failed."""
        self.trouble = why
        if not self._logged:
            self._logged = True
            log.error(
                "the engine {place} cannot be used: {why}. Commands answer ERR "
                "backend_unavailable; it is tried again and again",
                place=self.place,
                why=why,
            )

    def timed_out(self, error: str) -> None:
        """Note that an attempt failed; what commands met before says more than ``error``."""
        self.lost(self._last_error or error)

    def reached(self) -> None:
        """Note that an attempt to use it succeeded."""
        if self.trouble:
            log.info("the engine {place} can be used", place=self.place)
        self.trouble = ""
        self._last_error = ""
        self._logged = False
