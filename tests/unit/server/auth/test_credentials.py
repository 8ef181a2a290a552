"""Stored passwords and their file, tokens, throttling and rate limits."""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from tagcache.config.loading import Origin, load
from tagcache.config.passwords import check_hash, hash_password, is_hash, matches
from tagcache.config.rewriting import rewrite
from tagcache.errors import ConfigurationError, CredentialsFixed, OutOfMemory
from tagcache.server.auth.credentials import Credentials
from tagcache.server.auth.rates import Rates
from tagcache.server.auth.throttle import (
    LONGEST_PAUSE_SECONDS,
    MOST_AT_ONCE,
    PER_SECOND,
    Throttle,
    group_of,
)
from tagcache.server.auth.tokens import MOST_TOKENS, Tokens
from tagcache.server.observe.log_throttle import LogThrottle
from tests.helpers import credentials_of, settings_with


@settings(max_examples=5)
@given(st.text(max_size=50))
def test_a_hash_matches_its_password_only(password: str) -> None:
    stored = hash_password(password, secrets.token_bytes)
    assert is_hash(stored)
    assert len(password) < 4 or password not in stored
    check_hash(stored)
    assert matches(stored, password.encode())
    assert not matches(stored, password.encode() + b" ")


def test_the_same_password_has_another_hash_each_time() -> None:
    assert hash_password("x", secrets.token_bytes) != hash_password("x", secrets.token_bytes)


def test_a_plain_password_matches_itself() -> None:
    assert matches("plain", b"plain")
    assert not matches("plain", b"Plain")


@pytest.mark.parametrize(
    "stored",
    [
        "scrypt$",
        "scrypt$1$2$3$4",
        "scrypt$x$8$1$AAAA$AAAA",
        "scrypt$16383$8$1$AAAA$AAAA",
        "scrypt$1073741824$8$1$AAAA$AAAA",
        "scrypt$16384$0$1$AAAA$AAAA",
        "scrypt$16384$8$1$AAAA$",
        "scrypt$16384$8$1$A$AAAA",
    ],
)
def test_hashes_that_cannot_be_used(stored: str) -> None:
    with pytest.raises(ValueError, match="scrypt hash"):
        check_hash(stored)


def test_rewriting_keeps_everything_else(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text(
        "# head\n\n[server] # the server\n# the port\ntcp_port = 5 # five\nhost = '::1'\n"
        "\n[authentication]\npassword = old\n# tail\n"
    )
    rewrite(path, {("authentication", "password"): "new, #1", ("cache", "max_key_length"): "7"})
    text = path.read_text()
    for line in ("# head", "[server] # the server", "# the port", "tcp_port = 5 # five", "# tail"):
        assert line in text.splitlines(), line
    assert matches(load(path, {}).settings.authentication.password, b"new, #1")
    assert load(path, {}).settings.cache.max_key_length == 7
    rewrite(path, {("authentication", "password"): None, ("cache", "nothing"): None})
    assert "new, #1" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600


def test_rewriting_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.conf"
    path.write_text("[server]\ntcp_port = 5\n")

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        rewrite(path, {("server", "tcp_port"): "6"})
    assert path.read_text() == "[server]\ntcp_port = 5\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_read_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    for content in (b"[server\n", b"\xff"):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match="was not changed"):
            rewrite(path, {("server", "tcp_port"): "6"})
        assert path.read_bytes() == content


def test_rewriting_follows_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real.conf"
    real.write_text("[server]\ntcp_port = 5\n")
    link = tmp_path / "link.conf"
    link.symlink_to(real)
    rewrite(link, {("server", "tcp_port"): "6"})
    assert link.is_symlink()
    assert load(real, {}).settings.server.tcp_port == "6"


def result(deferred: Deferred[Any]) -> Any:
    found: list[Any] = []
    deferred.addBoth(found.append)
    return found[0]


def test_changing_the_password_voids_tokens_and_remembered_headers(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("")
    store = credentials_of(settings_with(), Clock().seconds, path)
    header = b"Basic YWRtaW46cGFzc3dvcmQ="
    token = store.issue_token().encode()
    assert store.known_header(header, "1.2.3.4") is None
    assert result(store.verify_header(header, "1.2.3.4")) is True
    assert store.known_header(header, "1.2.3.4") is True
    # The same header as another object, and from another address.
    assert store.known_header(bytes(bytearray(header)), "1.2.3.4") is True
    assert store.known_header(bytes(bytearray(header)), "4.3.2.1") is None
    assert store.is_default()
    result(store.change_password("new"))
    assert store.known_header(header, "1.2.3.4") is None
    assert result(store.verify_header(header, "1.2.3.4")) is False
    assert not store.accepts_token(token)
    assert not store.is_default()
    assert result(store.verify(b"admin", b"new", "1.2.3.4")) is True
    assert is_hash(load(path, {}).settings.authentication.password)


class Threads:
    """Threads whose functions run when the test says so."""

    def __init__(self) -> None:
        self.started: list[tuple[Deferred[Any], Any]] = []

    def __call__(self, function: Any, *args: Any) -> Deferred[Any]:
        self.started.append((Deferred(), lambda: function(*args)))
        return self.started[-1][0]

    def run(self, number: int = 0) -> None:
        deferred, function = self.started.pop(number)
        deferred.callback(function())


def slow_store(tmp_path: Path) -> tuple[Credentials, Threads]:
    threads = Threads()
    hashed = hash_password("right", secrets.token_bytes)
    configuration = replace(
        load(None, {}), settings=settings_with(authentication={"password": hashed})
    )
    return Credentials(configuration, tmp_path / "a.conf", Clock().seconds, threads), threads


def test_many_guesses_at_once_cost_no_less_than_one_by_one(tmp_path: Path) -> None:
    store, threads = slow_store(tmp_path)
    answers = [store.verify(b"admin", b"guess%d" % n, "a") for n in range(100)]
    assert len(threads.started) == 4
    assert sum(answer.called for answer in answers) == 96
    elsewhere = store.verify(b"admin", b"right", "b")
    threads.run(4)
    assert result(elsewhere) is True
    while threads.started:
        threads.run()
    assert [result(answer) for answer in answers] == [False] * 100


def test_equal_verifications_share_a_result(tmp_path: Path) -> None:
    store, threads = slow_store(tmp_path)
    answers = [store.verify(b"admin", b"right", "a") for _ in range(50)]
    assert len(threads.started) == 1
    threads.run()
    assert [result(answer) for answer in answers] == [True] * 50
    wrong = [store.verify(b"admin", b"wrong", "a") for _ in range(50)]
    threads.run()
    assert [result(answer) for answer in wrong] == [False] * 50
    assert store.throttle.pause("a") == 0


def test_addresses_of_one_group_share_the_limit_of_verifications(tmp_path: Path) -> None:
    store, threads = slow_store(tmp_path)
    for number in range(100):
        store.verify(b"admin", b"guess%d" % number, f"127.0.0.{number}")
    assert len(threads.started) == 4


def test_a_header_that_was_right_before_resets_the_count() -> None:
    store = credentials_of(settings_with(), Clock().seconds)
    header = b"Basic YWRtaW46cGFzc3dvcmQ="
    assert result(store.verify_header(header, "a")) is True
    for _ in range(5):
        for _ in range(4):
            assert result(store.verify(b"admin", b"wrong", "a")) is False
        assert store.known_header(header, "a") is True
    assert store.throttle.pause("a") == 0


def test_a_login_while_no_thread_can_be_started_leaves_nothing_behind(tmp_path: Path) -> None:
    threads: Any = Threads()
    hashed = hash_password("right", secrets.token_bytes)
    settings = settings_with(authentication={"password": hashed})
    short = [True]

    def in_thread(function: Any, *args: Any) -> Deferred[Any]:
        if short[0]:
            raise RuntimeError("can't start new thread")
        started: Deferred[Any] = threads(function, *args)
        return started

    configuration = replace(load(None, {}), settings=settings)
    store = Credentials(configuration, tmp_path / "a.conf", Clock().seconds, in_thread)
    for deferred in (
        store.verify(b"admin", b"right", "a"),
        store.verify_header(b"Basic YWRtaW46cmlnaHQ=", "a"),
        store.change_password("new"),
    ):
        assert result(deferred).check(OutOfMemory)
    store.configure(
        settings_with(authentication={"password": hash_password("right", secrets.token_bytes)})
    )
    short[0] = False
    answer = store.verify(b"admin", b"right", "a")
    threads.run()
    assert result(answer) is True


def test_one_of_two_concurrent_changes_wins_and_the_other_fails(tmp_path: Path) -> None:
    store, threads = slow_store(tmp_path)
    rotated = store.rotate()
    changed = store.change_password("other")
    threads.run()
    username, password = result(rotated)
    threads.run()
    failure = result(changed)
    assert failure.check(CredentialsFixed)
    right = store.verify(username.encode(), password.encode(), "a")
    threads.run()
    assert result(right) is True


def test_the_default_password_is_known_as_a_hash_too(tmp_path: Path) -> None:
    hashed = hash_password("password", secrets.token_bytes)
    settings = settings_with(authentication={"password": hashed})
    assert credentials_of(settings, Clock().seconds).is_default()
    store = credentials_of(settings_with(), Clock().seconds, tmp_path / "a.conf")
    result(store.change_password("password"))
    assert store.is_default()
    result(store.change_password("own"))
    assert not store.is_default()
    store.configure(settings)
    assert store.is_default()


def test_what_the_environment_sets_cannot_be_changed(tmp_path: Path) -> None:
    store = credentials_of(
        settings_with(), Clock().seconds, tmp_path / "a.conf", Origin.ENVIRONMENT
    )
    with pytest.raises(CredentialsFixed, match="TAGCACHE_PASSWORD"):
        store.change_password("new")
    with pytest.raises(CredentialsFixed):
        store.reset()
    assert list(tmp_path.iterdir()) == []


def test_new_settings_void_tokens_only_if_credentials_changed() -> None:
    store = credentials_of(settings_with(), Clock().seconds)
    token = store.issue_token().encode()
    store.configure(settings_with(authentication={"token_lifetime_seconds": 5}))
    assert store.accepts_token(token)
    assert store.token_lifetime == 5
    store.configure(settings_with(authentication={"username": "other"}))
    assert not store.accepts_token(token)


def test_tokens_are_bounded_and_the_oldest_goes() -> None:
    tokens = Tokens(100, Clock().seconds, secrets.choice)
    first = tokens.issue().encode()
    second = tokens.issue().encode()
    for _ in range(MOST_TOKENS - 1):
        tokens.issue()
    assert not tokens.is_valid(first)
    assert tokens.is_valid(second)


def test_pauses_grow_are_bounded_and_forgotten() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    pauses = []
    for _ in range(12):
        throttle.failed("a")
        pauses.append(throttle.pause("a"))
        clock.advance(throttle.pause("a"))
    assert pauses == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS]
    assert throttle.pause("b") == 0
    clock.advance(301)
    throttle.failed("a")
    assert throttle.pause("a") == 0
    throttle.succeeded("a")
    throttle.succeeded("never seen")


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("127.0.0.1", "loopback"),
        ("127.200.3.4", "loopback"),
        ("::1", "loopback"),
        ("::ffff:127.0.0.1", "loopback"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", "unix"),
    ],
)
def test_what_counts_as_one_address(address: str, group: str) -> None:
    assert group_of(address) == group


def fail_often(throttle: Throttle, address: str) -> None:
    while not throttle.pause(address):
        throttle.failed(address)


def test_the_addresses_of_one_attacker_pause_together() -> None:
    throttle = Throttle(Clock().seconds)
    for number in range(6):
        throttle.failed(f"127.0.0.{number}")
    assert throttle.pause("::1") == 1
    for number in range(6):
        throttle.failed(f"2001:db8::{number}")
    assert throttle.pause("2001:db8::ffff:1") == 1
    assert throttle.pause("2001:db8:0:1::1") == 0


def test_a_right_password_resets_the_count() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    for _ in range(10):
        for _ in range(5):
            throttle.failed("a")
        throttle.succeeded("a")
    assert throttle.pause("a") == 0
    fail_often(throttle, "a")
    # Another client at that address succeeds: the pause stays for the one that guessed.
    throttle.succeeded("a")
    assert throttle.pause("a") == 1
    clock.advance(1)
    throttle.failed("a")
    assert throttle.pause("a") == 0


def attack(throttle: Throttle, clock: Clock, addresses: list[str], seconds: int) -> int:
    """Guess from each address ten times a second; return the number of guesses checked."""
    seen = 0
    for _ in range(seconds * 10):
        clock.advance(0.1)
        for address in addresses:
            if not throttle.pause(address):
                throttle.failed(address)
                seen += 1
    return seen


def test_wrong_passwords_of_all_addresses_together_are_bounded() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    addresses = [f"2001:db8:{number:x}::1" for number in range(2000)]
    seen = attack(throttle, clock, addresses, 20)
    assert seen <= MOST_AT_ONCE + 20 * PER_SECOND
    assert seen >= MOST_AT_ONCE
    assert 0 < throttle.pause("10.0.0.1") < 1
    clock.advance(1)
    assert throttle.pause("10.0.0.1") == 0


def test_many_attackers_do_not_lock_out_who_was_right_before_nor_this_machine() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    throttle.succeeded("10.0.0.1")
    for _ in range(20):
        attack(throttle, clock, [f"192.0.2.{number}" for number in range(250)], 1)
        assert [throttle.pause(each) for each in ("10.0.0.1", "127.0.0.1", "unix")] == [0, 0, 0]
    assert throttle.pause("10.0.0.2") > 0


def test_those_who_were_right_before_are_bounded_too() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    addresses = [f"10.0.{number // 250}.{number % 250}" for number in range(2000)]
    for address in addresses:
        throttle.succeeded(address)
    assert attack(throttle, clock, addresses, 20) <= 2 * (MOST_AT_ONCE + 20 * PER_SECOND)


def test_guesses_from_many_addresses_are_logged_once() -> None:
    clock = Clock()
    throttle = Throttle(clock.seconds)
    with capturedLogs() as events:
        attack(throttle, clock, [f"192.0.2.{number}" for number in range(250)], 5)
    assert len([each for each in events if "from many addresses" in each["log_format"]]) == 1


def test_a_bucket_refills_evenly() -> None:
    clock = Clock()
    rates = Rates(settings_with(security={"rate_limit_per_minute": 60}), clock.seconds)
    assert [rates.take("a") for _ in range(60)] == [0] * 60
    assert rates.take("a") == pytest.approx(1)
    assert rates.take("b") == 0
    clock.advance(2)
    assert [rates.take("a") > 0 for _ in range(3)] == [False, False, True]
    rates.configure(settings_with())
    assert not rates.limited
    assert rates.take("a") == 0


def test_the_log_throttle_reports_how_many_messages_it_dropped() -> None:
    clock = Clock()
    throttle = LogThrottle(10, clock.seconds)
    assert [throttle.now() for _ in range(4)] == ["", None, None, None]
    clock.advance(10)
    assert throttle.now() == " (3 more since the last such line)"
