"""What is kept near of a remote cache is never older than it may be."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from twisted.internet.task import Clock

from tagcache.engine.memory import MemoryCache
from tagcache.model.limits import Limits
from tagcache.redis.near import STALENESS_SECONDS, Near


def make(limits: Limits | None = None) -> tuple[Near, Clock]:
    clock = Clock()
    clock.advance(100)
    near = Near(MemoryCache(limits, monotonic=clock.seconds, wall=clock.seconds), clock.seconds)
    near.fresh_until = clock.seconds() + STALENESS_SECONDS
    return near, clock


def look_up(near: Near, value: bytes = b"v", left_ms: int | None = None) -> None:
    near.keep(b"k", near.begin(b"k"), value, [b"t", b"u"], left_ms)


def test_what_was_looked_up_is_kept_while_changes_are_heard() -> None:
    near, clock = make()
    assert near.get(b"k") is None
    look_up(near)
    assert (near.get(b"k"), near.hits) == (b"v", 1)
    clock.advance(STALENESS_SECONDS + 0.001)
    assert not near.is_fresh
    assert near.get(b"k") is None
    # Nothing was lost: it only came late.
    near.fresh_until = clock.seconds() + STALENESS_SECONDS
    assert near.get(b"k") == b"v"
    near.lose()
    near.fresh_until = clock.seconds() + STALENESS_SECONDS
    assert (near.get(b"k"), near.cleared) == (None, 1)


def test_what_changes_is_dropped() -> None:
    near, _ = make()
    for drop in (
        lambda: near.changed(b"k"),
        lambda: near.tags_changed([b"x", b"u"]),
        near.clear,
    ):
        look_up(near)
        assert near.get(b"k") == b"v"
        drop()
        assert near.get(b"k") is None


def test_what_changes_during_a_look_up_is_not_kept() -> None:
    near, _ = make()
    for change in (
        lambda: near.changed(b"k"),
        lambda: near.tags_changed([b"u"]),
        lambda: near.tags_changed([b"%d" % number for number in range(20_000)]),
        near.clear,
    ):
        begun = near.begin(b"k")
        change()
        near.keep(b"k", begun, b"old", [b"t", b"u"], None)
        assert near.get(b"k") is None
    # What concerns others is of no importance, nor what was before.
    begun = near.begin(b"k")
    near.changed(b"other")
    near.tags_changed([b"x"])
    near.keep(b"k", begun, b"v", [b"t"], None)
    assert near.get(b"k") == b"v"


def test_nothing_is_kept_of_what_is_being_changed_from_here() -> None:
    near, _ = make()
    for hold, release in (
        (lambda: near.hold(b"k"), lambda: near.release(b"k")),
        (lambda: near.hold_tags([b"u"]), lambda: near.release_tags([b"u"])),
        (near.hold_all, near.release_all),
    ):
        look_up(near)
        hold()
        assert near.get(b"k") is None
        look_up(near, b"old")
        assert near.get(b"k") is None
        begun = near.begin(b"k")
        release()
        near.keep(b"k", begun, b"old", [b"u"], None)
        assert near.get(b"k") is None
        look_up(near, b"new")
        assert near.get(b"k") == b"new"


def test_a_time_to_live_counts_from_when_it_was_asked_for() -> None:
    near, clock = make()
    begun = near.begin(b"k")
    clock.advance(0.4)
    near.keep(b"k", begun, b"v", [], 500)
    assert near.get(b"k") == b"v"
    clock.advance(0.1)
    assert near.get(b"k") is None
    begun = near.begin(b"k")
    clock.advance(0.1)
    near.keep(b"k", begun, b"v", [], 100)
    assert near.get(b"k") is None


def test_what_is_too_large_replaces_nothing() -> None:
    near, _ = make(Limits(max_memory=2000))
    look_up(near)
    assert near.get(b"k") == b"v"
    look_up(near, bytes(5000))
    assert near.get(b"k") is None


def test_nothing_is_remembered_of_look_ups_that_are_over() -> None:
    near, _ = make()
    for _ in range(10):
        begun = near.begin(b"k")
        near.hold(b"k")
        near.tags_changed([b"t"])
        near.release(b"k")
        near.keep(b"k", begun, b"v", [], None)
    near.begin(b"k")
    near.end(b"k")
    assert not near._looking_up
    assert not near._changed
    assert not near._tags_changed
    assert not near._held


KEYS = (b"a", b"b")
TAGS = ((), (b"t",), (b"t", b"u"))


class Coherence(RuleBasedStateMachine):
    """A store elsewhere, commands and answers on their way, and word of changes that comes late.

    ``history`` has for each key all that it ever was, None where there was nothing. What is found
    near must not be older than the last store from here that was answered, nor than the last change
    that was heard of; nor may it be what an invalidation removed that was answered here.
    """

    @initialize()
    def start(self) -> None:
        self.near, self.clock = make()
        self.store: dict[bytes, tuple[bytes, tuple[bytes, ...]]] = {}
        self.history: dict[bytes, list[Any]] = {key: [None] for key in KEYS}
        self.forbidden: set[bytes] = set()
        self.oldest = dict.fromkeys(KEYS, 0)
        self.number = 0
        # Word of changes, in order: what is dropped, and what it is then at least as new as.
        self.word: deque[tuple[str, bytes, dict[bytes, int]]] = deque()
        self.asked: list[dict[str, Any]] = []
        self.changing: list[dict[str, Any]] = []

    def apply(self, what: str, name: bytes, tags: tuple[bytes, ...]) -> dict[bytes, int]:
        """Change the store; returns how new the keys concerned are now."""
        if what == "put":
            self.number += 1
            self.store[name] = b"%d" % self.number, tags
            concerned = [name]
        else:
            concerned = [key for key, entry in self.store.items() if name in entry[1]]
            for key in concerned:
                del self.store[key]
        for key in concerned:
            self.history[key].append(self.store.get(key))
        return {key: len(self.history[key]) - 1 for key in concerned}

    def tell(self, what: str, name: bytes, new: dict[bytes, int]) -> None:
        self.word.append((what, name, new))

    @rule(what=strategies.sampled_from(["put", "invalidate"]), data=strategies.data())
    def elsewhere(self, what: str, data: strategies.DataObject) -> None:
        name = data.draw(strategies.sampled_from(KEYS if what == "put" else (b"t", b"u")))
        tags = data.draw(strategies.sampled_from(TAGS))
        self.tell(what, name, self.apply(what, name, tags))

    @rule(key=strategies.sampled_from(KEYS))
    def ask(self, key: bytes) -> None:
        self.asked.append({"key": key, "begun": self.near.begin(key), "found": "nothing yet"})

    @precondition(lambda self: any(each["found"] == "nothing yet" for each in self.asked))
    @rule(data=strategies.data())
    def look_there(self, data: strategies.DataObject) -> None:
        waiting = [each for each in self.asked if each["found"] == "nothing yet"]
        each = data.draw(strategies.sampled_from(waiting))
        each["found"] = self.store.get(each["key"])

    @precondition(lambda self: any(each["found"] != "nothing yet" for each in self.asked))
    @rule(data=strategies.data())
    def answer(self, data: strategies.DataObject) -> None:
        found = [each for each in self.asked if each["found"] != "nothing yet"]
        each = data.draw(strategies.sampled_from(found))
        self.asked.remove(each)
        if each["found"] is None:
            self.near.end(each["key"])
        else:
            self.near.keep(each["key"], each["begun"], *each["found"], None)

    @rule(what=strategies.sampled_from(["put", "invalidate"]), data=strategies.data())
    def change(self, what: str, data: strategies.DataObject) -> None:
        name = data.draw(strategies.sampled_from(KEYS if what == "put" else (b"t", b"u")))
        tags = data.draw(strategies.sampled_from(TAGS))
        if what == "put":
            self.near.hold(name)
        else:
            self.near.hold_tags([name])
        self.changing.append({"what": what, "name": name, "tags": tags, "new": None})

    @precondition(lambda self: any(each["new"] is None for each in self.changing))
    @rule(data=strategies.data())
    def change_there(self, data: strategies.DataObject) -> None:
        waiting = [each for each in self.changing if each["new"] is None]
        each = data.draw(strategies.sampled_from(waiting))
        each["new"] = self.apply(each["what"], each["name"], each["tags"])
        self.tell(each["what"], each["name"], each["new"])

    @precondition(lambda self: any(each["new"] is not None for each in self.changing))
    @rule(data=strategies.data())
    def changed(self, data: strategies.DataObject) -> None:
        done = [each for each in self.changing if each["new"] is not None]
        each = data.draw(strategies.sampled_from(done))
        self.changing.remove(each)
        if each["what"] == "put":
            self.near.release(each["name"])
        else:
            self.near.release_tags([each["name"]])
            for key, version in each["new"].items():
                for entry in self.history[key][:version]:
                    if entry is not None and each["name"] in entry[1]:
                        self.forbidden.add(entry[0])
            return
        self.is_as_new_as(each["new"])

    @precondition(lambda self: self.word)
    @rule()
    def hear(self) -> None:
        what, name, new = self.word.popleft()
        if what == "put":
            self.near.changed(name)
        else:
            self.near.tags_changed([name])
        self.is_as_new_as(new)

    def is_as_new_as(self, new: dict[bytes, int]) -> None:
        for key, version in new.items():
            self.oldest[key] = max(self.oldest[key], version)

    @invariant()
    def nothing_old_is_found(self) -> None:
        for key in KEYS:
            value = self.near.get(key)
            if value is not None:
                possible = [entry[0] for entry in self.history[key][self.oldest[key] :] if entry]
                assert value in possible
                assert value not in self.forbidden


Coherence.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCoherence = Coherence.TestCase
