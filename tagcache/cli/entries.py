"""Commands on entries: store, increment, look up, remove, search."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, TypeVar

import click

from tagcache.cli.api import NOT_FOUND, REFUSED, Failed, IServer, pass_database, segment
from tagcache.cli.durations import Duration
from tagcache.cli.output import json_option, print_json, print_rows

Function = TypeVar("Function", bound=Callable[..., Any])

_TAGS = click.option("--tags", "-t", default="", help="Tags, separated by commas.")
_MODE = click.option(
    "--any/--all", "any_tag", default=True, help="With several tags: any of them, or all."
)


def _ttl(function: Function) -> Function:
    """Add --ttl and --ttl-ms to a command; either becomes its parameter ``ttl_ms``."""

    @click.option("--ttl", type=Duration(), help="Time to live: 500ms, 90 (seconds), 5m, 2h, 7d.")
    @click.option("--ttl-ms", type=click.IntRange(min=0), help="The same in milliseconds.")
    @wraps(function)
    def with_ttl(*args: Any, ttl: int | None, ttl_ms: int | None, **more: Any) -> Any:
        if ttl is not None and ttl_ms is not None:
            raise click.UsageError("--ttl and --ttl-ms cannot be used together")
        return function(*args, ttl_ms=ttl_ms if ttl is None else ttl, **more)

    return with_ttl  # type: ignore[return-value]  # click passes arguments by name


def _tags_of(texts: Iterable[str]) -> list[str]:
    """Return the tags in comma-separated lists, without blanks at either end."""
    return [tag.strip() for text in texts for tag in text.split(",") if tag.strip()]


def _value(given: str) -> str:
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise click.UsageError("standard input must be UTF-8 text") from None


def _body(tags: str, ttl_ms: int | None, **fields: Any) -> dict[str, Any]:
    body = {**fields, "tags": _tags_of([tags])}
    return body if ttl_ms is None else {**body, "ttl_ms": ttl_ms}


@click.command()
@click.argument("key")
@click.argument("value")
@_TAGS
@_ttl
@json_option
@pass_database
def put(
    server: IServer, key: str, value: str, tags: str, ttl_ms: int | None, as_json: bool
) -> None:
    """Store VALUE under KEY; the value - is read from standard input."""
    answer = server.call("POST", "/put", _body(tags, ttl_ms, key=key, value=_value(value)))
    if as_json:
        print_json(answer)


@click.command()
@click.argument("key")
@click.argument("value")
@_TAGS
@_ttl
@json_option
@pass_database
def add(
    server: IServer, key: str, value: str, tags: str, ttl_ms: int | None, as_json: bool
) -> None:
    """Store VALUE under KEY only if the key is absent; exit code 1 if it is not."""
    answer = server.call("POST", "/add", _body(tags, ttl_ms, key=key, value=_value(value)))
    if as_json:
        print_json(answer)
    if not answer["added"]:
        raise SystemExit(NOT_FOUND)


def _counting(name: str, path: str, about: str) -> click.Command:
    @click.command(name, help=about)
    @click.argument("key")
    @click.option("--by", "-b", type=int, default=1, show_default=True, help="The step.")
    @_TAGS
    @_ttl
    @json_option
    @pass_database
    def count(
        server: IServer, key: str, by: int, tags: str, ttl_ms: int | None, as_json: bool
    ) -> None:
        answer = server.call("POST", path, _body(tags, ttl_ms, key=key, by=by))
        if as_json:
            print_json(answer)
        elif answer["ok"]:
            click.echo(answer["value"])
        if not answer["ok"]:
            raise Failed(answer["error"], REFUSED)

    return count


increment = _counting("increment", "/incr", "Add to an integer, and print the sum.")
decrement = _counting("decrement", "/decr", "Subtract from an integer, and print the result.")


@click.group()
def get() -> None:
    """Look up a value, or the keys of a tag."""


@get.command("key")
@click.argument("key")
@json_option
@pass_database
def get_key(server: IServer, key: str, as_json: bool) -> None:
    """Print the value of KEY, and nothing else; exit code 1 if there is none."""
    if as_json:
        answer = server.call("GET", f"/keys/{segment(key)}")
        print_json(answer)
    else:
        answer = server.call("GET", f"/get/{segment(key)}")
    if answer.get("error") == "not_found":
        raise SystemExit(NOT_FOUND)
    if "error" in answer:
        raise Failed(
            "the value is compressed, and has more bytes than cache.max_value_length", REFUSED
        )
    if not as_json:
        if "value_base64" in answer:
            value = base64.b64decode(answer["value_base64"])
        else:
            value = answer["value"].encode()
        click.echo(value, nl=sys.stdout.isatty())


@get.command("tag")
@click.argument("tags", nargs=-1, required=True)
@json_option
@pass_database
def get_tag(server: IServer, tags: tuple[str, ...], as_json: bool) -> None:
    """Print the keys with any of TAGS, one per line; exit code 1 if there are none.

    Several tags are separated by commas or blanks.
    """
    found: dict[str, None] = {}
    for tag in _required(tags):
        keys = server.call("GET", "/keys-by-tag", query={"tag": tag})["keys"]
        found.update(dict.fromkeys(keys))
    if as_json:
        print_json(list(found))
    else:
        for key in found:
            click.echo(key)
    if not found:
        raise SystemExit(NOT_FOUND)


def _required(texts: Iterable[str]) -> list[str]:
    tags = _tags_of(texts)
    if not tags:
        raise click.UsageError("no tag is given")
    return tags


@click.command()
@click.argument("key")
@_ttl
@json_option
@pass_database
def touch(server: IServer, key: str, ttl_ms: int | None, as_json: bool) -> None:
    """Set a new time to live for KEY, from now; exit code 1 if there is no entry.

    Without a time to live, the server's default applies.
    """
    body = {"key": key} if ttl_ms is None else {"key": key, "ttl_ms": ttl_ms}
    answer = server.call("POST", "/touch", body)
    if as_json:
        print_json(answer)
    if not answer["touched"]:
        raise SystemExit(NOT_FOUND)


@click.group()
def flush() -> None:
    """Remove entries: by key, by tag, or all."""


def _removed(count: int, as_json: bool) -> None:
    if as_json:
        print_json({"count": count})
    else:
        click.echo(f"{count} removed" if sys.stdout.isatty() else count)


@flush.command("key")
@click.argument("keys", nargs=-1, required=True)
@json_option
@pass_database
def flush_key(server: IServer, keys: tuple[str, ...], as_json: bool) -> None:
    """Remove the entries of KEYS, and print how many there were; exit code 1 if none."""
    count = server.call("POST", "/invalidate/keys", {"keys": list(keys)})["count"]
    _removed(count, as_json)
    if not count:
        raise SystemExit(NOT_FOUND)


@flush.command("tag")
@click.argument("tags", nargs=-1, required=True)
@_MODE
@json_option
@pass_database
def flush_tag(server: IServer, tags: tuple[str, ...], any_tag: bool, as_json: bool) -> None:
    """Remove all entries with any (or all) of TAGS; print their number; exit code 1 if none.

    Several tags are separated by commas or blanks.
    """
    body = {"tags": _required(tags), "mode": "any" if any_tag else "all"}
    count = server.call("POST", "/invalidate/tags", body)["count"]
    _removed(count, as_json)
    if not count:
        raise SystemExit(NOT_FOUND)


@flush.command("all")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@pass_database
def flush_all(server: IServer, yes: bool, as_json: bool) -> None:
    """Remove everything in the database, and print how many entries there were."""
    if not yes:
        where = f" of database {server.db}" if server.db else ""
        click.confirm(f"Remove every entry{where}?", abort=True, err=True)
    _removed(server.call("POST", "/flush")["count"], as_json)


@click.command()
@click.argument("prefix", default="")
@click.option(
    "--tag", "-t", "tags", multiple=True, help="Only entries with this tag (several: a,b)."
)
@_MODE
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0)
@json_option
@pass_database
def search(
    server: IServer,
    prefix: str,
    tags: tuple[str, ...],
    any_tag: bool,
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List entries by tags, by a PREFIX of their keys, or, without either, the newest."""
    if prefix and tags:
        raise click.UsageError("PREFIX and --tag cannot be used together")
    body: dict[str, Any] = {"limit": limit, "offset": offset}
    if tags:
        body["tag_any" if any_tag else "tag_all"] = _required(tags)
    elif prefix:
        body["q"] = prefix
    found = server.call("POST", "/search", body)["keys"]
    if as_json:
        print_json(found)
        return
    rows = [(each["key"], each["ttl_ms"], ",".join(each["tags"])) for each in found]
    print_rows(("key", "ttl ms", "tags"), rows, "nothing found")
