"""The scripts that run inside Redis, each in a file of its own."""

from __future__ import annotations

from hashlib import sha1
from importlib import resources


class Script:
    """A script: its name, its text, and its SHA-1 digest, by which Redis knows it.

    A script with ``many`` takes the arguments of any number of calls, one after the other, and
    returns a list of their results. One that ``changes`` entries does what replicas may confirm.
    """

    __slots__ = ("changes", "digest", "many", "name", "text")

    def __init__(self, name: str, *before: str, many: bool = False, changes: bool = False) -> None:
        folder = resources.files(__package__)
        texts = [folder.joinpath(f"{each}.lua").read_bytes() for each in (*before, name)]
        self.name = name
        self.many = many
        self.changes = changes
        self.text = b"".join(texts)
        # Redis identifies scripts by SHA-1; nothing depends on its strength.
        self.digest = sha1(self.text, usedforsecurity=False).hexdigest().encode()


_GUARDED = ("partition", "guard")
_COMMON = (*_GUARDED, "common")
_INVALIDATION = (*_COMMON, "invalidation")
_DRAFTS = (*_COMMON, "drafts")

GET = Script("get", *_GUARDED, many=True)
PUT = Script("put", *_COMMON, changes=True)
ADD = Script("add", *_COMMON, changes=True)
INCR = Script("incr", *_COMMON, changes=True)
TOUCH = Script("touch", *_COMMON, changes=True)
DELETE = Script("delete", *_COMMON, changes=True)
DRAFT = Script("draft", *_DRAFTS)
CARRY_OUT = Script("carry_out", *_DRAFTS, changes=True)
INVALIDATE = Script("invalidate", *_INVALIDATION, changes=True)
INVALIDATE_PAGE = Script("invalidate_page", *_INVALIDATION, changes=True)
PURGE_SET = Script("purge_set", *_COMMON)
FLUSH = Script("flush", *_COMMON, changes=True)
RECLAIM = Script("reclaim", *_COMMON)
SWEEP = Script("sweep", *_COMMON)
PEEK = Script("peek", *_COMMON)
MEMBERS = Script("members", *_COMMON)
NEWEST = Script("newest", *_COMMON)
KEYS = Script("keys", *_COMMON)
RANDOM_KEY = Script("random_key", *_COMMON)
TAGS = Script("tags", *_COMMON)
TOTALS = Script("totals", *_COMMON)
COUNTS = Script("counts", *_COMMON)
COUNT = Script("count", *_COMMON)
CHECK = Script("check", *_COMMON)
ADOPT = Script("adopt", "partition", "common")

EVERY = tuple(each for each in globals().values() if isinstance(each, Script))
