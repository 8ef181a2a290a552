"""Scans of the keys, and keys at random: the same for all engines."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

HOUR = 3_600_000


def every_key(engine: Any, count: int, between: Callable[[], object] = lambda: None) -> list[bytes]:
    found: list[bytes] = []
    cursor = 0
    while True:
        cursor, some = engine.scan_keys(cursor, count)
        assert 0 <= cursor < 2**53
        found += some
        if not cursor:
            return found
        between()


def test_all_keys_are_scanned_in_parts(engine: Any) -> None:
    assert engine.scan_keys(0, 10) == engine.scan_keys(2**80, 10) == (0, [])
    assert engine.random_key() is None
    keys = [b"k%d" % number for number in range(700)]
    for number, key in enumerate(keys):
        engine.put(key, b"v", [b"odd"] if number % 2 else [], HOUR)
    for count in (1, 10, 10_000):
        found = every_key(engine, count)
        assert set(found) == set(keys)
    assert engine.scan_keys(0, None)[0] == 0
    assert sorted(engine.scan_keys(0)[1]) == sorted(keys)
    assert engine.scan_keys(0, None, lambda key: key in (b"k7", b"none")) == (0, [b"k7"])
    engine.invalidate_tag(b"odd")
    assert set(every_key(engine, 50)) == set(keys[::2])
    assert engine.random_key() in keys[::2]


def test_a_key_that_is_there_throughout_is_scanned_whatever_comes_and_goes(engine: Any) -> None:
    stays = [b"stays%d" % number for number in range(300)]
    for key in stays:
        engine.put(key, b"v")
    random = Random(1)
    stored: list[bytes] = []

    def between() -> None:
        for _ in range(40):
            if stored and random.random() < 0.4:
                engine.delete(stored.pop(random.randrange(len(stored))))
            elif len(stored) < 600:
                stored.append(b"goes%d" % random.randrange(10**9))
                engine.put(stored[-1], b"v", [b"t"])
        engine.put(random.choice(stays), b"again")

    assert set(stays) <= set(every_key(engine, 60, between))
    engine.invalidate_tag(b"t")
    assert set(every_key(engine, 60)) == set(stays)


def test_what_has_expired_is_neither_scanned_nor_picked(engine: Any) -> None:
    for number in range(20):
        engine.put(b"goes%d" % number, b"v", [], 30)
    engine.put(b"stays", b"v")
    engine.pass_time(0.06)
    assert every_key(engine, 5) == [b"stays"]
    assert {engine.random_key() for _ in range(10)} == {b"stays"}


def test_keys_at_random(engine: Any) -> None:
    keys = {b"k%d" % number for number in range(8)}
    for key in keys:
        engine.put(key, b"v")
    assert {engine.random_key() for _ in range(300)} == keys
