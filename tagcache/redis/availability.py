"""Record whether Redis can be used, and if not, the reason."""

from __future__ import annotations

from twisted.logger import Logger

log = Logger(namespace="tagcache.backend")


class Availability:
    """Records whether the engine at ``place`` can be used, and logs each change once.

    ``trouble`` is the reason why it cannot be used, empty while it can.
    """

    def __init__(self, place: str) -> None:
        self.trouble = "not reached yet"
        self.place = place
        self._last_error = ""
        self._failed = False
        self._logged = False

    def begin(self) -> None:
        """Begin an attempt to use the engine."""
        self._failed = False

    def note(self, error: str) -> None:
        """Record an error that made a command fail."""
        self._last_error = error
        self._failed = True
        if not self.trouble:
            self.lost(error)

    def lost(self, why: str) -> None:
        """Record that an attempt to use the engine failed."""
        self.trouble = why
        if not self._logged:
            self._logged = True
            log.error(
                "the engine {place} cannot be used: {why}. Commands answer ERR "
                "backend_unavailable until it can be used again",
                place=self.place,
                why=why,
            )

    def timed_out(self, error: str) -> None:
        """Record that an attempt timed out. An earlier error of a command is more helpful."""
        self.lost(self._last_error or error)

    def reached(self) -> None:
        """Record that an attempt succeeded. It counts only if no command failed meanwhile."""
        if self._failed:
            return
        if self.trouble:
            log.info("the engine {place} can be used", place=self.place)
        self.trouble = ""
        self._last_error = ""
        self._logged = False
