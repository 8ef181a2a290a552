"""Commands on tags: those in the cache, and those that the tag rules give to a key."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from tagcache.cli.api import NOT_FOUND, IServer, pass_database
from tagcache.cli.configuration import CONFIG_OPTION, load_or_exit
from tagcache.cli.output import json_option, print_json, print_rows
from tagcache.config.limits import limits_of
from tagcache.model.limits import Limits


class _OrList(click.Group):
    """A group whose command ``list`` may be left out."""

    def parse_args(self, context: click.Context, args: list[str]) -> list[str]:
        named = args and (args[0] in self.commands or args[0] in context.help_option_names)
        if not named and not context.resilient_parsing:
            args = ["list", *args]
        return super().parse_args(context, args)

    def shell_complete(self, context: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return self.commands["list"].shell_complete(context, incomplete)
        return super().shell_complete(context, incomplete)


@click.group(cls=_OrList)
def tags() -> None:
    """List the tags in the cache, or explain the tags that rules give to a key.

    `tagcache tags PREFIX` is `tagcache tags list PREFIX`.
    """


@tags.command("list")
@click.argument("prefix", default="")
@click.option(
    "--sort", type=click.Choice(["keys", "bytes", "hits"]), default="keys", show_default=True
)
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True)
@json_option
@pass_database
def list_tags(server: IServer, prefix: str, sort: str, limit: int, as_json: bool) -> None:
    """List the tags that begin with PREFIX, the largest first."""
    found = server.call("GET", "/tags", query={"prefix": prefix, "sort": sort, "limit": limit})
    if as_json:
        print_json(found["tags"])
        return
    names = ("name", "keys", "bytes", "hits", "invalidations")
    rows = [[each[name] for name in names] for each in found["tags"]]
    print_rows(("tag", *names[1:]), rows, "no tags")


@tags.command()
@click.argument("key")
@CONFIG_OPTION
@json_option
def explain(key: str, file: Path | None, as_json: bool) -> None:
    """Print the tags that the tag rules of the configuration give to KEY, and each one's rule.

    No server is asked: the file is read as a start or a reload would read it. Exit code 1 if an
    entry that is stored under KEY without tags gets none.
    """
    limits = limits_of(load_or_exit(file).settings)
    rows = [
        (tag.decode(errors="backslashreplace"), rule, note)
        for rule, tag, note in _explained(limits, os.fsencode(key))
    ]
    if as_json:
        print_json([{"tag": tag, "rule": rule, "note": note} for tag, rule, note in rows])
    else:
        print_rows(("tag", "rule", "note"), rows, "no tags")
    if not any(note is None for *_, note in rows):
        raise SystemExit(NOT_FOUND)


def _explained(limits: Limits, key: bytes) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield (rule, tag, note) for each tag made from the key; without a note, the entry gets it."""
    if limits.tag_rules is None:
        return
    given = limits.tags_of(key)
    seen: set[bytes] = set()
    for rule, tag in limits.tag_rules.made_of(key):
        note = None
        if len(tag) > limits.max_tag_length:
            note = f"left out: {len(tag)} bytes, cache.max_tag_length is {limits.max_tag_length}"
        elif tag not in given:
            note = f"left out: cache.max_tags_per_entry is {limits.max_tags_per_entry}"
        elif tag in seen:
            note = "given already"
        seen.add(tag)
        yield rule.name, tag, note
