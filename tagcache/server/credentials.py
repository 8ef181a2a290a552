"""Who may do what: the one user, his password, and the tokens given out for it."""

from __future__ import annotations

import base64
import binascii
import secrets
import string
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from tagcache.config.loading import Configuration, Origin
from tagcache.config.rewriting import rewrite
from tagcache.config.settings import DEFAULT_PASSWORD, DEFAULT_USERNAME, Settings
from tagcache.errors import CredentialsFixed
from tagcache.server.passwords import hash_password, is_hash, matches
from tagcache.server.throttle import Throttle
from tagcache.server.tokens import Tokens

_MOST_VERIFIED = 1000
_ALPHABET = string.ascii_letters + string.digits
_USERNAME = ("authentication", "username")
_PASSWORD = ("authentication", "password")

log = Logger(namespace="tagcache.credentials")


class Credentials:
    """The one store behind HTTP, the line protocol's AUTH and the command line.

    ``new_file`` is where to write changed credentials if no file was read. ``in_thread`` runs a
    slow function and returns a Deferred of its result; ``choose`` picks one of a sequence at
    random, ``random_bytes`` returns so many random bytes.
    """

    def __init__(
        self,
        configuration: Configuration,
        new_file: Path,
        monotonic: Callable[[], float],
        in_thread: Callable[..., Deferred[Any]],
        choose: Callable[[Sequence[str]], str] = secrets.choice,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._configuration = configuration
        self._path = configuration.path or new_file
        self._in_thread = in_thread
        self._choose = choose
        self._random_bytes = random_bytes
        self.throttle = Throttle(monotonic)
        authentication = configuration.settings.authentication
        self._tokens = Tokens(authentication.token_lifetime_seconds, monotonic, choose)
        self._username = authentication.username
        self._stored = authentication.password
        self._key = random_bytes(32)
        self._verified: set[bytes] = set()
        self._seen: dict[int, bytes] = {}
        if not is_hash(self._stored) and configuration.origins[_PASSWORD] is Origin.FILE:
            log.warn(
                "{path} holds the password in plain text; `tagcache change-password` (or any "
                "change of it over HTTP) replaces it by its hash",
                path=str(configuration.path),
            )

    @property
    def token_lifetime(self) -> int:
        """How long a token is valid, in seconds."""
        return int(self._tokens.lifetime)

    def configure(self, settings: Settings) -> None:
        """Take new settings; changed credentials void all tokens."""
        authentication = settings.authentication
        self._tokens.lifetime = authentication.token_lifetime_seconds
        if (authentication.username, authentication.password) != (self._username, self._stored):
            self._use(authentication.username, authentication.password)

    def is_default(self) -> bool:
        """Whether the default password stands. A hash is not looked into here."""
        return self._stored == DEFAULT_PASSWORD

    def verify(self, username: bytes, password: bytes, address: str) -> Deferred[bool]:
        """Say whether both are right; while ``address`` has to pause, nothing is right."""
        if self.throttle.pause(address):
            return succeed(False)
        name_is_right = secrets.compare_digest(username, self._username.encode())
        stored = self._stored
        if is_hash(stored):
            checked = self._in_thread(matches, stored, password)
        else:
            checked = succeed(matches(stored, password))

        def conclude(password_is_right: bool) -> bool:
            # What was changed meanwhile does not count any more.
            right = name_is_right and password_is_right and stored == self._stored
            if right:
                self.throttle.succeeded(address)
            else:
                # While the address has to pause, no more of these come.
                log.warn("authentication from {address} failed", address=address)
                self.throttle.failed(address)
            return right

        return checked.addCallback(conclude)

    def known_header(self, header: bytes) -> bool | None:
        """Check an ``Authorization`` header as far as that costs nothing; None: not known yet."""
        if self._seen.get(id(header)) is header:
            return True
        if header[:6] == b"Basic ":
            if self._digest(header) in self._verified:
                # A connection that repeats its head brings the very same object again.
                if len(self._seen) >= _MOST_VERIFIED:
                    self._seen.clear()
                self._seen[id(header)] = header
                return True
            return None if _basic(header) is not None else False
        return header[:7] == b"Bearer " and self._tokens.is_valid(header[7:])

    def verify_header(self, header: bytes, address: str) -> Deferred[bool]:
        """Check an ``Authorization: Basic`` header, and remember it if it is right."""
        pair = _basic(header)
        if pair is None:
            return succeed(False)
        checked = self.verify(*pair, address)
        return checked.addCallback(self._remember, self._digest(header))

    def accepts_token(self, token: bytes) -> bool:
        """Say whether a token is valid."""
        return self._tokens.is_valid(token)

    def issue_token(self) -> str:
        """Return a new token, for someone who has been verified."""
        return self._tokens.issue()

    def change_password(self, password: str) -> Deferred[None]:
        """Set and persist a new password; all tokens become void.

        Fails with CredentialsFixed if the environment sets it, ConfigurationError if the file
        can not be written.
        """
        return self._change(self._username, password)

    def rotate(self) -> Deferred[tuple[str, str]]:
        """Set and persist a random user name and password; returns both. Fails as the above."""
        username = "user-" + "".join(self._choose(_ALPHABET) for _ in range(12))
        password = "".join(self._choose(_ALPHABET) for _ in range(32))
        return self._change(username, password).addCallback(lambda _: (username, password))

    def reset(self) -> None:
        """Go back to the default user and password, in the file too. Raises as the above."""
        self._persist({_USERNAME: None, _PASSWORD: None})
        self._use(DEFAULT_USERNAME, DEFAULT_PASSWORD)

    def _change(self, username: str, password: str) -> Deferred[None]:
        self._check_not_fixed()

        def store(hashed: str) -> None:
            self._persist({_USERNAME: username, _PASSWORD: hashed})
            self._use(username, hashed)

        return self._in_thread(hash_password, password, self._random_bytes).addCallback(store)

    def _check_not_fixed(self) -> None:
        for name, variable in ((_USERNAME, "TAGCACHE_USERNAME"), (_PASSWORD, "TAGCACHE_PASSWORD")):
            if self._configuration.origins[name] is Origin.ENVIRONMENT:
                raise CredentialsFixed(
                    f"the environment variable {variable} sets it, and would again at the next "
                    "start"
                )

    def _persist(self, changes: dict[tuple[str, str], str | list[str] | None]) -> None:
        self._check_not_fixed()
        rewrite(self._path, changes)
        log.info("credentials changed, and written to {path}", path=str(self._path))

    def _use(self, username: str, stored: str) -> None:
        self._username = username
        self._stored = stored
        self._verified.clear()
        self._seen.clear()
        self._tokens.revoke_all()

    def _digest(self, header: bytes) -> bytes:
        return blake2b(header, key=self._key, digest_size=32).digest()

    def _remember(self, right: bool, digest: bytes) -> bool:
        if right:
            if len(self._verified) >= _MOST_VERIFIED:
                self._verified.clear()
                self._seen.clear()
            self._verified.add(digest)
        return right


def _basic(header: bytes) -> tuple[bytes, bytes] | None:
    """Return user name and password of a strictly well-formed Basic header."""
    try:
        text = base64.b64decode(header[6:], validate=True)
    except (binascii.Error, ValueError):
        return None
    if base64.b64encode(text) != header[6:] or b":" not in text:
        return None
    username, _, password = text.partition(b":")
    return username, password
