"""What COMMAND DOCS tells of the arguments of commands."""

from __future__ import annotations

from typing import Any

import pytest

from tagcache.server.commands.resp.syntax import arguments_of
from tagcache.server.commands.resp.table import RespCommand
from tests.helpers import settings_with
from tests.unit.server.line.test_protocol import Server
from tests.unit.server.resp.test_door import Client

SUPPORTED = Server(settings_with()).factory._resp_table.supported


def fewest(argument: dict[str, Any]) -> int:
    """How many words an argument takes at least."""
    if "optional" in argument.get("flags", ()):
        return 0
    within = [fewest(each) for each in argument.get("arguments", ())]
    match argument["type"]:
        case "oneof":
            return min(within)
        case "block":
            return sum(within)
        case "pure-token":
            return 1
    return 1 + ("token" in argument)


@pytest.mark.parametrize("row", SUPPORTED, ids=lambda row: row.verb.decode())
def test_each_command_is_described_with_the_arguments_that_it_takes(row: RespCommand) -> None:
    arguments = arguments_of(row.verb)
    least = 1 + sum(map(fewest, arguments))
    if row.arity > 0:
        assert least == row.arity
        assert not any("flags" in each for each in arguments)
    else:
        # Subcommands may need more than the command as such.
        assert least >= -row.arity


def depth(argument: dict[str, Any]) -> int:
    """How many maps, arrays and sets are in one another."""
    within = [depth(each) for each in argument.get("arguments", ())]
    return 1 + max(("flags" in argument, *(1 + each for each in within)))


def test_all_of_it_is_a_reply() -> None:
    # Those of Redis itself have nine, and older releases of hiredis read no more.
    assert max(3 + depth(each) for row in SUPPORTED for each in arguments_of(row.verb)) <= 9
    client = Client()
    everything = client("COMMAND", "DOCS")
    assert everything.startswith(b"*%d\r\n" % (2 * len(SUPPORTED)))
    assert client("COMMAND", "DOCS", "get", "none", "tag.of").startswith(
        b"*4\r\n$3\r\nget\r\n*6\r\n"
    )
    optional = b"*1\r\n+optional\r\n"
    assert optional in client("COMMAND", "DOCS", "expire")
    client("HELLO", 3)
    assert optional.replace(b"*", b"~", 1) in client("COMMAND", "DOCS", "expire")


def test_tokens_options_and_repetition() -> None:
    condition, *_ = arguments_of(b"EXPIRE")[2:]
    assert condition == {
        "name": "nx-xx-gt-lt",
        "type": "oneof",
        "flags": ["optional"],
        "arguments": [
            {"name": name.lower(), "type": "pure-token", "token": name}
            for name in ("NX", "XX", "GT", "LT")
        ],
    }
    assert arguments_of(b"MSET") == [
        {
            "name": "key-value",
            "type": "block",
            "flags": ["multiple"],
            "arguments": [{"name": "key", "type": "key"}, {"name": "value", "type": "string"}],
        }
    ]
    assert arguments_of(b"TAG.SET")[-2:] == [
        {"name": "number", "type": "integer", "token": "TAGS"},
        {"name": "tag", "type": "string", "flags": ["optional", "multiple"]},
    ]
