"""What runs inside Redis, each script in a file of its own."""

from __future__ import annotations

from hashlib import sha1
from importlib import resources


class Script:
    """A script: its name, its text, and the digest by which Redis knows it."""

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str) -> None:
        folder = resources.files(__package__)
        text = folder.joinpath(f"{name}.lua").read_text("utf-8")
        if name != "get":
            text = folder.joinpath("common.lua").read_text("utf-8") + text
        self.name = name
        self.text = text.encode()
        # How Redis names scripts; nothing depends on its strength.
        self.digest = sha1(self.text, usedforsecurity=False).hexdigest().encode()


GET = Script("get")
PUT = Script("put")
ADD = Script("add")
INCR = Script("incr")
TOUCH = Script("touch")
DELETE = Script("delete")
INVALIDATE_ANY = Script("invalidate_any")
INVALIDATE_ALL = Script("invalidate_all")
BURY = Script("bury")
BURY_ALL = Script("bury_all")
FLUSH = Script("flush")
RECLAIM = Script("reclaim")
SWEEP = Script("sweep")
PEEK = Script("peek")
MEMBERS = Script("members")
NEWEST = Script("newest")
TAGS = Script("tags")
TOTALS = Script("totals")
COUNTS = Script("counts")
COUNT = Script("count")
CHECK = Script("check")
