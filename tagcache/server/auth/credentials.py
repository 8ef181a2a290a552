"""The credentials of the one user, and the tokens issued for them."""

from __future__ import annotations

import base64
import binascii
import math
import secrets
import string
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from tagcache.config.loading import Configuration, Origin
from tagcache.config.passwords import hash_password, is_hash, matches
from tagcache.config.rewriting import rewrite
from tagcache.config.settings import DEFAULT_PASSWORD, DEFAULT_USERNAME, Settings
from tagcache.errors import CredentialsFixed, OutOfMemory
from tagcache.server.auth.throttle import Throttle, group_of
from tagcache.server.auth.tokens import Tokens

_MOST_VERIFIED = 1000
_MOST_CHECKED = 64
_MOST_CHECKED_OF_GROUP = 4
_ALPHABET = string.ascii_letters + string.digits
_USERNAME = ("authentication", "username")
_PASSWORD = ("authentication", "password")

log = Logger(namespace="tagcache.credentials")


class Credentials:
    """The credentials behind HTTP, AUTH and the command line.

    ``new_file`` is where changed credentials are written if no file was read. ``in_thread`` runs a
    slow function and returns a Deferred of its result. ``choose`` picks an item of a sequence at
    random; ``random_bytes`` returns that many random bytes. ``on_change`` is called when the
    credentials have changed, ``on_recheck`` when headers that were right must be checked again.
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
        self.on_change: Callable[[], None] = lambda: None
        self.on_recheck: Callable[[], None] = lambda: None
        authentication = configuration.settings.authentication
        self._tokens = Tokens(authentication.token_lifetime_seconds, monotonic, choose)
        self._username = authentication.username
        self._stored = authentication.password
        self._key = random_bytes(32)
        self._verified: set[bytes] = set()
        self._seen: dict[int, bytes] = {}
        self._checking: dict[tuple[str, bytes], list[Any]] = {}
        self._generation = 0
        self._is_default = matches(self._stored, DEFAULT_PASSWORD.encode())

    @property
    def username(self) -> str:
        """The name of the user."""
        return self._username

    @property
    def token_lifetime(self) -> int:
        """How long a token is valid, in seconds."""
        return int(self._tokens.lifetime)

    def configure(self, settings: Settings) -> None:
        """Take new settings; changed credentials make all tokens invalid."""
        authentication = settings.authentication
        self._tokens.lifetime = authentication.token_lifetime_seconds
        if (authentication.username, authentication.password) != (self._username, self._stored):
            stored = authentication.password
            self._use(authentication.username, stored, stored == DEFAULT_PASSWORD)
            if is_hash(stored):
                known = self._slowly(matches, stored, DEFAULT_PASSWORD.encode())
                known.addCallback(self._note_default, self._generation)
                known.addErrback(Failure.trap, OutOfMemory)

    def _note_default(self, is_default: bool, generation: int) -> None:
        if generation == self._generation:
            self._is_default = is_default

    def is_default(self) -> bool:
        """Return whether the password is the default one, plain or as a hash."""
        return self._is_default

    def verify(self, username: bytes, password: bytes, address: str) -> Deferred[bool]:
        """Return whether both are right; during a pause of ``address``, the answer is always False.

        Equal attempts share one check, and the number of concurrent checks is limited, so that
        parallel attempts do not make guessing cheaper. Fails with OutOfMemory if the system cannot
        start a thread.
        """
        if self.throttle.pause(address):
            return succeed(False)
        stored = self._stored
        if not is_hash(stored):
            right = matches(stored, password)
            return succeed(self._conclude(right, username, stored, address))
        group = group_of(address)
        question = (group, self._digest(b"%d:" % len(username) + username + password))
        waiting = self._checking.get(question)
        if waiting is None:
            of_group = sum(1 for each in self._checking if each[0] == group)
            if of_group >= _MOST_CHECKED_OF_GROUP or len(self._checking) >= _MOST_CHECKED:
                return succeed(False)
            waiting = self._checking[question] = []
            checked = self._slowly(matches, stored, password)
            checked.addCallback(self._conclude, username, stored, address)
            checked.addBoth(self._answer, question)
        if question not in self._checking:
            return succeed(waiting[0])  # answered synchronously
        answer: Deferred[bool] = Deferred()
        waiting.append(answer)
        return answer

    def _conclude(self, right: bool, username: bytes, stored: str, address: str) -> bool:
        # Always compare both, so that the time does not reveal which is wrong. Credentials that
        # changed in the meantime are wrong.
        name_is_right = secrets.compare_digest(username, self._username.encode())
        if right and name_is_right and stored == self._stored:
            self.throttle.succeeded(address)
            return True
        # The number of these lines is limited, because nothing is checked during a pause.
        log.warn("authentication from {address} failed", address=address)
        self.throttle.failed(address)
        # The next right password of the address resets this count.
        self.on_recheck()
        return False

    def _answer(self, outcome: Any, question: tuple[str, bytes]) -> None:
        waiting = self._checking.pop(question)
        if not waiting:
            waiting.append(outcome)
        for each in waiting:
            if isinstance(each, Deferred):
                each.callback(outcome)

    def known_header(self, header: bytes, address: str) -> bool | None:
        """Return whether an ``Authorization`` header is right; None if only a slow check can tell.

        A Basic header that was right before from the same address is accepted at once. A right
        password resets the count of failures.
        """
        known = self._known(header, address)
        if known and self.throttle.counting and header[:6] == b"Basic ":
            self.throttle.succeeded(address)
        return known

    def _known(self, header: bytes, address: str) -> bool | None:
        if self._seen.get(id(header)) is header:
            return True
        if header[:6] == b"Basic ":
            if self._digest(header, address) in self._verified:
                # A connection that repeats its head passes the same object again.
                if len(self._seen) >= _MOST_VERIFIED:
                    self._seen.clear()
                self._seen[id(header)] = header
                return True
            return None if _basic(header) is not None else False
        return header[:7] == b"Bearer " and self._tokens.is_valid(header[7:])

    def valid_until(self, header: bytes) -> float:
        """Return until when a header that was just found right needs no check.

        It is in seconds of the monotonic clock, infinite for a password, and 0.0 if the header
        needs a check. A call of ``on_recheck`` ends it earlier.
        """
        if header[:6] == b"Basic ":
            return math.inf if self._seen.get(id(header)) is header else 0.0
        return self._tokens.expiry(header[7:])

    def verify_header(self, header: bytes, address: str) -> Deferred[bool]:
        """Return whether an ``Authorization: Basic`` header is right, and remember it if so."""
        pair = _basic(header)
        if pair is None:
            return succeed(False)
        checked = self.verify(*pair, address)
        return checked.addCallback(self._remember, self._digest(header, address))

    def accepts_token(self, token: bytes) -> bool:
        """Return whether a token is valid."""
        return self._tokens.is_valid(token)

    def issue_token(self) -> str:
        """Return a new token, for a client that has been verified."""
        token = self._tokens.issue()
        # It may have taken the place of another one.
        self.on_recheck()
        return token

    def change_password(self, password: str) -> Deferred[None]:
        """Set and persist a new password; all tokens become invalid.

        Fails with CredentialsFixed if the environment sets it, ConfigurationError if the file
        cannot be written.
        """
        return self._change(self._username, password)

    def rotate(self) -> Deferred[tuple[str, str]]:
        """Set and persist a random user name and password, and return both.

        Fails like ``change_password``.
        """
        username = "user-" + "".join(self._choose(_ALPHABET) for _ in range(12))
        password = "".join(self._choose(_ALPHABET) for _ in range(32))
        return self._change(username, password).addCallback(lambda _: (username, password))

    def reset(self) -> None:
        """Restore the default credentials, also in the file. Raises like ``change_password``."""
        self._persist({_USERNAME: None, _PASSWORD: None})
        self._use(DEFAULT_USERNAME, DEFAULT_PASSWORD, True)

    def _change(self, username: str, password: str) -> Deferred[None]:
        self._check_not_fixed()
        generation = self._generation

        def store(hashed: str) -> None:
            if generation != self._generation:
                raise CredentialsFixed("another client has just changed the credentials")
            self._persist({_USERNAME: username, _PASSWORD: hashed})
            self._use(username, hashed, password == DEFAULT_PASSWORD)

        return self._slowly(hash_password, password, self._random_bytes).addCallback(store)

    def _slowly(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        """Run ``function`` in a thread; fails with OutOfMemory if none can be started."""
        try:
            return self._in_thread(function, *arguments)
        except RuntimeError as error:
            log.error("no thread for a password: {why}", why=str(error))
            return fail(OutOfMemory("the system gives the server no more threads"))

    def _check_not_fixed(self) -> None:
        for name, variable in ((_USERNAME, "TAGCACHE_USERNAME"), (_PASSWORD, "TAGCACHE_PASSWORD")):
            if self._configuration.origins[name] is Origin.ENVIRONMENT:
                raise CredentialsFixed(
                    f"the environment variable {variable} sets it, and would overwrite it at the "
                    "next start"
                )

    def _persist(self, changes: dict[tuple[str, str], str | list[str] | None]) -> None:
        self._check_not_fixed()
        rewrite(self._path, changes)
        log.info("credentials changed, and written to {path}", path=str(self._path))

    def _use(self, username: str, stored: str, is_default: bool) -> None:
        self._generation += 1
        self._is_default = is_default
        self._username = username
        self._stored = stored
        self._verified.clear()
        self._seen.clear()
        self._tokens.revoke_all()
        self.on_recheck()
        self.on_change()

    def _digest(self, text: bytes, address: str = "") -> bytes:
        keyed = blake2b(text, key=self._key, digest_size=32)
        keyed.update(b"\0" + address.encode())
        return keyed.digest()

    def _remember(self, right: bool, digest: bytes) -> bool:
        if right:
            if len(self._verified) >= _MOST_VERIFIED:
                self._verified.clear()
                self._seen.clear()
                self.on_recheck()
            self._verified.add(digest)
        return right


def _basic(header: bytes) -> tuple[bytes, bytes] | None:
    """Return the user name and password of a well-formed Basic header; None for any other."""
    try:
        text = base64.b64decode(header[6:], validate=True)
    except (binascii.Error, ValueError):
        return None
    if base64.b64encode(text) != header[6:] or b":" not in text:
        return None
    username, _, password = text.partition(b":")
    return username, password
