"""Tags made from keys: what a pattern matches, what a rule may say, and how much work it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagcache.model.limits import Limits
from tagcache.model.tag_rules import BadTagRule, TagRule, TagRules

POSTS = TagRule("posts", "post:{id}:*", ("post:{id}", "posts"))
COMMENTS = TagRule("comments", "*:comments", ("comments", "posts"))


def rule(pattern: str, *tags: str, name: str = "rule") -> TagRule:
    return TagRule(name, pattern, tags or ("tag",))


def tags(pattern: str, template: str, key: bytes) -> tuple[bytes, ...]:
    return TagRules((rule(pattern, template),)).tags_of(key, 100, 1024)


@pytest.mark.parametrize(
    ("pattern", "template", "key", "tag"),
    [
        ("post:{id}:*", "post:{id}", b"post:7:body", b"post:7"),
        ("post:{id}:*", "post:{id}", b"post:7:", b"post:7"),
        ("post:{id}:*", "post:{id}", b"post:7", None),
        ("post:{id}:*", "post:{id}", b"a post:7:body", None),
        # A placeholder has at least one byte.
        ("post:{id}:*", "post:{id}", b"post::", None),
        ("post:{id}:*", "post:{id}", b"post:::x", b"post::"),
        ("post:{id}", "{id}", b"post:", None),
        # It is as short as it can be, and the last one takes the rest.
        ("{a}:{b}", "{b},{a}", b"1:2:3", b"2:3,1"),
        ("{a}:{b}:end", "{b},{a}", b"1:2:3:end", b"2:3,1"),
        ("a{x}ab", "{x}", b"aabab", b"ab"),
        ("{a}aa", "{a}", b"aaa", b"a"),
        ("{a}aa", "{a}", b"aa", None),
        ("ab{x}ba", "{x}", b"aba", None),
        # Any bytes, and text as UTF-8.
        ("{x}/é", "{x}", b"\x00\xff\n/\xc3\xa9", b"\x00\xff\n"),
        ("{x}/é", "ü{x}", b"a/\xe9", None),
        ("{x}/é", "ü{x}", b"a/\xc3\xa9", b"\xc3\xbca"),
        # No wildcard, and nothing but one.
        ("front", "pages", b"front", b"pages"),
        ("front", "pages", b"front2", None),
        ("*", "all", b"", b"all"),
        ("{key}", "{key}", b"k", b"k"),
        ("{key}", "{key}", b"", None),
        # Characters that have a meaning, and one that does not.
        (r"\{a\}\*\\{b}", r"\{{b}\}\*\\%%(b)b", b"{a}*\\1", b"{1}*\\%%(b)b"),
    ],
)
def test_what_a_pattern_matches(pattern: str, template: str, key: bytes, tag: bytes | None) -> None:
    assert tags(pattern, template, key) == (() if tag is None else (tag,))


PARTS = st.lists(
    st.one_of(
        st.text("ab:\\{}*é%", min_size=1, max_size=4),
        st.sampled_from(["*", "{0}"]).map(lambda wildcard: (wildcard,)),
    ),
    min_size=1,
    max_size=7,
)


@given(PARTS, st.lists(st.binary(max_size=3) | st.sampled_from([b"a", b"b", b":"]), max_size=8))
def test_patterns_match_as_regular_expressions_do(
    parts: list[str | tuple[str]], fillings: list[bytes]
) -> None:
    """The reference is slow for some patterns and keys; these are short."""
    pattern, expression, key, names = "", b"", b"", []
    filled = iter(fillings)
    for part, before in zip(parts, ["", *parts[:-1]], strict=True):
        if isinstance(part, str):
            pattern += re.sub(r"([\\{}*])", r"\\\1", part)
            expression += re.escape(part.encode())
            key += part.encode()
        elif not isinstance(before, tuple):
            # Wildcards are never adjacent.
            name = f"p{len(names)}"
            pattern += "*" if part == ("*",) else f"{{{name}}}"
            if part == ("*",):
                expression += b".*?"
            else:
                names.append(name)
                expression += b"(?P<%b>.+?)" % name.encode()
            key += next(filled, b"")
    key += b"".join(filled)
    template = "|".join(f"{{{name}}}" for name in names) or "tag"
    matched = re.fullmatch(expression, key, re.DOTALL)
    expected = ()
    if matched is not None:
        expected = (b"|".join(matched[name] for name in names) or b"tag",)
    assert tags(pattern, template, key) == expected


def test_tags_come_in_the_order_of_the_rules_and_once() -> None:
    rules = TagRules((COMMENTS, POSTS))
    assert rules.tags_of(b"post:1:comments", 100, 1024) == (b"comments", b"posts", b"post:1")
    assert rules.tags_of(b"post:1:body", 100, 1024) == (b"post:1", b"posts")
    assert rules.tags_of(b"page:comments", 100, 1024) == (b"comments", b"posts")
    assert rules.tags_of(b"page:1", 100, 1024) == ()
    assert TagRules((POSTS, COMMENTS)).tags_of(b"post:1:comments", 100, 1024) == (
        b"post:1",
        b"posts",
        b"comments",
    )


def test_tags_beyond_the_limits_are_left_out() -> None:
    rules = TagRules((COMMENTS, POSTS))
    assert rules.tags_of(b"post:1:comments", 2, 1024) == (b"comments", b"posts")
    # What is left out for its length leaves room for others.
    assert rules.tags_of(b"post:1:comments", 2, 6) == (b"posts", b"post:1")
    assert rules.tags_of(b"post:12:comments", 2, 6) == (b"posts",)
    limits = Limits(max_tags_per_entry=1, max_tag_length=5, tag_rules=rules)
    assert limits.tags_of(b"post:1:comments") == (b"posts",)
    assert Limits().tags_of(b"post:1:comments") == ()


def test_what_is_made_of_a_key_names_the_rule() -> None:
    rules = TagRules((COMMENTS, POSTS))
    assert list(rules.made_of(b"post:1:comments")) == [
        (COMMENTS, b"comments"),
        (COMMENTS, b"posts"),
        (POSTS, b"post:1"),
        (POSTS, b"posts"),
    ]
    assert list(rules.made_of(b"post")) == []


@given(
    st.lists(st.tuples(st.text("ab", max_size=3), st.booleans()), max_size=6),
    st.text("ab", max_size=5),
)
def test_rules_are_found_by_the_beginning_of_the_key(
    heads: list[tuple[str, bool]], key: str
) -> None:
    """Few rules are tried, and those that match are among them."""
    rules = [
        TagRule(f"{number}", f"{head}*" if open_end else head, (f"tag{number}",))
        for number, (head, open_end) in enumerate(heads)
        if head or open_end
    ]
    expected = tuple(
        each.tags[0].encode()
        for each in rules
        if (key.startswith(each.pattern[:-1]) if each.pattern[-1] == "*" else key == each.pattern)
    )
    assert TagRules(tuple(rules)).tags_of(key.encode(), 100, 1024) == expected


def test_rules_are_equal_if_they_say_the_same() -> None:
    assert TagRules((POSTS,)) == TagRules((TagRule("posts", POSTS.pattern, POSTS.tags),))
    assert TagRules((POSTS,)) != TagRules((COMMENTS,))
    assert hash(Limits(tag_rules=TagRules((POSTS,)))) == hash(Limits(tag_rules=TagRules((POSTS,))))


@pytest.mark.parametrize(
    ("pattern", "templates", "faults"),
    [
        ("", ["t"], ["the pattern is empty"]),
        ("{a}{b}", ["t"], ["the pattern has nothing between {a} and {b}"]),
        ("a{a}*", ["t"], ["the pattern has nothing between {a} and *"]),
        ("**", ["t"], ["the pattern has nothing between * and *"]),
        ("{a}:{a}", ["t"], ["the pattern has {a} twice"]),
        ("{}", ["t"], ["the pattern has {}: a name of letters, digits and _ must be in braces"]),
        (
            "{a b}",
            ["t"],
            ["the pattern has {a b}: a name of letters, digits and _ must be in braces"],
        ),
        ("a{b", ["t"], ["the pattern has a { that is not closed; a brace itself is \\{"]),
        ("a}b", ["t"], ["the pattern has a } that closes nothing; a brace itself is \\}"]),
        ("a{b{c}", ["t"], ["the pattern has a { that is not closed; a brace itself is \\{"]),
        ("App\\Post", ["t"], ["the pattern has a \\ that does not precede {, }, * or \\"]),
        ("a\\", ["t"], ["the pattern has a \\ that does not precede {, }, * or \\"]),
        ("{id}", [], ["there is no tag after the pattern"]),
        ("{id}", ["t", ""], ["a tag is empty"]),
        ("{id}", ["{ID}"], ["the tag {ID} names {ID}, which is not in the pattern"]),
        ("{id}", ["{id}{id}"], ["the tag {id}{id} has {id} twice"]),
        (
            "{id}",
            ["t:*"],
            ["the tag t:* has a *, which only a pattern may have; the character itself is \\*"],
        ),
        ("{id}", ["t}"], ["the tag t} has a } that closes nothing; a brace itself is \\}"]),
        (
            "{a}{b}",
            ["{c}", ""],
            [
                "the pattern has nothing between {a} and {b}",
                "the tag {c} names {c}, which is not in the pattern",
                "a tag is empty",
            ],
        ),
    ],
)
def test_what_is_wrong_with_a_rule(pattern: str, templates: list[str], faults: list[str]) -> None:
    with pytest.raises(BadTagRule) as caught:
        TagRule("name", pattern, tuple(templates))
    assert list(caught.value.faults) == faults


def test_what_the_limits_refuse() -> None:
    limits = Limits(max_key_length=6, max_tags_per_entry=2, max_tag_length=5)
    assert list(rule("a:{b}:*:", "12345", r"123{b}\*").faults(limits)) == []
    assert list(rule("a:{b}:*:--", "123456", "12345{b}", "{b}").faults(limits)) == [
        "its keys have at least 7 bytes, and cache.max_key_length is 6",
        "it has 3 tags, and cache.max_tags_per_entry is 2",
        "the tag 123456 has at least 6 bytes, and cache.max_tag_length is 5",
        "the tag 12345{b} has at least 6 bytes, and cache.max_tag_length is 5",
    ]


@dataclass
class Work:
    """How many bytes were looked at, and how often a search began."""

    looked_at: int = 0
    searches: int = 0


class CountedKey(bytes):
    """A key that counts the work of searching it."""

    work: Work

    def find(self, literal: Any, start: Any = 0, end: Any = None) -> int:
        found = super().find(literal, start)
        self.work.searches += 1
        self.work.looked_at += (len(self) if found < 0 else found + len(literal)) - start
        return found


@pytest.mark.parametrize(
    ("pattern", "key"),
    [
        ("*a" * 5000 + "*b", b"a" * 1_000_000),
        ("*a" * 5000 + "*b*c", b"a" * 999_999 + b"c"),
        ("*ab" * 5000 + "*c*", b"a" * 1_000_000),
        ("{x}" + "".join(f"a{{x{n}}}" for n in range(5000)) + "b*", b"a" * 1_000_000),
        ("*" + "a" * 1000 + "b*", b"a" * 1_000_000),
    ],
)
def test_the_work_is_linear_whatever_the_key(pattern: str, key: bytes) -> None:
    """No part of a key is searched twice, whatever follows."""
    counted = CountedKey(key)
    counted.work = Work()
    TagRules((rule(pattern),)).tags_of(counted, 100, 1024)
    assert counted.work.looked_at <= len(key)
    assert counted.work.searches <= pattern.count("*") + pattern.count("{")


def test_a_key_that_no_rule_fits_is_not_searched() -> None:
    counted = CountedKey(b"session:" + b"a" * 1000)
    counted.work = Work()
    rules = TagRules(tuple(rule(f"post{n}:{{id}}:*") for n in range(1000)))
    assert rules.tags_of(counted, 100, 1024) == ()
    assert counted.work == Work()
