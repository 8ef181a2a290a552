"""The scripts that run inside Redis, each in its own file: the interface between Python and Lua.

The only key of each is the root of a partition. The last argument, which the sender adds, is the
home of the server (see partition.lua). Below are the other arguments of each, its result, and its
cost (without the lengths of the arguments).
"""

from __future__ import annotations

import re
from enum import Enum
from hashlib import sha1
from importlib import resources


class Effect(Enum):
    """The effect of a script on a partition."""

    NONE = "it only reads, and may run twice"
    HIDDEN = "it changes leases, counts or garbage, and no entry"
    CHANGE = "it changes entries, and replicas may confirm it"


def _read(name: str) -> str:
    """Return the text of a file, without lines that are comments."""
    text = resources.files(__package__).joinpath(f"{name}.lua").read_text(encoding="utf-8")
    return re.sub(r"^ *--.*\n", "", text, flags=re.MULTILINE)


# What scripts share: functions, and variables with their values in one line.
_LIBRARY = re.findall(
    r"^(local (?:function )?(\w+)(?: = .*|.* end|.*\n(?:.*\n)*?end)\n)",
    "".join(map(_read, ("common", "invalidation", "drafts", "summary"))),
    re.MULTILINE,
)


def _with_library(text: str) -> str:
    """Put those parts of the library in front of a script that it uses, itself or in other parts.

    Each run of a script creates all functions in it, so unused ones would cost time.
    """
    for part, name in reversed(_LIBRARY):
        if re.search(rf"\b{name}\b", text):
            text = part + text
    return text


class Script:
    """A script: its name, its text, and its SHA-1 digest, by which Redis knows it.

    A script with ``many`` takes the arguments of any number of calls, one after the other, and
    returns a list of their results. One that is ``guarded`` refuses partitions of other servers.
    """

    __slots__ = ("digest", "effect", "many", "name", "text")

    def __init__(
        self,
        name: str,
        *,
        many: bool = False,
        effect: Effect = Effect.HIDDEN,
        guarded: bool = True,
    ) -> None:
        self.name = name
        self.many = many
        self.effect = effect
        guard = _read("guard") if guarded else ""
        self.text = (_read("partition") + guard + _with_library(_read(name))).encode()
        # Redis identifies scripts by SHA-1; nothing depends on its strength.
        self.digest = sha1(self.text, usedforsecurity=False).hexdigest().encode()


GET = Script("get", many=True, effect=Effect.NONE)
"""Arguments: pairs of a key, and '1' for details or ''. Look-ups; they change nothing. Returns
for each key the value, or false for a miss, or an error. With details: the value, the remaining
time to live, and the tags. Cost: O(tags) for each look-up.
"""
PUT = Script("put", effect=Effect.CHANGE)
"""Arguments: key, value, time to live or '', grace, tags. Returns 1. Cost: O(tags)."""
ADD = Script("add", effect=Effect.CHANGE)
"""Arguments: key, value, time to live or '', tags. Returns 1 if it was stored, 0 if the entry
existed. Cost: O(tags).
"""
INCR = Script("incr", effect=Effect.CHANGE)
"""Arguments: key, step, time to live or '', default time to live or '', largest length of a
value, '1' or '' (the tags are only for an entry that is created), tags. Returns the new number in
a list; otherwise an error as text: 'overflow', 'not an integer', or the length of a value that is
too long. Cost: O(tags).
"""
TOUCH = Script("touch", effect=Effect.CHANGE)
"""Arguments: key, time to live or ''. Returns 1, or 0 if there is no entry. Cost: O(tags + length
of the value).
"""
DELETE = Script("delete", effect=Effect.CHANGE)
"""Arguments: keys. Returns how many entries existed. Cost: O(tags) for each entry."""
SOFTEN = Script("soften", effect=Effect.CHANGE)
"""Arguments: keys. Invalidates these entries softly. Returns how many there were. Cost: O(tags)
for each entry.
"""
FETCH = Script("fetch", many=True)
"""Arguments: for each look-up five: key, '1' for the tags of a hit or '', token, milliseconds,
largest number of leases. Looks up a key, and grants a lease with the token if there is neither an
entry nor a lease. Returns for each the value; or the value and its tags; or the milliseconds that
another client's lease lasts, 0 if this lease was granted, and value and tags of a stale entry, or
false and none. Cost: O(tags) for each look-up.
"""
FILL = Script("fill", effect=Effect.CHANGE)
"""Arguments: key, token of a lease, value, time to live or '', grace, tags. Stores a value that was
computed under the lease, and ends the lease. Returns 1, or 0 if the value may be outdated, or there
is no such lease. Cost: O(tags).
"""
RELEASE = Script("release")
"""Arguments: key, token of a lease. Ends the lease. Returns 1, or 0 if there is no such lease.
Cost: O(1).
"""
DRAFT = Script("draft", effect=Effect.NONE)
"""Arguments: keys. Returns their state. Cost: O(lengths of the values)."""
CARRY_OUT = Script("carry_out", effect=Effect.CHANGE)
"""Arguments: first key, number of keys, the other keys; for each key its record or '' if there is
no entry; then changes: key, value, expires ms or '', time to live, number of tags, tags. One that
has expired removes the entry. Returns how many were removed; or the state of the keys if a record
is another one, and then nothing is changed. Cost: O(tags) for each change.
"""
INVALIDATE = Script("invalidate", effect=Effect.CHANGE)
"""Arguments: number of entries to remove at once, 'any' or 'all', 'soft' or '', tags. Invalidates
the entries with any or all of the tags. With any, none of them exists from now on: many become a
dead set. With all, or softly, many are left to invalidate_page. Returns how many were counted,
the sequence number, what is left to do, and some of the keys. What is left are names of dead
sets; or the tags whose entries are left; or all the tags, the rarest first. Cost: O(tags of the
call), and O(tags) for each entry that is removed at once.
"""
INVALIDATE_PAGE = Script("invalidate_page", effect=Effect.CHANGE)
"""Arguments: number of entries, cursor, sequence number of the invalidation, 'soft' or '', tags.
Removes the entries with all of the tags that are older than the invalidation, or lets them become
stale; looks for them in the index of the first tag. Returns how many there were, and the next
cursor, '0' at the end. Cost: O(tags) for each entry.
"""
PURGE_SET = Script("purge_set")
"""Arguments: number of entries, name of a dead set or '' for the oldest one, and in that case
'any', or 'uncounted' for the oldest one that is not counted. Removes entries of the set. Returns
how many of them had not been counted, and whether some are left. Cost: O(tags) for each entry.
"""
FLUSH = Script("flush", effect=Effect.CHANGE)
"""Arguments: '' or 'now'. Begins a new epoch; all entries stay behind in the old one, for
reclaim. Returns how many there were; without 'now', -1 if uncounted dead entries have to be
removed first. Cost: O(1).
"""
RECLAIM = Script("reclaim")
"""Arguments: number of entries. Frees memory of the oldest flushed epoch. Returns 0 when nothing
is left. Cost: O(number of entries).
"""
SWEEP = Script("sweep")
"""Arguments: number of entries, number of generations to keep. Removes expired entries, samples
for evicted ones, and forgets old leases, stale entries and generations. Returns whether there are
more, and the result of TOTALS. Cost: O(tags) for each entry that is removed, and for 20 to 120
samples.
"""
PEEK = Script("peek", effect=Effect.NONE)
"""Arguments: keys. Returns for each live entry a row and the value; false for the others. Cost:
O(length of the value + tags) for each key.
"""
MEMBERS = Script("members", effect=Effect.NONE)
"""Arguments: number of entries, cursor, entries to skip, number of required tags, these tags,
excluded tags. Returns the next cursor, rows, and how many entries were skipped before them. Cost:
O(tags) for each entry that is looked at.
"""
NEWEST = Script("newest", effect=Effect.NONE)
"""Arguments: number of entries, score to begin at or '+inf', prefix of keys, entries to skip.
Returns the score of the next page, '' at the end; rows, the last stored first; how many entries
were skipped before. Cost: O(tags) for each entry that is looked at.
"""
KEYS = Script("keys", effect=Effect.NONE)
"""Arguments: number of entries, cursor. Returns the next cursor, how many entries were looked at,
and the keys of the live ones. Cost: O(tags) for each entry that is looked at.
"""
RANDOM_KEY = Script("random_key", effect=Effect.NONE)
"""Arguments: number of entries to look at. Returns the key of a live one at random, or false.
Cost: O(tags) for 10 entries or a few more.
"""
TAGS = Script("tags", effect=Effect.NONE)
"""Arguments: number of tags, cursor, prefix. Returns the next cursor, and name, keys and bytes of
each tag. Cost: O(log of the entries) for each tag.
"""
TOTALS = Script("totals", effect=Effect.NONE)
"""No arguments. Returns the numbers of entries, tags and bytes, the number of dead and flushed
entries that are still to be removed, the counts, not 0 if dead sets or old epochs are still to be
removed, and the numbers of leases that are out and of stale entries. Cost: O(dead sets + old
epochs).
"""
ELECT = Script("elect")
"""Arguments: token of a server, milliseconds, its report. Elects the server for the upkeep for so
long, unless another one is elected; with 0 milliseconds, ends that. Returns 1 and any text, or 0
and the last report of the elected server. Cost: O(length of the report).
"""
COUNTS = Script("counts")
"""Arguments: hits, misses, puts of a server since its last call. Returns the counts of all
servers. Cost: O(1).
"""
COUNT = Script("count", effect=Effect.NONE)
"""Arguments: tag. Returns the number of entries with it; -1 if one has to look at each of them.
Cost: O(log of the entries).
"""
CHECK = Script("check", effect=Effect.NONE)
"""Arguments: number of entries, 'entries' or 'tags', tag, cursor. Checks that entries and indexes
agree, from the records to the indexes, or from the index of a tag to the records. Returns the
next cursor, how many entries were checked, and the disagreements as pairs of a key and a text.
Cost: O(tags) for each entry.
"""
LAYOUT = Script("layout", guarded=False)
"""Arguments: a layout or ''. Records the layout in the first partition if none is recorded there.
Returns the recorded one or '', and not 0 if the partition was used. Cost: O(1).
"""
ADOPT = Script("adopt", guarded=False)
"""Arguments: homes of the other servers. Makes this server the home of the partition. The entries
are kept if one of these servers moved the slot here; otherwise a new epoch begins, because they may
be older than what clients have seen. Returns 1 if they are kept, otherwise 0.
Cost: O(other servers).
"""

EVERY = tuple(each for each in globals().values() if isinstance(each, Script))
