"""Who may do what: the one user whom the configuration names."""

from __future__ import annotations

from hmac import compare_digest

from tagcache.config.settings import Settings


class Credentials:
    """The user name and the password that the doors ask for."""

    def __init__(self, settings: Settings) -> None:
        self.configure(settings)

    def configure(self, settings: Settings) -> None:
        """Take new settings."""
        self._username = settings.authentication.username.encode()
        self._password = settings.authentication.password.encode()

    def accepts(self, username: bytes, password: bytes) -> bool:
        """Say whether both are right, in a time that does not tell which one is wrong."""
        name_is_right = compare_digest(username, self._username)
        password_is_right = compare_digest(password, self._password)
        return name_is_right and password_is_right
