"""Rules that give tags to entries by their keys.

A rule has a pattern for keys, and tags made from what the pattern's placeholders matched. In a
pattern, ``{name}`` matches one or more bytes and ``*`` any number of bytes, both as few as
possible; everything else matches itself. A pattern matches whole keys. In patterns and tags, a
backslash takes the special meaning from a brace, a star or a backslash.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tagcache.model.limits import Limits

# An escaped character, a placeholder, a star, other text, or a misplaced character.
_TOKEN = re.compile(r"\\([\\{}*])|(\{[^{}]*\})|(\*)|([^\\{}*]+)|(.)", re.DOTALL)
_NAME = re.compile(r"\{[A-Za-z0-9_]+\}")
_OUT_OF_PLACE = {
    "\\": "a \\ that does not precede {, }, * or \\",
    "{": "a { that is not closed; a brace itself is \\{",
    "}": "a } that closes nothing; a brace itself is \\}",
}


class BadTagRule(ValueError):
    """A rule cannot be used: the operator's fault. ``faults`` has one sentence for each fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class _Text:
    """Literal text, or a wildcard as written: ``*``, or a name in braces."""

    text: str
    is_wildcard: bool = False

    @property
    def data(self) -> bytes:
        return self.text.encode()

    @property
    def least(self) -> int:
        """The minimum number of bytes that the part matches or produces."""
        if self.is_wildcard:
            return int(self.text != "*")
        return len(self.data)


def _read(text: str) -> list[_Text]:
    """Return the parts of a pattern or of a tag. Raises ValueError for text that is not one."""
    parts: list[_Text] = []
    for escaped, placeholder, star, other, out_of_place in _TOKEN.findall(text):
        if out_of_place:
            raise ValueError(f"has {_OUT_OF_PLACE[out_of_place]}")
        if placeholder and not _NAME.fullmatch(placeholder):
            raise ValueError(
                f"has {placeholder}: a name of letters, digits and _ must be in braces"
            )
        if placeholder and any(each.text == placeholder for each in parts if each.is_wildcard):
            raise ValueError(f"has {placeholder} twice")
        if placeholder or star:
            parts.append(_Text(placeholder or star, True))
        elif parts and not parts[-1].is_wildcard:
            parts[-1] = _Text(parts[-1].text + escaped + other)
        else:
            parts.append(_Text(escaped + other))
    return parts


def _read_pattern(pattern: str, faults: list[str]) -> list[_Text]:
    """Return the parts of a pattern, no two of which are wildcards in a row."""
    if not pattern:
        faults.append("the pattern is empty")
    try:
        parts = _read(pattern)
    except ValueError as error:
        faults.append(f"the pattern {error}")
        return []
    for part, following in pairwise(parts):
        if part.is_wildcard and following.is_wildcard:
            faults.append(f"the pattern has nothing between {part.text} and {following.text}")
    return parts


def _read_tag(tag: str, known: frozenset[str] | None, faults: list[str]) -> list[_Text]:
    """Return the parts of a tag; ``known`` are the pattern's placeholders, or None."""
    if not tag:
        faults.append("a tag is empty")
    try:
        parts = _read(tag)
    except ValueError as error:
        faults.append(f"the tag {tag} {error}")
        return []
    for part in parts:
        if not part.is_wildcard:
            continue
        if part.text == "*":
            faults.append(
                f"the tag {tag} has a *, which only a pattern may have; the character itself is \\*"
            )
        elif known is not None and part.text not in known:
            faults.append(f"the tag {tag} names {part.text}, which is not in the pattern")
    return parts


@dataclass(frozen=True, slots=True)
class _Pattern:
    """A compiled pattern.

    A key begins with ``head`` and ends with ``tail``. ``steps`` are the wildcards except the last,
    each with the text after it; ``last`` is the last one, or None if there is no wildcard. A
    wildcard is the name of what it matched (None: no tag uses it), and its minimum length in bytes.
    """

    head: bytes
    steps: tuple[tuple[bytes | None, int, bytes], ...]
    last: tuple[bytes | None, int] | None
    tail: bytes

    @classmethod
    def of(cls, parts: list[_Text]) -> _Pattern:
        head = b"" if not parts or parts[0].is_wildcard else parts[0].data
        wild: list[tuple[bytes | None, int]] = []
        after: list[bytes] = []
        for part in parts:
            if part.is_wildcard:
                name = None if part.text == "*" else part.text[1:-1].encode()
                wild.append((name, part.least))
                after.append(b"")
            elif wild:
                after[-1] = part.data
        if not wild:
            return cls(head, (), None, b"")
        steps = tuple((*each, text) for each, text in zip(wild[:-1], after, strict=False))
        return cls(head, steps, wild[-1], after[-1])

    def match(self, key: bytes) -> dict[bytes, bytes] | None:
        """Return what each placeholder matched; None if the key does not match.

        Each text is searched once, from the end of the previous one. This finds a match if there is
        one: a later place for a text would only leave less of the key for the rest.
        """
        if not (key.startswith(self.head) and key.endswith(self.tail)):
            return None
        at = len(self.head)
        if self.last is None:
            return {} if len(key) == at else None
        matched = {}
        for name, least, text in self.steps:
            found = key.find(text, at + least)
            if found < 0:
                return None
            if name is not None:
                matched[name] = key[at:found]
            at = found + len(text)
        name, least = self.last
        end = len(key) - len(self.tail)
        if end - at < least:
            return None
        if name is not None:
            matched[name] = key[at:end]
        return matched


@dataclass(frozen=True, slots=True)
class TagRule:
    """A configured rule: its name, its pattern, and its tags. Raises BadTagRule."""

    name: str
    pattern: str
    tags: tuple[str, ...]
    _pattern: _Pattern = field(init=False, repr=False, compare=False)
    # Each tag as a bytes format for what the pattern matched.
    _formats: tuple[bytes, ...] = field(init=False, repr=False, compare=False)
    # The minimum number of bytes of a key, and of each tag.
    _least: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        faults: list[str] = []
        pattern = _read_pattern(self.pattern, faults)
        known = frozenset(each.text for each in pattern if each.is_wildcard) if pattern else None
        if not self.tags:
            faults.append("there is no tag after the pattern")
        tags = [_read_tag(tag, known, faults) for tag in self.tags]
        if faults:
            raise BadTagRule(faults)
        freeze = object.__setattr__
        freeze(self, "_pattern", _Pattern.of(pattern))
        freeze(self, "_formats", tuple(b"".join(map(_format, tag)) for tag in tags))
        freeze(
            self, "_least", tuple(sum(each.least for each in parts) for parts in (pattern, *tags))
        )

    @property
    def head(self) -> bytes:
        """The beginning of every key that the rule matches."""
        return self._pattern.head

    def made_of(self, key: bytes) -> Sequence[bytes]:
        """Return the tags for this key; none if the pattern does not match it."""
        matched = self._pattern.match(key)
        return () if matched is None else [each % matched for each in self._formats]

    def faults(self, limits: Limits) -> Iterator[str]:
        """Yield a sentence for each limit that the rule always exceeds."""
        shortest, *tags = self._least
        if shortest > limits.max_key_length:
            yield (
                f"its keys have at least {shortest} bytes, and cache.max_key_length is "
                f"{limits.max_key_length}"
            )
        if len(tags) > limits.max_tags_per_entry:
            yield (
                f"it has {len(tags)} tags, and cache.max_tags_per_entry is "
                f"{limits.max_tags_per_entry}"
            )
        for tag, least in zip(self.tags, tags, strict=True):
            if least > limits.max_tag_length:
                yield (
                    f"the tag {tag} has at least {least} bytes, and cache.max_tag_length is "
                    f"{limits.max_tag_length}"
                )


def _format(part: _Text) -> bytes:
    if part.is_wildcard:
        return b"%%(%b)b" % part.text[1:-1].encode()
    return part.data.replace(b"%", b"%%")


@dataclass(frozen=True, slots=True)
class TagRules:
    """All rules, in their order, ready to be applied.

    Rules are looked up by the first bytes of a key, so keys that no rule can match cost next to
    nothing.
    """

    rules: tuple[TagRule, ...] = ()
    _length: int = field(init=False, repr=False, compare=False)
    _by_head: dict[bytes, tuple[TagRule, ...]] = field(init=False, repr=False, compare=False)
    _without_head: tuple[TagRule, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        length = min((len(each.head) for each in self.rules if each.head), default=0)
        by_head = {
            head: tuple(each for each in self.rules if each.head[:length] in (head, b""))
            for head in {each.head[:length] for each in self.rules}
        }
        freeze = object.__setattr__
        freeze(self, "_length", length)
        freeze(self, "_by_head", by_head)
        freeze(self, "_without_head", by_head.get(b"", ()))

    def fitting(self, key: bytes) -> tuple[TagRule, ...]:
        """Return the rules that may match, by the first bytes of the key; usually none."""
        return self._by_head.get(key[: self._length], self._without_head)

    def made_of(self, key: bytes) -> Iterator[tuple[TagRule, bytes]]:
        """Yield each matching rule with each of its tags, in order, regardless of limits."""
        for rule in self.fitting(key):
            for tag in rule.made_of(key):
                yield rule, tag

    def tags_of(self, key: bytes, max_tags: int, max_tag_length: int) -> tuple[bytes, ...]:
        """Return the tags for an entry that is stored under ``key`` without tags.

        They are in the order of the rules, without duplicates. Tags longer than ``max_tag_length``
        bytes are left out; of the others, the first ``max_tags`` are returned.
        """
        tags: dict[bytes, None] = {}
        for rule in self.fitting(key):
            for tag in rule.made_of(key):
                if len(tag) <= max_tag_length:
                    tags[tag] = None
        return tuple(tags)[:max_tags]
