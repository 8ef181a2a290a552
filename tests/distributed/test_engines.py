"""One suite for all engines: in memory, in Redis, and in a cluster."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from tagcache.errors import (
    CommandError,
    IntegerOverflow,
    KeyTooLong,
    NotAnInteger,
    TagTooLong,
    TooManyTags,
    ValueTooLarge,
)
from tagcache.model.interfaces import IEngine, IMeasured, ISession
from tagcache.model.limits import Limits
from tagcache.model.store_options import StoreOptions
from tagcache.model.tag_rules import TagRule, TagRules
from tagcache.redis.availability import Availability
from tagcache.redis.cache import RedisCache
from tagcache.redis.engine import RedisEngine
from tagcache.redis.policy import PolicyCheck
from tagcache.redis.scripts import Script
from tagcache.redis.upkeep import Upkeep
from tests.distributed.engines import Memory, Remote
from tests.distributed.redis_server import RedisServer
from tests.unit.redis.test_cache import caches_of

INT64_MAX = 2**63 - 1
INT64_MIN = -(2**63)
NEEDS = pytest.mark.needs("redis-server", "redis-cli")


def test_what_is_stored_is_found(engine: Any) -> None:
    assert engine.put(b"k", b"v\n\x00\xff", [b"a", b"b", b"a"], 60_000) == 60_000
    assert engine.get(b"k") == b"v\n\x00\xff"
    assert engine.get(b"nope") is None
    assert engine.get_many([b"k", b"x", b"k"]) == [b"v\n\x00\xff", None, b"v\n\x00\xff"]
    entry = engine.peek(b"k")
    assert (entry.value, tuple(entry.tags), entry.ttl_ms) == (b"v\n\x00\xff", (b"a", b"b"), 60_000)
    assert engine.counted() == (3, 2, 1, 0)


def test_overwriting_replaces_everything(engine: Any) -> None:
    engine.put(b"k", b"old", [b"a"], 40)
    engine.put(b"k", b"new", [b"b"])
    assert engine.ttl_ms(b"k") is None
    assert (engine.keys_by_tag(b"a"), engine.keys_by_tag(b"b")) == ([], [b"k"])
    engine.pass_time(0.08)
    assert engine.get(b"k") == b"new"


def test_overwriting_under_the_same_tags(engine: Any) -> None:
    for key, first in ((b"stays", 40), (b"same", None), (b"goes", None)):
        engine.put(key, b"old", [b"a", b"b"], first)
        engine.put(key, b"longer", [b"b", b"c"])
        engine.put(key, b"longer", [b"c", b"b"])
    assert sorted(engine.tags()) == [(b"b", 3, 31), (b"c", 3, 31)]
    engine.put(b"goes", b"longer", [b"c", b"b"], 40)
    engine.pass_time(0.08)
    for tag in (b"b", b"c"):
        assert sorted(engine.keys_by_tag(tag)) == [b"same", b"stays"]
        assert len(engine.search([tag])) == 2
    assert engine.keys_by_tag(b"a") == []
    assert engine.invalidate_all([b"b", b"c"]) == 2
    assert engine.get_many([b"stays", b"goes", b"same"]) == [None] * 3


def test_what_has_expired_counts_nowhere(engine: Any) -> None:
    for key in (b"1", b"2", b"3"):
        engine.put(key, b"v", [b"t"], 30)
    engine.put(b"stays", b"v")
    engine.pass_time(0.06)
    assert engine.get(b"1") is None
    assert engine.delete(b"1") is False
    assert engine.keys_by_tag(b"t") == engine.search([b"t"]) == []
    assert engine.newest() == [b"stays"]
    assert engine.tags() == []
    assert engine.invalidate_tag(b"t") == engine.invalidate_all([b"t", b"t"]) == 0
    assert engine.add(b"2", b"new") is True
    totals = engine.totals()
    assert (totals.items, totals.tags, totals.bytes) == (2, 0, 4)
    assert engine.flush() == 2
    assert engine.counted()[3] == 2


def test_ttl_limits(engine: Any) -> None:
    assert engine.put(b"k", b"v", [], 0) is None
    assert engine.put(b"k", b"v", [], 2**64 - 1) == 2**64 - 1
    assert engine.get(b"k") == b"v"
    assert engine.ttl_ms(b"k") == 2**64 - 1
    engine.limit(Limits(default_ttl_ms=40))
    assert engine.put(b"a", b"v") == 40
    assert engine.put(b"b", b"v", [], 60_000) == 60_000
    engine.add(b"c", b"v")
    engine.increment(b"d")
    engine.pass_time(0.08)
    assert engine.get_many([b"a", b"b", b"c", b"d"]) == [None, b"v", None, None]


def test_add_stores_only_what_is_absent(engine: Any) -> None:
    assert engine.add(b"k", b"1", [b"t"]) is True
    assert engine.add(b"k", b"2", [b"u"]) is False
    assert engine.get(b"k") == b"1"
    assert engine.keys_by_tag(b"u") == []
    engine.invalidate_tag(b"t")
    assert engine.add(b"k", b"3") is True


@pytest.mark.parametrize(
    ("stored", "result"),
    [
        (b"  7 \n", 8),
        (b"+5", 6),
        (b"007", 8),
        (b"-0", 1),
        (b"-00", 1),
        (b"0" * 5000 + b"1", 2),
        (b"-9223372036854775808", -INT64_MAX),
        (b"\\:\\r 41 \\n", 42),
    ],
)
def test_what_counts_as_an_integer(engine: Any, stored: bytes, result: int) -> None:
    engine.put(b"i", stored)
    assert engine.increment(b"i") == result
    assert engine.get(b"i") == b"%d" % result


@pytest.mark.parametrize(
    "stored",
    [
        b"",
        b"abc",
        b"1.0",
        b"1_0",
        b"\xd9\xa1",
        b"\xc2\xa07",
        b"+",
        b"9223372036854775808",
        b"1 2",
        b"\\n1",
        b"\\:1\\n2",
    ],
)
def test_what_does_not(engine: Any, stored: bytes) -> None:
    engine.put(b"i", stored)
    with pytest.raises(NotAnInteger):
        engine.increment(b"i")
    assert engine.get(b"i") == stored


def test_integer_limits(engine: Any) -> None:
    engine.put(b"max", b"%d" % INT64_MAX)
    engine.put(b"min", b"%d" % INT64_MIN)
    engine.put(b"minus", b"-1")
    for operation, key, by in [
        (engine.increment, b"max", 1),
        (engine.decrement, b"min", 1),
        (engine.decrement, b"minus", INT64_MIN),
        (engine.decrement, b"absent", INT64_MIN),
    ]:
        with pytest.raises(IntegerOverflow):
            operation(key, by)
    assert engine.increment(b"absent", INT64_MIN) == INT64_MIN
    assert engine.decrement(b"minus", INT64_MAX) == INT64_MIN


def test_counting_keeps_or_takes_ttl_and_tags(engine: Any) -> None:
    engine.put(b"i", b"1", [b"a", b"b"], 60_000)
    assert engine.increment(b"i") == 2
    assert (engine.ttl_ms(b"i"), engine.keys_by_tag(b"a")) == (60_000, [b"i"])
    assert engine.decrement(b"i", 5, [b"c"], 30_000) == -3
    assert (engine.keys_by_tag(b"a"), engine.keys_by_tag(b"c")) == ([], [b"i"])
    assert engine.ttl_ms(b"i") == 30_000
    engine.increment(b"i", 0, [b"c"], 40)
    engine.pass_time(0.08)
    assert engine.increment(b"i", 7, [b"d"]) == 7
    assert engine.keys_by_tag(b"c") == []


def test_touching(engine: Any) -> None:
    engine.put(b"k", b"v", [b"t"], 1000)
    assert engine.touch(b"k", 60_000) is True
    assert engine.touch(b"nope") is False
    engine.pass_time(1.1)
    assert engine.get(b"k") == b"v"
    assert engine.keys_by_tag(b"t") == [b"k"]
    assert engine.counted()[2] == 1


def test_an_invalidated_entry_leaves_all_its_tags(engine: Any) -> None:
    engine.put(b"k", b"1", [b"a", b"b"])
    assert engine.invalidate_tag(b"a") == 1
    assert engine.get(b"k") is None
    engine.put(b"k", b"2")
    assert engine.keys_by_tag(b"b") == []
    assert engine.invalidate_tag(b"b") == 0
    assert engine.get(b"k") == b"2"


def test_invalidation_by_any_and_by_all(engine: Any) -> None:
    def fill() -> None:
        engine.put(b"1", b"", [b"x"])
        engine.put(b"2", b"", [b"y"])
        engine.put(b"3", b"", [b"x", b"y"])

    fill()
    assert engine.invalidate_all([b"x", b"y"]) == 1
    assert engine.keys_by_tag(b"x") == [b"1"]
    assert engine.invalidate_all([b"x", b"nope"]) == 0
    assert engine.invalidate_all([]) == engine.invalidate_any([]) == 0
    fill()
    assert engine.invalidate_all([b"x", b"x"]) == 2
    fill()
    assert engine.invalidate_any([b"x", b"y", b"nope"]) == 3
    assert engine.counted()[3] == 6
    assert engine.invalidate_keys([b"1", b"1", b"2"]) == 0


def test_large_invalidations_count_exactly(engine: Any) -> None:
    def fill() -> None:
        stored = [
            engine.cache.put(b"k%d" % number, b"v", [b"all", b"mod%d" % (number % 2)])
            for number in range(1500)
        ]
        if isinstance(engine, Remote):
            # Pipelines do not wait for one another.
            engine.all(stored)
        engine.put(b"other", b"v", [b"mod0"])

    fill()
    assert engine.invalidate_all([b"all", b"mod0"]) == 750
    assert engine.keys_by_tag(b"mod0") == [b"other"]
    assert engine.invalidate_tag(b"all") == 750
    assert engine.totals().items == 1
    fill()
    assert len(engine.keys_by_tag(b"all")) == 1500
    assert {tag: keys for tag, keys, _ in engine.tags()} == {
        b"all": 1500,
        b"mod0": 751,
        b"mod1": 750,
    }
    assert [tag[:2] for tag in engine.largest_tags(b"", 2)] == [(b"all", 1500), (b"mod0", 751)]
    assert engine.invalidate_any([b"mod0", b"mod1"]) == 1501
    fill()
    assert engine.invalidate_keys([b"k%d" % number for number in range(0, 3000, 3)]) == 500
    assert engine.flush() == 1001
    assert engine.totals().items == 0


def test_lists(engine: Any) -> None:
    engine.put(b"a1", b"abc", [b"ta", b"tb"])
    engine.put(b"b", b"", [b"ta", b"other"])
    engine.put(b"a2", b"", [b"tb"])
    engine.put(b"a1", b"abc", [b"ta", b"tb"])
    assert sorted(engine.search([b"ta", b"tb", b"ta"])) == [b"a1", b"a2", b"b"]
    assert engine.search([b"ta", b"tb"], True) == [b"a1"]
    assert engine.search([], True) == engine.search([]) == []
    assert engine.newest() == [b"a1", b"a2", b"b"]
    assert engine.newest(b"a") == [b"a1", b"a2"]
    assert sorted(engine.tags(b"t")) == [(b"ta", 2, 6), (b"tb", 2, 7)]


def test_limits(engine: Any) -> None:
    engine.limit(
        Limits(max_key_length=3, max_value_length=4, max_tags_per_entry=2, max_tag_length=5)
    )
    engine.put(b"key", b"four", [b"a" * 5, b"b", b"b"])
    refused: list[tuple[type[CommandError], tuple[Any, ...]]] = [
        (KeyTooLong, (b"keyy", b"")),
        (ValueTooLarge, (b"k", b"fivee")),
        (TooManyTags, (b"k", b"", [b"a", b"b", b"c"])),
        (TagTooLong, (b"k", b"", [b"a" * 6])),
    ]
    for error, arguments in refused:
        for operation in (engine.put, engine.add):
            with pytest.raises(error):
                operation(*arguments)
    with pytest.raises(TooManyTags):
        engine.increment(b"i", 1, [b"a", b"b", b"c"])
    assert engine.newest() == [b"key"]


def test_bad_input_is_told_whether_or_not_the_key_is_there(engine: Any) -> None:
    engine.limit(Limits(max_value_length=4, max_tags_per_entry=2, max_tag_length=5))
    engine.put(b"there", b"1")
    engine.put(b"word", b"word")
    for key in (b"there", b"absent"):
        with pytest.raises(TooManyTags):
            engine.add(key, b"", [b"a", b"b", b"c"])
        with pytest.raises(TagTooLong):
            engine.add(key, b"", [b"a" * 6])
        with pytest.raises(ValueTooLarge):
            engine.add(key, b"fivee")
    with pytest.raises(TooManyTags):
        engine.increment(b"word", 1, [b"a", b"b", b"c"])
    for step in (INT64_MAX + 1, INT64_MIN - 1):
        with pytest.raises(IntegerOverflow):
            engine.increment(b"word", step)
    assert not engine.add(b"there", b"four", [b"a", b"b"])
    assert sorted(engine.newest()) == [b"there", b"word"]
    assert engine.counted()[2] == 2


def test_a_number_may_not_grow_beyond_the_limit(engine: Any) -> None:
    engine.limit(Limits(max_value_length=3))
    assert engine.increment(b"n", 998) == 998
    assert engine.increment(b"n") == 999
    with pytest.raises(ValueTooLarge, match="the value has 4 bytes, the limit is 3"):
        engine.increment(b"n")
    with pytest.raises(ValueTooLarge):
        engine.decrement(b"n", 1099)
    # The step is not stored.
    assert engine.increment(b"n", -1098) == -99
    assert engine.get(b"n") == b"-99"
    with pytest.raises(ValueTooLarge):
        engine.increment(b"new", 1000)
    assert engine.get(b"new") is None


POSTS = TagRule("posts", "post:{id}:*", ("post:{id}", "posts"))
LISTS = TagRule("lists", "*:list", ("lists", "posts"))
RULES = Limits(tag_rules=TagRules((POSTS, LISTS)))


def tags_of(engine: Any, key: bytes) -> tuple[bytes, ...]:
    return tuple(engine.peek(key).tags)


@pytest.mark.parametrize("how", ["put", "add", "increment", "decrement"])
def test_what_is_stored_without_tags_gets_those_of_the_rules(engine: Any, how: str) -> None:
    engine.limit(RULES)
    store = getattr(engine, how)
    value = 1 if how.endswith("crement") else b"1"
    store(b"post:7:body", value)
    store(b"post:7:list", value)
    store(b"page", value)
    store(b"post:7:own", value, [b"own"])
    assert tags_of(engine, b"post:7:body") == (b"post:7", b"posts")
    assert tags_of(engine, b"post:7:list") == (b"post:7", b"posts", b"lists")
    assert tags_of(engine, b"page") == ()
    assert tags_of(engine, b"post:7:own") == (b"own",)
    assert sorted(engine.keys_by_tag(b"post:7")) == [b"post:7:body", b"post:7:list"]
    assert engine.invalidate_all([b"posts", b"lists"]) == 1
    assert engine.invalidate_tag(b"post:7") == 1
    assert sorted(engine.newest()) == [b"page", b"post:7:own"]


def test_options_that_many_stores_share_have_no_tags_of_their_own(engine: Any) -> None:
    engine.limit(RULES)
    session = engine.engine.session
    shared = StoreOptions((), 60_000)
    for key in (b"post:1:body", b"page", b"post:2:body"):
        engine.wait_for(session.put_with(key, b"", shared))
    assert tags_of(engine, b"post:1:body") == (b"post:1", b"posts")
    assert tags_of(engine, b"post:2:body") == (b"post:2", b"posts")
    assert tags_of(engine, b"page") == ()
    engine.limit(Limits())
    engine.wait_for(session.put_with(b"post:1:body", b"", shared))
    assert tags_of(engine, b"post:1:body") == ()
    engine.limit(RULES)
    engine.wait_for(session.put_with(b"post:1:body", b"", shared))
    assert tags_of(engine, b"post:1:body") == (b"post:1", b"posts")


def test_overwriting_applies_the_rules_again(engine: Any) -> None:
    engine.limit(RULES)
    engine.put(b"post:1:body", b"", [b"own"])
    engine.put(b"post:1:body", b"")
    assert tags_of(engine, b"post:1:body") == (b"post:1", b"posts")
    assert engine.keys_by_tag(b"own") == []


def test_what_is_stored_already_keeps_its_tags(engine: Any) -> None:
    """Neither counting nor touching stores anew, and new rules are for what is stored later."""
    engine.put(b"post:1:n", b"1")
    engine.put(b"post:2:n", b"1", [b"own"])
    engine.limit(RULES)
    for key, tags in ((b"post:1:n", ()), (b"post:2:n", (b"own",))):
        engine.increment(key)
        engine.touch(key, 60_000)
        engine.add(key, b"5")
        assert (tags_of(engine, key), engine.get(key)) == (tags, b"2")
    engine.increment(b"post:1:n", 1, [b"given"])
    assert tags_of(engine, b"post:1:n") == (b"given",)
    engine.increment(b"post:3:n")
    engine.limit(Limits(tag_rules=TagRules((LISTS,))))
    assert engine.increment(b"post:3:n") == 2
    assert tags_of(engine, b"post:3:n") == (b"post:3", b"posts")
    engine.put(b"post:4:n", b"")
    assert tags_of(engine, b"post:4:n") == ()


def test_no_store_fails_because_of_a_rule(engine: Any) -> None:
    rules = TagRules((POSTS, LISTS))
    engine.limit(Limits(max_tags_per_entry=2, max_tag_length=6, tag_rules=rules))
    engine.put(b"post:7:list", b"")
    assert tags_of(engine, b"post:7:list") == (b"post:7", b"posts")
    engine.put(b"post:77:list", b"")
    assert tags_of(engine, b"post:77:list") == (b"posts", b"lists")
    with pytest.raises(TagTooLong):
        engine.put(b"post:77:list", b"", [b"post:77"])


@pytest.mark.parametrize("how", ["put", "add", "increment"])
def test_whatever_stores_a_key_again_ends_its_misses_after_an_invalidation(
    engine: Any, how: str
) -> None:
    cache = engine.cache
    engine.put(b"k", b"1", [b"t"])
    assert engine.invalidate_tag(b"t") == 1
    assert engine.get(b"k") is None
    assert cache.activity(b"t").misses == 1
    getattr(engine, how)(b"k", 1 if how == "increment" else b"1")
    engine.delete(b"k")
    assert engine.get(b"k") is None
    assert cache.activity(b"t").misses == 1


@pytest.mark.slow
def test_pages_of_lists(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any offset and limit returns that part of the whole list."""
    if isinstance(engine, Memory):
        return  # no pages: the reader slices its scans
    monkeypatch.setattr(type(engine.partitions), "page", 16)
    for number in range(100):
        engine.put(b"k%d" % number, b"", [b"a"] if number % 3 else [b"a", b"b"])
    engine.delete(b"k50")

    def search(offset: int, limit: int | None, *tags: bytes, every: bool = False) -> list[bytes]:
        found = engine.run(engine.engine.search(list(tags), every, offset, limit))
        return [entry.key for entry in found]

    def newest(offset: int, limit: int, prefix: bytes = b"") -> list[bytes]:
        return [entry.key for entry in engine.run(engine.engine.newest(prefix, offset, limit))]

    kept = [b"k%d" % number for number in range(99, -1, -1) if number != 50]
    assert newest(0, 1000) == kept
    whole = [search(0, None, b"a"), search(0, None, b"b", b"a"), search(0, None, b"a", b"b")]
    assert [len(each) for each in whole] == [99, 99, 99]
    assert search(0, None, b"a", b"b", every=True) == search(0, None, b"b")
    for offset in (0, 1, 15, 16, 17, 40, 98, 99, 100, 2**62):
        for limit in (1, 7, 33, 200):
            assert newest(offset, limit) == kept[offset : offset + limit]
            nine = [key for key in kept if key.startswith(b"k9")]
            assert newest(offset, limit, b"k9") == nine[offset : offset + limit]
            for tags, all_of_it in zip(([b"a"], [b"b", b"a"], [b"a", b"b"]), whole, strict=True):
                assert search(offset, limit, *tags) == all_of_it[offset : offset + limit]
            some = search(offset, limit, b"a", b"b", every=True)
            assert some == search(0, None, b"b")[offset : offset + limit]


@NEEDS
def test_what_is_skipped_does_not_come_here(
    empty_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Remote(empty_redis.url)
    try:
        engine.all([engine.cache.put(b"k%d" % number, b"", [b"t"]) for number in range(2000)])
        seen = 0
        call = engine.partitions.call

        def count(root: str, script: Script, *arguments: Any) -> Deferred[Any]:
            def note(answer: Any) -> Any:
                nonlocal seen
                seen += len(answer[1])
                return answer

            return call(root, script, *arguments).addCallback(note)

        monkeypatch.setattr(engine.partitions, "call", count)
        assert len(engine.run(engine.engine.newest(b"", 1990, 100))) == 10
        assert len(engine.run(engine.engine.search([b"t"], False, 1990, 100))) == 10
        assert seen == 20
        assert engine.run(engine.engine.newest(b"", 10**18, 100)) == []
        assert engine.run(engine.engine.search([b"t"], False, 10**18, 100)) == []
        assert seen == 20
    finally:
        engine.close()


def test_marks_and_escapes_do_not_count_for_the_limit(engine: Any) -> None:
    engine.limit(Limits(max_value_length=4))
    engine.put(b"k", b"\\:\\n\\r\\\\x")
    engine.put(b"z", b"\\z:\\n\\r\\\\x")
    for refused in (b"\\:\\n\\r\\\\xy", b"\\z:abcde", b"\\n\\n"[:3] + b"ab"):
        with pytest.raises(ValueTooLarge):
            engine.put(b"k", refused)
    assert engine.get(b"k") == b"\\:\\n\\r\\\\x"


def test_all_engines_keep_the_contract(engine: Any) -> None:
    assert verifyObject(IEngine, engine.engine)
    assert verifyObject(IMeasured, engine.engine)
    assert verifyObject(ISession, engine.engine.session)
    assert verifyObject(ISession, engine.engine.open_session())


def test_an_engine_that_was_never_reached_says_so() -> None:
    nothing: Any = None
    cache = RedisCache(nothing, Limits(), nothing, nothing)
    upkeep = Upkeep(
        caches_of(cache), [], nothing, Availability("redis://h"), Clock(), PolicyCheck(False)
    )
    engine = RedisEngine(cache, upkeep)
    assert (engine.memory, engine.max_memory, engine.held().items) == (0, 0, 0)
    assert engine.describe()["status"] == "degraded"
    assert engine.trouble == "not reached yet"


def test_a_combination_of_very_many_tags(engine: Any) -> None:
    tags = [b"t%d" % number for number in range(9000)]
    engine.put(b"k", b"v", tags[:2])
    assert engine.invalidate_all(tags) == 0
    assert engine.get(b"k") == b"v"
    assert engine.invalidate_any(tags) == 1
