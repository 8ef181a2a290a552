"""What docs/redis-clients.md and docs/resp.md say is true of the clients that the tests run."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import pytest
from packaging.version import Version

from tagcache.server.commands.resp.refused import REFUSED_COMMANDS
from tests.outside.redis_clients.resp import Connection
from tests.outside.redis_clients.test_their_own_tests import SUITES

DOCS = Path(__file__).parents[3] / "docs"
TEXT = (DOCS / "redis-clients.md").read_text(encoding="utf-8")
# The distribution of each client.
CLIENTS = {name: suite.distribution for name, suite in SUITES.items() if "asyncio" not in name}
CLIENTS["Django's `RedisCache`"] = "django"


def rows(heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading."""
    table = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_clients_are_those_of_the_tests() -> None:
    versions = {client: version for client, version, *_ in rows("Clients")}
    python = {client: versions[client] for client in versions if client in CLIENTS}
    assert python.keys() == CLIENTS.keys()
    for client, version in python.items():
        installed = importlib.metadata.version(CLIENTS[client])
        assert Version(version) <= Version(installed), client


@pytest.mark.tagcache_only("it has commands for tags")
def test_the_commands_are_those_of_the_server(redis_port: int) -> None:
    connection = Connection(redis_port)
    listed = {name.content.decode().upper() for name in connection.ask(b"COMMAND", b"LIST").content}
    connection.close()
    named = set(re.findall(r"[A-Z][A-Z.]+", (DOCS / "resp.md").read_text(encoding="utf-8")))
    refused = {row.verb.decode() for row in REFUSED_COMMANDS}
    assert not listed - refused - named


@pytest.mark.tagcache_only("it has commands for tags")
def test_the_example(redis_port: int) -> None:
    (example,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(example.replace(":1984/", f":{redis_port}/"), scope := {})
    scope["cache"].close()
