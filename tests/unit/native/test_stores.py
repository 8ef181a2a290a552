"""Native stores change the cache as those in Python do."""

from __future__ import annotations

import gc
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings

from tagcache import native
from tagcache.engine import tags as tags_module
from tagcache.engine.budget import Policy
from tagcache.engine.memory import MemoryCache
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.model.tag_rules import TagRule, TagRules
from tagcache.native import Dialect
from tagcache.server.commands.cache import plain_options
from tagcache.server.commands.resp import strings, tags
from tagcache.wire import resp
from tests.helpers import done, newest
from tests.unit.engine import test_machine

pytestmark = pytest.mark.skipif(native.core is None, reason="the native core is not in use")

ROOM = 10_000
everything_is_large = test_machine.everything_is_large


READERS = strings.plain_options, tags.plain_tag_options


def request_for(
    key: bytes, value: bytes, tags_: Collection[bytes] = (), ttl_ms: int | None = None
) -> tuple[bytes, tuple[Any, Any]]:
    """Return a request in RESP, and what reads its options."""
    expiry = (b"PX", b"%d" % ttl_ms) if ttl_ms else ()
    request = resp.request(b"TAG.SET", key, value, *expiry, b"TAGS", b"%d" % len(tags_), *tags_)
    return request, READERS


def store(cache: MemoryCache, *arguments: Any) -> bool:
    """Let the native core store; say whether it did, or called the cache."""
    request, readers = request_for(*arguments)
    now = cache._monotonic()
    length, counts, replies = cache.plain.answer(Dialect.RESP2.value, *readers, request, now, ROOM)
    assert (length, sum(counts), replies) in [(len(request), 1, b"+OK\r\n"), (0, 0, b"")]
    return bool(length)


def ask(cache: MemoryCache, line: bytes) -> bytes:
    """Return the native reply to a line; empty if it is for Python."""
    reply: bytes = cache.plain.answer(
        Dialect.LINE.value, plain_options, plain_options, line, cache._monotonic(), ROOM
    )[2]
    return reply


class NativeMachine(test_machine.CacheMachine):
    """Stores go through the native core; it leaves to Python what it does not do."""

    def start(self, policy: Policy) -> None:
        super().start(policy)
        put = self.cache.put

        def put_natively(
            key: bytes, value: bytes, tags: Collection[bytes] = (), ttl_ms: int | None = None
        ) -> int | None:
            cache = self.cache
            if cache.plain is not None and store(cache, key, value, tags, ttl_ms):
                return ttl_ms or cache.limits.default_ttl_ms or None
            return put(key, value, tags, ttl_ms)

        self.cache.put = put_natively  # type: ignore[method-assign]
        for name, verb in (("increment", b"INCR"), ("decrement", b"DECR")):
            setattr(self.cache, name, self.counting(verb, getattr(self.cache, name)))
        self.cache.delete = self.deleting(self.cache.delete)  # type: ignore[method-assign]
        self.cache.get = self.getting(self.cache.get)  # type: ignore[method-assign]
        self.cache.touch = self.touching(self.cache.touch)  # type: ignore[method-assign]

    def counting(self, verb: bytes, operation: Any) -> Any:
        def count(
            key: bytes, by: int, tags: Collection[bytes] = (), ttl_ms: int | None = None
        ) -> int:
            plain = not tags and not ttl_ms and self.cache.plain is not None
            reply = ask(self.cache, b"%b\t%b\t%d\n" % (verb, key, by)) if plain else b""
            if reply:
                return int(reply.removeprefix(b"VALUE\t"))
            number: int = operation(key, by, tags, ttl_ms)
            return number

        return count

    def deleting(self, operation: Any) -> Any:
        def delete(key: bytes) -> bool:
            reply = b"" if self.cache.plain is None else ask(self.cache, b"DEL\t%b\n" % key)
            return reply == b"DEL ok\n" if reply else operation(key)

        return delete

    def getting(self, operation: Any) -> Any:
        def get(key: bytes, now: float | None = None) -> bytes | None:
            reply = count(self.cache, b"GET", key) if self.cache.plain is not None else b""
            if not reply:
                value: bytes | None = operation(key, now)
                return value
            return None if reply == b"$-1\r\n" else reply.partition(b"\r\n")[2][:-2]

        return get

    def touching(self, operation: Any) -> Any:
        def touch(key: bytes, ttl_ms: int | None = None) -> bool:
            plain = ttl_ms and self.cache.plain is not None
            reply = ask(self.cache, b"TOUCH\t%b\t%d\n" % (key, ttl_ms)) if plain else b""
            return reply == b"TOUCHED\n" if reply else operation(key, ttl_ms)

        return touch


class TestNativeMachine(NativeMachine.TestCase):
    settings = settings(max_examples=30, stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestMoreHistories(NativeMachine.TestCase):
    settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def filled(**limits: Any) -> tuple[MemoryCache, list[float]]:
    """Return a cache for which the native core knows two sets of options."""
    now = [100.0]
    cache = MemoryCache(Limits(**limits), monotonic=lambda: now[0])
    assert store(cache, b"a", b"value", [b"t", b"all"], 60_000)
    assert store(cache, b"b", b"value")
    assert cache.plain.puts == 0
    now[0] += 0.001
    return cache, now


def natively(cache: MemoryCache, *arguments: Any) -> bool:
    """Store; say whether Python was not called."""
    puts = cache.plain.puts
    assert store(cache, *arguments)
    assert done(cache.check()).faults == ()
    return bool(cache.plain.puts - puts)


AS_A = (b"new value", [b"t", b"all"], 60_000)
AS_B = (b"new value",)


@pytest.mark.parametrize("arguments", [(b"a", *AS_A), (b"b", *AS_B), (b"c", *AS_A), (b"d", *AS_B)])
def test_what_is_stored_natively_is_what_python_stores(arguments: tuple[Any, ...]) -> None:
    cache, _ = filled()
    twin, _ = filled()
    assert natively(cache, *arguments)
    twin.put(*arguments)
    assert cache.counters() == twin.counters()
    assert cache.totals() == twin.totals()
    assert cache.memory == twin.memory
    for key in (b"a", b"b", b"c", b"d"):
        ours, others = cache.peek(key), twin.peek(key)
        assert (ours is None) == (others is None)
        if ours is not None and others is not None:
            assert (ours.key, ours.value, ours.tags) == (key, others.value, others.tags)
            assert (ours.stored, ours.ttl) == (others.stored, others.ttl)
    assert list(newest(cache)) == list(newest(twin))


def test_a_tag_that_many_entries_carry_is_known_natively(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags_module, "_SPLIT_AT", 8)
    cache, _ = filled()
    for number in range(40):
        key = b"%d" % number
        # Python divides the set when it is too large for it.
        store(cache, key, *AS_A) if number % 3 else cache.put(key, *AS_A)
    assert cache.plain.puts > 20
    assert done(cache.check()).faults == ()
    assert len(done(cache.keys_by_tag(b"all"))) == 41
    assert done(cache.invalidate_tag(b"t")) == 41
    assert cache.get(b"7") is None


def test_python_stores_what_changes_more_than_the_entry() -> None:
    cache, now = filled()
    # Other tags, which are those of another entry.
    assert not natively(cache, b"b", *AS_A)
    # A deadline before that of its bucket.
    cache.put(b"b", b"v", [], 1_000_000)
    assert natively(cache, b"a", *AS_A)
    assert not natively(cache, b"a", b"v", [b"t", b"all"], 1000)
    assert not natively(cache, b"a", b"v", [b"t", b"all"], 500)
    # An entry that has expired.
    now[0] += 10
    assert not natively(cache, b"a", *AS_A)
    # A bucket that does not exist yet.
    now[0] += 1000
    assert not natively(cache, b"new", *AS_A)


def test_options_that_differ_in_the_time_to_live_alone_are_known() -> None:
    cache, now = filled()
    assert natively(cache, b"a", b"v", [b"t", b"all"], 61_234)
    assert cache.peek(b"a").ttl == 61.234  # type: ignore[union-attr]
    # Without one, there may be a default, which Python knows.
    cache.limits = replace(Limits(), default_ttl_ms=5000)
    assert not natively(cache, b"a", *AS_A)
    assert not natively(cache, b"b", b"v", [b"t", b"all"])
    now[0] += 0.001
    assert natively(cache, b"b", b"v", [b"t", b"all"])
    assert cache.peek(b"b").ttl == 5  # type: ignore[union-attr]
    assert natively(cache, b"b", b"v", [b"t", b"all"], 5001)
    assert cache.peek(b"b").ttl == 5.001  # type: ignore[union-attr]
    assert ask(cache, b"PUT\tc\t61000\tt,all\tv\n") == b"OK\n"
    puts = cache.plain.puts
    assert ask(cache, b"PUT\tc\t61500\tt,all\tv\n") == b"OK\n"
    assert cache.plain.puts == puts + 1
    assert cache.peek(b"c").ttl == 61.5  # type: ignore[union-attr]


def test_python_stores_what_somebody_watches() -> None:
    cache, _ = filled()
    version = cache.version(b"a")
    assert not natively(cache, b"a", *AS_A)
    assert cache.version(b"a") != version
    del version
    cache.put(b"gone", b"v", [b"gone"])
    done(cache.invalidate_tag(b"gone"))
    assert not natively(cache, b"gone", *AS_B)
    assert natively(cache, b"gone", *AS_B)
    # The entry that is the next to be looked at for an eviction.
    cache.store.sieve.hand = cache.store.find(b"a")
    assert not natively(cache, b"a", *AS_A)
    assert natively(cache, b"a", *AS_A)


def test_new_limits_hold_at_once() -> None:
    cache, _ = filled()
    assert natively(cache, b"a", *AS_A)
    for limits in ({"max_tags_per_entry": 1}, {"max_tag_length": 2}, {"max_value_length": 3}):
        cache.limits = replace(Limits(), **limits)
        assert not store(cache, b"a", *AS_A)
    cache.limits = replace(Limits(), max_key_length=1)
    assert store(cache, b"a", *AS_A)
    assert not store(cache, b"aa", *AS_A)
    cache.limits = replace(Limits(), default_ttl_ms=5000)
    assert not natively(cache, b"b", *AS_B)
    assert cache.peek(b"b").ttl_ms == 5000  # type: ignore[union-attr]


def test_rules_give_tags_to_what_has_none() -> None:
    cache, _ = filled(tag_rules=TagRules((TagRule("rule", "b*", ("ruled",)),)))
    assert not natively(cache, b"b", *AS_B)
    assert cache.peek(b"b").tags == (b"ruled",)  # type: ignore[union-attr]
    assert natively(cache, b"a", *AS_A)


def test_with_a_limit_of_memory_only_what_does_not_grow_is_native() -> None:
    cache, _ = filled(max_memory=10**6)
    assert natively(cache, b"a", b"v", *AS_A[1:])
    assert natively(cache, b"a", b"w", *AS_A[1:])
    assert not natively(cache, b"a", b"ww", *AS_A[1:])
    assert not natively(cache, b"new", *AS_A)


def test_a_grace_is_given_by_python() -> None:
    cache, now = filled()
    cache.put_with(b"a", b"old", StoreOptions([b"t", b"all"], 60_000, 5000))
    # The grace belongs to the store before.
    now[0] += 0.001
    assert natively(cache, b"a", *AS_A)
    done(cache.invalidate_tag(b"t", soft=True))
    assert cache.fetch(b"a", 1000).value is None


def test_stores_end_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, _ = filled()
    left = [2]

    def check() -> int:
        if not left:
            raise MemoryError
        return left.pop()

    parts = cache.store, cache.store.shards, cache.store.dead, {}, None
    calls = print, cache.put_with, cache.delete, check
    cache.plain = native.core.PlainRequests(*parts, *calls)  # type: ignore[union-attr]
    cache.limits = Limits()
    store(cache, b"a", *AS_A)
    assert [natively(cache, b"a", *AS_A) for _ in range(4)] == [True, True, False, False]


def count(cache: MemoryCache, *words: bytes) -> bytes:
    """Return the native reply in RESP; empty if it is for Python."""
    reply: bytes = cache.plain.answer(
        Dialect.RESP2.value, *READERS, resp.request(*words), cache._monotonic(), ROOM
    )[2]
    assert done(cache.check()).faults == ()
    return reply


def test_counters_count_natively() -> None:
    cache, now = filled()
    cache.put(b"n", b"41", [b"t"], 60_000)
    deadline = cache.peek(b"n").expires  # type: ignore[union-attr]
    now[0] += 0.3
    assert count(cache, b"INCR", b"n") == b":42\r\n"
    assert count(cache, b"INCRBY", b"n", b"-50") == b":-8\r\n"
    assert count(cache, b"DECRBY", b"n", b"3") == b":-11\r\n"
    assert count(cache, b"DECR", b"n") == b":-12\r\n"
    entry = cache.peek(b"n")
    assert entry is not None
    assert (entry.value, entry.tags) == (b"-12", (b"t",))
    # In RESP, the deadline stays; in lines, the time to live begins again.
    assert deadline <= entry.expires < deadline + 1e-9
    assert ask(cache, b"INCR\tn\n") == b"VALUE\t-11\n"
    assert ask(cache, b"DECR\tn\t9\n") == b"VALUE\t-20\n"
    assert entry.expires == now[0] + entry.ttl
    assert cache.counters().puts == 9
    assert cache.counters().hits == 0


@pytest.mark.parametrize(
    "value", [b"", b"-", b"+1", b"01", b"-0", b" 1", b"1.0", b"x", b"9" * 19, b"-" + b"9" * 19]
)
def test_what_is_not_plainly_a_number_is_for_python(value: bytes) -> None:
    cache, _ = filled()
    cache.put(b"n", value)
    assert count(cache, b"INCR", b"n") == b""
    cache.put(b"n", b"1")
    assert value == b"" or count(cache, b"INCRBY", b"n", value) == b""
    assert cache.get(b"n") == b"1"


def test_a_new_deadline_moves_the_entry_to_its_bucket() -> None:
    cache, _ = filled()
    cache.put(b"c", b"v", [], 100)
    puts = cache.counters().puts
    # The bucket for a tenth of a second is there, that for an hour is not.
    assert count(cache, b"PEXPIRE", b"b", b"100") == b":1\r\n"
    assert count(cache, b"PEXPIRE", b"a", b"100") == b":1\r\n"
    assert count(cache, b"EXPIRE", b"a", b"3600") == b":1\r\n"
    assert count(cache, b"PEXPIRE", b"b", b"3600000") == b":1\r\n"
    assert count(cache, b"EXPIRE", b"a", b"3") == b""
    assert cache.counters().puts == puts + 4
    assert ask(cache, b"TOUCH\ta\t100\n") == b"TOUCHED\n"
    assert cache.counters().puts == puts + 4


def test_a_counter_that_does_not_exist_is_for_python() -> None:
    cache, now = filled()
    cache.put(b"n", b"1", [], 10)
    now[0] += 1
    assert count(cache, b"INCR", b"n") == count(cache, b"INCR", b"none") == b""


def test_removals() -> None:
    cache, _ = filled()
    assert count(cache, b"DEL", b"a") == b":1\r\n"
    assert count(cache, b"DEL", b"a") == b":0\r\n"
    assert ask(cache, b"DEL\tb\n") == b"DEL ok\n"
    assert ask(cache, b"DEL\tb\n") == b"DEL nf\n"
    assert len(cache) == 0
    assert cache.counters().invalidations == 2


testcapi = pytest.importorskip("_testcapi", reason="this Python comes without its test modules")


@pytest.mark.parametrize("key", [b"a", b"b"])
def test_each_allocation_of_a_new_deadline_fails_once(key: bytes) -> None:
    gc.disable()
    number = quiet = failures = 0
    while quiet < 30:
        number += 1
        cache, _ = filled()
        cache.put(b"e", b"v", [], 1000)
        request = resp.request(b"PEXPIRE", key, b"1000")
        now = cache._monotonic()
        testcapi.set_nomemory(number, number + 1)
        try:
            answered = cache.plain.answer(1, *READERS, request, now, ROOM)[0]
        except MemoryError:
            # It is not known what was changed: this fails in tests only.
            answered = None
        finally:
            testcapi.remove_mem_hooks()
        quiet = quiet + 1 if answered else 0
        failures += not answered
        assert done(cache.check()).faults == (), number
        if answered == 0:
            assert cache.peek(key).ttl_ms == filled()[0].peek(key).ttl_ms  # type: ignore[union-attr]
    gc.enable()
    assert failures


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("arguments", [(b"a", *AS_A), (b"c", *AS_A), (b"d", *AS_B)])
def test_each_allocation_fails_once(arguments: tuple[Any, ...]) -> None:
    gc.disable()
    number = quiet = failures = 0
    while quiet < 30:
        number += 1
        cache, _ = filled()
        cache.put(b"e", b"v", [b"t"])
        before = newest(cache)
        request, readers = request_for(*arguments)
        testcapi.set_nomemory(number, number + 1)
        try:
            answered = cache.plain.answer(1, *readers, request, cache._monotonic(), ROOM)[0]
        except MemoryError:
            # It is not known what was stored: this fails in tests only.
            answered = None
        finally:
            testcapi.remove_mem_hooks()
        quiet = quiet + 1 if answered and cache.plain.puts else 0
        failures += not answered or not cache.plain.puts
        assert done(cache.check()).faults == (), number
        if answered == 0:
            assert newest(cache) == before
        assert store(cache, *arguments)
        assert done(cache.check()).faults == ()
    gc.enable()
    assert failures
