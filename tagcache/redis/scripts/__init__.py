"""The scripts that run inside Redis, each in a file of its own."""

from __future__ import annotations

from hashlib import sha1
from importlib import resources


class Script:
    """A script: its name, its text, and its SHA-1 digest, by which Redis knows it.

    A script with ``many`` takes the arguments of any number of calls, one after the other, and
    returns a list of their results.
    """

    __slots__ = ("digest", "many", "name", "text")

    def __init__(self, name: str, *before: str, many: bool = False) -> None:
        folder = resources.files(__package__)
        texts = [folder.joinpath(f"{each}.lua").read_bytes() for each in (*before, name)]
        self.name = name
        self.many = many
        self.text = b"".join(texts)
        # Redis identifies scripts by SHA-1; nothing depends on its strength.
        self.digest = sha1(self.text, usedforsecurity=False).hexdigest().encode()


_COMMON = "common"
_INVALIDATION = ("common", "invalidation")
_DRAFTS = ("common", "drafts")

GET = Script("get", many=True)
PUT = Script("put", _COMMON)
ADD = Script("add", _COMMON)
INCR = Script("incr", _COMMON)
TOUCH = Script("touch", _COMMON)
DELETE = Script("delete", _COMMON)
DRAFT = Script("draft", *_DRAFTS)
CARRY_OUT = Script("carry_out", *_DRAFTS)
INVALIDATE = Script("invalidate", *_INVALIDATION)
PREPARE = Script("prepare", *_INVALIDATION)
COMMIT = Script("commit", _COMMON)
COMMITTED = Script("committed", _COMMON)
FINISH = Script("finish", *_INVALIDATION)
PURGE_SET = Script("purge_set", _COMMON)
PURGE_ALL = Script("purge_all", _COMMON)
FLUSH = Script("flush", _COMMON)
RECLAIM = Script("reclaim", _COMMON)
SWEEP = Script("sweep", _COMMON)
PEEK = Script("peek", _COMMON)
MEMBERS = Script("members", _COMMON)
NEWEST = Script("newest", _COMMON)
KEYS = Script("keys", _COMMON)
RANDOM_KEY = Script("random_key", _COMMON)
TAGS = Script("tags", _COMMON)
TOTALS = Script("totals", _COMMON)
COUNTS = Script("counts", _COMMON)
COUNT = Script("count", _COMMON)
CHECK = Script("check", _COMMON)

EVERY = tuple(each for each in globals().values() if isinstance(each, Script))
