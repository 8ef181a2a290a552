"""All commands over RESP, and those for a client that has not authenticated yet."""

from __future__ import annotations

from collections.abc import Iterable

from tagcache.server.commands.resp.expiry import EXPIRY_COMMANDS
from tagcache.server.commands.resp.fresh import FRESH_COMMANDS
from tagcache.server.commands.resp.keys import KEY_COMMANDS
from tagcache.server.commands.resp.refused import REFUSED_COMMANDS
from tagcache.server.commands.resp.scripts import Scripts
from tagcache.server.commands.resp.strings import STRING_COMMANDS
from tagcache.server.commands.resp.table import RespCommand
from tagcache.server.commands.resp.tags import TAG_COMMANDS
from tagcache.server.commands.resp.transactions import TRANSACTION_COMMANDS

_BEFORE_LOGIN = frozenset((b"AUTH", b"HELLO", b"QUIT", b"RESET"))

# The commands that need nothing but their caller.
ENTRY_COMMANDS = (
    *STRING_COMMANDS,
    *EXPIRY_COMMANDS,
    *KEY_COMMANDS,
    *TAG_COMMANDS,
    *FRESH_COMMANDS,
    *TRANSACTION_COMMANDS,
)


class RespTable:
    """The rows by verb: ``everything``, and those ``before_login``.

    ``supported`` are the rows without those of refused commands.
    """

    def __init__(self, rows: Iterable[RespCommand]) -> None:
        self.supported = (*ENTRY_COMMANDS, *Scripts().rows(), *rows)
        self.everything = {row.verb: row for row in (*REFUSED_COMMANDS, *self.supported)}
        self.before_login = {
            verb: row for verb, row in self.everything.items() if verb in _BEFORE_LOGIN
        }
