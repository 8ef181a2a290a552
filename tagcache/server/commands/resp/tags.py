"""The commands for tags, which Redis does not have."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from tagcache.model.admission import check_tags
from tagcache.model.statistics import Counters
from tagcache.model.store_options import StoreOptions
from tagcache.model.views import EntryView, TagSize
from tagcache.server.commands.resp.arguments import (
    EXPIRY_OPTIONS,
    RELATIVE,
    Expiry,
    Options,
    integer,
    natural,
    time_to_live,
)
from tagcache.server.commands.resp.fresh import token_of
from tagcache.server.commands.resp.strings import StoreIf
from tagcache.server.commands.resp.table import (
    MAX_ARGUMENTS,
    ONE_KEY,
    SYNTAX_ERROR,
    Caller,
    RedisError,
    RespCommand,
)
from tagcache.server.commands.table import Reply
from tagcache.server.then import then
from tagcache.wire import resp

_MOST_TOP = 1000
_REMEMBERED_LENGTH = 256
_WITH_VALUE = frozenset((*EXPIRY_OPTIONS, b"GRACE", b"LEASE"))
_NO_OPTIONS = Options((), frozenset(), frozenset())


def tag_set(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.SET key value [EX s|PX ms|EXAT s|PXAT ms] [NX|XX] TAGS n tag [tag ...]``.

    Before TAGS there may also be ``GRACE ms`` and ``LEASE token``, without NX and XX.
    """
    key, value = arguments[1], arguments[2]
    rest = tuple(arguments[3:])
    # Cached, because most clients repeat the same few options.
    read = _remembered if sum(map(len, rest)) <= _REMEMBERED_LENGTH else _read_options
    tags, options, expiry, plain, only_new, lease = read(rest)
    if plain is None:
        # Check the tags even if the entry will not be stored.
        checked = check_tags(caller.engine.limits, tags) or None
        changed = caller.session.update((key,), StoreIf(key, value, expiry, options, checked))
        return then(changed, lambda outcome: resp.OK if outcome[0] else resp.null(caller.resp))
    if lease is not None:
        filled = caller.session.fill(lease, key, value, plain)
        return then(filled, lambda stored: resp.OK if stored else resp.null(caller.resp))
    if only_new:
        added = caller.session.add(key, value, tags, plain.asked_ms)
        return then(added, lambda stored: resp.OK if stored else resp.null(caller.resp))
    stored = caller.session.put_with(key, value, plain)
    if stored is None or isinstance(stored, int):
        return resp.OK
    return stored.addCallback(lambda _: resp.OK)


class _TagSet(NamedTuple):
    """The parsed arguments after the value of a TAG.SET.

    ``plain`` is set if ``put``, ``add`` or ``fill`` can do the store; ``lease`` is a token.
    """

    tags: tuple[bytes, ...]
    options: Options
    expiry: Expiry | None
    plain: StoreOptions | None
    only_new: bool
    lease: int | None = None


def _read_options(rest: tuple[bytes, ...]) -> _TagSet:
    words, tags = _split_tags(rest)
    if len(words) == 2 and words[0] in RELATIVE:
        ttl_ms = time_to_live(words[0], words[1], "tag.set")
        return _TagSet(tags, _NO_OPTIONS, None, StoreOptions(tags, ttl_ms), False)
    options = Options(words, frozenset((b"NX", b"XX")), _WITH_VALUE)
    options.at_most_one(b"NX", b"XX")
    expiry = options.expiry("tag.set")
    in_ms = None if expiry is None else expiry.in_ms
    grace, lease = options.value(b"GRACE"), options.value(b"LEASE")
    plain = None
    if b"XX" not in options and (expiry is None or in_ms is not None):
        plain = StoreOptions(tags, in_ms, 0 if grace is None else natural(grace))
    if (grace or lease) and (plain is None or b"NX" in options):
        raise RedisError("ERR GRACE and LEASE cannot be combined with NX, XX, EXAT and PXAT")
    return _TagSet(
        tags, options, expiry, plain, b"NX" in options, None if lease is None else token_of(lease)
    )


_remembered = lru_cache(4096)(_read_options)


@lru_cache(4096)
def plain_tag_options(bulks: bytes) -> StoreOptions | None:
    """Parse the arguments after the value of a TAG.SET; None if they need more than a plain store.

    Raises RedisError.
    """
    read = _remembered(tuple(resp.split_bulks(bulks)))
    return None if read.only_new or read.lease is not None else read.plain


def tag_incr(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.INCR key by [EX s|PX ms] [TAGS n tag [tag ...]]``, and to ``TAG.DECR``.

    Unlike with INCRBY, the time to live starts again.
    """
    session = caller.session
    count = session.increment if arguments[0].upper() == b"TAG.INCR" else session.decrement
    words, tags = _split_tags(tuple(arguments[3:]), required=False)
    counted = count(arguments[1], integer(arguments[2]), tags, _ttl_ms(words, "tag.incr"))
    return then(counted, resp.integer)


def tag_touch(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.TOUCH key [EX s|PX ms]``: 1, or 0 if there is no entry."""
    touched = caller.session.touch(arguments[1], _ttl_ms(arguments[2:], "tag.touch"))
    return then(touched, resp.one_or_zero)


def _ttl_ms(words: Sequence[bytes], verb: str) -> int | None:
    """Return the time to live that EX or PX gives."""
    expiry = Options(words, frozenset(), frozenset((b"EX", b"PX"))).expiry(verb)
    return None if expiry is None else expiry.in_ms


def _split_tags(
    arguments: tuple[bytes, ...], required: bool = True
) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Return the arguments before ``TAGS n``, and the n tags after it, which end the request."""
    for number, word in enumerate(arguments[:-1]):
        if word.upper() == b"TAGS":
            tags = arguments[number + 2 :]
            count = arguments[number + 1]
            if count != b"%d" % len(tags) and natural(count) != len(tags):
                raise RedisError("ERR the number after TAGS is not the number of tags")
            _check_names(tags)
            return arguments[:number], tags
    if required:
        raise RedisError(SYNTAX_ERROR)
    return arguments, ()


def _check_names(tags: Sequence[bytes]) -> None:
    if not all(tags):
        raise RedisError("ERR a tag is empty")


def tag_invalidate(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.INVALIDATE [ANY|ALL|KEYS] [SOFT] n name...`` with the number of entries."""
    which = arguments[1].upper()
    rest = arguments[2:] if which in (b"ANY", b"ALL", b"KEYS") else arguments[1:]
    soft = rest[0].upper() == b"SOFT"
    rest = rest[1:] if soft else rest
    tags = rest[1:]
    if not tags or natural(rest[0]) != len(tags):
        raise RedisError("ERR the number before the tags is not the number of tags")
    session = caller.session
    if which == b"KEYS":
        verb, removed = b"KEYS", session.invalidate_keys(tags, soft)
    else:
        _check_names(tags)
        if len(tags) == 1:
            verb, removed = b"TAG", session.invalidate_tag(tags[0], soft)
        elif which == b"ALL":
            verb, removed = b"TAGS_ALL", session.invalidate_all(tags, soft)
        else:
            verb, removed = b"TAGS_ANY", session.invalidate_any(tags, soft)
    verb = (b"SOFT_" if soft else b"INV_") + verb

    def conclude(count: int) -> bytes:
        caller.invalidated(verb, tags, count)
        return resp.integer(count)

    return then(removed, conclude)


def tag_keys(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.KEYS tag [LIMIT n]``."""
    options = Options(arguments[2:], frozenset(), frozenset((b"LIMIT",)))
    limit = options.value(b"LIMIT")

    def write(keys: list[bytes]) -> Reply:
        return caller.run_work(resp.array_in_slices(keys, caller.resp))

    if limit is None:
        return then(caller.engine.keys_by_tag(arguments[1]), write)
    found = caller.engine.search([arguments[1]], limit=natural(limit))
    return then(found, lambda entries: write([entry.key for entry in entries]))


def tag_of(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.OF key`` with the tags of the entry, in their order."""

    def write(entry: EntryView | None) -> bytes:
        return resp.null_array(caller.resp) if entry is None else resp.values(entry.tags, 2)

    return then(caller.engine.peek(arguments[1]), write)


def tag_count(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.COUNT tag`` with the number of entries."""
    return then(caller.engine.count([arguments[1]]), resp.integer)


def tag_top(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.TOP n`` with pairs of a tag and its number of entries, the largest first."""
    most = natural(arguments[1])
    if most > _MOST_TOP:
        raise RedisError(f"ERR TAG.TOP returns {_MOST_TOP} tags at most")

    def write(tags: list[TagSize]) -> bytes:
        return resp.dump([[tag.name, tag.keys] for tag in tags], caller.resp)

    return then(caller.engine.largest_tags(b"", most), write)


def tag_flush(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.FLUSH``: FLUSHDB that returns the number of entries."""

    def conclude(count: int) -> bytes:
        caller.invalidated(b"FLUSH", (), count)
        return resp.integer(count)

    return then(caller.session.flush(), conclude)


def tag_stats(caller: Caller, arguments: list[bytes]) -> Reply:
    """Reply to ``TAG.STATS`` with the numbers of hits, misses, puts and invalidations."""

    def write(counted: Counters) -> bytes:
        numbers = (counted.hits, counted.misses, counted.puts, counted.invalidations)
        return resp.dump(numbers, caller.resp)

    return then(caller.engine.all_counters(), write)


TAG_COMMANDS = (
    RespCommand(
        b"TAG.SET",
        -5,
        tag_set,
        ONE_KEY,
        True,
        summary="store a value with tags",
        most=MAX_ARGUMENTS,
    ),
    RespCommand(
        b"TAG.INCR", -3, tag_incr, ONE_KEY, True, summary="add, with tags", most=MAX_ARGUMENTS
    ),
    RespCommand(
        b"TAG.DECR", -3, tag_incr, ONE_KEY, True, summary="subtract, with tags", most=MAX_ARGUMENTS
    ),
    RespCommand(b"TAG.TOUCH", -2, tag_touch, ONE_KEY, True, summary="set a new time to live"),
    RespCommand(
        b"TAG.FLUSH",
        1,
        tag_flush,
        writes=True,
        summary="delete all entries, and return their number",
    ),
    RespCommand(
        b"TAG.STATS",
        1,
        tag_stats,
        transaction=False,
        summary="hits, misses, puts and invalidations",
    ),
    RespCommand(
        b"TAG.INVALIDATE",
        -3,
        tag_invalidate,
        writes=True,
        summary="delete entries by their tags",
        most=MAX_ARGUMENTS,
    ),
    RespCommand(b"TAG.KEYS", -2, tag_keys, transaction=False, summary="the keys of a tag"),
    RespCommand(b"TAG.OF", 2, tag_of, ONE_KEY, summary="the tags of a key", alone=True),
    RespCommand(
        b"TAG.COUNT", 2, tag_count, transaction=False, summary="the number of entries of a tag"
    ),
    RespCommand(
        b"TAG.TOP", 2, tag_top, transaction=False, summary="the tags with the most entries"
    ),
)
