"""Commands on entries: store, count, look up, remove, search."""

from __future__ import annotations

import base64
import sys
from typing import Any

import click

from tagcache.cli.api import NOT_DONE, Api, Failed, segment
from tagcache.cli.output import json_option, print_json, print_rows

_TAGS = click.option("--tags", default="", help="Tags, with commas between them.")
_TTL = click.option("--ttl-ms", type=click.IntRange(min=0), help="Time to live in milliseconds.")
_MODE = click.option(
    "--any/--all", "any_tag", default=True, help="Of several tags: any of them, or all."
)


def _value(given: str) -> str:
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError:
        raise click.UsageError("what is read from standard input must be UTF-8 text") from None


def _body(tags: str, ttl_ms: int | None, **fields: Any) -> dict[str, Any]:
    body = {**fields, "tags": [tag for tag in tags.split(",") if tag]}
    return body if ttl_ms is None else {**body, "ttl_ms": ttl_ms}


@click.command()
@click.argument("key")
@click.argument("value")
@_TAGS
@_TTL
@json_option
@click.pass_obj
def put(api: Api, key: str, value: str, tags: str, ttl_ms: int | None, as_json: bool) -> None:
    """Store VALUE under KEY; the value - is read from standard input."""
    answer = api.call("POST", "/put", _body(tags, ttl_ms, key=key, value=_value(value)))
    if as_json:
        print_json(answer)


@click.command()
@click.argument("key")
@click.argument("value")
@_TAGS
@_TTL
@json_option
@click.pass_obj
def add(api: Api, key: str, value: str, tags: str, ttl_ms: int | None, as_json: bool) -> None:
    """Store VALUE under KEY only if the key is absent; exit code 1 if it is not."""
    answer = api.call("POST", "/add", _body(tags, ttl_ms, key=key, value=_value(value)))
    if as_json:
        print_json(answer)
    if not answer["added"]:
        raise SystemExit(NOT_DONE)


def _counting(name: str, path: str, about: str) -> click.Command:
    @click.command(name, help=about)
    @click.argument("key")
    @click.option("--by", type=int, default=1, show_default=True, help="The step.")
    @_TAGS
    @_TTL
    @json_option
    @click.pass_obj
    def count(api: Api, key: str, by: int, tags: str, ttl_ms: int | None, as_json: bool) -> None:
        answer = api.call("POST", path, _body(tags, ttl_ms, key=key, by=by))
        if as_json:
            print_json(answer)
        elif answer["ok"]:
            click.echo(answer["value"])
        if not answer["ok"]:
            raise Failed(answer["error"])

    return count


increment = _counting("increment", "/incr", "Count an integer up, and print it.")
decrement = _counting("decrement", "/decr", "Count an integer down, and print it.")


@click.group()
def get() -> None:
    """Look up a value, or the keys of a tag."""


@get.command("key")
@click.argument("key")
@json_option
@click.pass_obj
def get_key(api: Api, key: str, as_json: bool) -> None:
    """Print the value of KEY, and nothing else; exit code 1 if there is none."""
    if as_json:
        answer = api.call("GET", f"/keys/{segment(key)}")
        print_json(answer)
    else:
        answer = api.call("GET", f"/get/{segment(key)}")
    if answer.get("error") == "not_found":
        raise SystemExit(NOT_DONE)
    if "error" in answer:
        raise Failed("the value is compressed, and has more bytes than cache.max_value_length")
    if not as_json:
        if "value_base64" in answer:
            value = base64.b64decode(answer["value_base64"])
        else:
            value = answer["value"].encode()
        click.echo(value, nl=sys.stdout.isatty())


@get.command("tag")
@click.argument("tag")
@json_option
@click.pass_obj
def get_tag(api: Api, tag: str, as_json: bool) -> None:
    """Print the keys that carry TAG, one a line; exit code 1 if there are none."""
    keys = api.call("GET", "/keys-by-tag", query={"tag": tag})["keys"]
    if as_json:
        print_json(keys)
    else:
        for key in keys:
            click.echo(key)
    if not keys:
        raise SystemExit(NOT_DONE)


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
@click.pass_obj
def flush_key(api: Api, keys: tuple[str, ...], as_json: bool) -> None:
    """Remove the entries KEYS, and print how many there were; exit code 1 if none."""
    count = api.call("POST", "/invalidate/keys", {"keys": list(keys)})["count"]
    _removed(count, as_json)
    if not count:
        raise SystemExit(NOT_DONE)


@flush.command("tag")
@click.argument("tags", nargs=-1, required=True)
@_MODE
@json_option
@click.pass_obj
def flush_tag(api: Api, tags: tuple[str, ...], any_tag: bool, as_json: bool) -> None:
    """Remove what carries any (or all) of TAGS, and print how many; exit code 1 if none."""
    body = {"tags": list(tags), "mode": "any" if any_tag else "all"}
    count = api.call("POST", "/invalidate/tags", body)["count"]
    _removed(count, as_json)
    if not count:
        raise SystemExit(NOT_DONE)


@flush.command("all")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def flush_all(api: Api, yes: bool, as_json: bool) -> None:
    """Remove everything, and print how many entries there were."""
    if not yes:
        click.confirm("Remove every entry?", abort=True, err=True)
    _removed(api.call("POST", "/flush")["count"], as_json)


@click.command()
@click.argument("prefix", default="")
@click.option("--tag", "tags", multiple=True, help="Only what carries this tag (repeatable).")
@_MODE
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True)
@click.option("--offset", type=click.IntRange(min=0), default=0)
@json_option
@click.pass_obj
def search(
    api: Api,
    prefix: str,
    tags: tuple[str, ...],
    any_tag: bool,
    limit: int,
    offset: int,
    as_json: bool,
) -> None:
    """List entries by tags, else by a PREFIX of their keys, else the newest."""
    if prefix and tags:
        raise click.UsageError("search by a prefix or by tags, not by both")
    body: dict[str, Any] = {"limit": limit, "offset": offset}
    if tags:
        body["tag_any" if any_tag else "tag_all"] = list(tags)
    elif prefix:
        body["q"] = prefix
    found = api.call("POST", "/search", body)["keys"]
    if as_json:
        print_json(found)
        return
    rows = [(each["key"], each["ttl_ms"], ",".join(each["tags"])) for each in found]
    print_rows(("key", "ttl ms", "tags"), rows, "nothing found")
