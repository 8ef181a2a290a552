"""Commands that show the state of the server."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from tagcache.cli.api import IServer, pass_database, pass_server
from tagcache.cli.output import json_option, print_json, print_rows, redraw, table_text

# Totals that only grow, so that they have a rate.
_COUNTERS = ("hits", "misses", "puts", "invalidations", "expirations", "evictions")


@click.command()
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Repeat with rates, every two seconds by default.",
)
@click.option("--count", type=click.IntRange(min=1), help="With --watch: how many times.")
@json_option
@pass_database
def stats(server: IServer, watch: float | None, count: int | None, as_json: bool) -> None:
    """Print the counters and totals of a database."""
    if watch is None:
        _show(server.call("GET", "/stats"), {}, as_json)
        return
    # Ctrl-C is the normal way to stop.
    with suppress(KeyboardInterrupt):
        _watch(server, watch, count, as_json)


def _watch(server: IServer, seconds: float, count: int | None, as_json: bool) -> None:
    before: dict[str, Any] = {}
    since = 0.0
    for number in itertools.count(1):
        now = time.monotonic()
        answer = server.call("GET", "/stats")
        rates = {
            name: round((answer[name] - before[name]) / (now - since), 1)
            for name in _COUNTERS
            if name in before
        }
        if not as_json and sys.stdout.isatty():
            title = f"{server.url}, every {seconds:g} s; stop with Ctrl-C"
            rows = [(name, value, rates.get(name)) for name, value in _totals(answer)]
            redraw(f"{title}\n\n{table_text(('what', 'value', 'per second'), rows)}")
        else:
            _show(answer, rates, as_json)
        if number == count:
            return
        before, since = answer, now
        time.sleep(seconds)


def _show(answer: dict[str, Any], rates: dict[str, float], as_json: bool) -> None:
    if as_json:
        print_json({**answer, "per_second": rates} if rates else answer)
        return
    rows = [
        (name, value, rates[name]) if name in rates else (name, value)
        for name, value in _totals(answer)
    ]
    print_rows(("what", "value"), rows, "nothing")


def _totals(stats: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in stats.items() if not name.startswith("shard_")]


@click.command()
@json_option
@pass_database
def status(server: IServer, as_json: bool) -> None:
    """Print whether the server answers, and a summary of its state."""
    health_answer = server.call("GET", "/health")
    totals = server.call("GET", "/stats")
    connections = server.call("GET", "/connections")["connections"]
    process = server.call("GET", "/info")["server"]
    answer = {
        "url": server.url,
        "status": health_answer["status"],
        "items": totals["items"],
        "tags": totals["tags"],
        "bytes": totals["bytes"],
        "hit_ratio": totals["hit_ratio"],
        "connections": len(connections),
        "event_loop": process["event_loop"],
        "native_core": process["native_core"],
    }
    if as_json:
        print_json(answer)
    else:
        print_rows(("what", "value"), list(answer.items()), "nothing")


@click.command()
@json_option
@pass_server
def health(server: IServer, as_json: bool) -> None:
    """Print ok if the server answers; exit code 4 if not. Needs no credentials."""
    answer = server.call("GET", "/health")
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["status"])


@click.command()
@click.argument("section", required=False)
@json_option
@pass_server
def info(server: IServer, section: str | None, as_json: bool) -> None:
    """Print the state of the server: all of it, or one SECTION such as server or cache."""
    told = server.call("GET", "/info")
    if section is not None:
        if section not in told:
            raise click.UsageError(
                f"there is no section {section}; known ones are {', '.join(told)}"
            )
        told = {section: told[section]}
    if as_json:
        print_json(told)
    else:
        print_rows(("what", "value"), list(_flat(told)), "nothing")


def _flat(told: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value in nested objects and lists, with its dotted name."""
    parts: Iterable[tuple[Any, Any]]
    if isinstance(told, dict):
        parts = told.items()
    elif isinstance(told, list):
        parts = enumerate(told)
    else:
        yield name, told
        return
    for part, value in parts:
        yield from _flat(value, f"{name}.{part}" if name else str(part))


@click.command()
@click.option("--limit", type=click.IntRange(0, 256), default=20, show_default=True)
@json_option
@pass_server
def slowlog(server: IServer, limit: int, as_json: bool) -> None:
    """Print the recent slow commands, the newest first."""
    slow = server.call("GET", "/slowlog", query={"limit": limit})["slow"]
    if as_json:
        print_json(slow)
        return
    rows = [
        (
            datetime.fromtimestamp(each["time"], UTC).isoformat(timespec="milliseconds"),
            *(each[name] for name in ("duration_ms", "command", "commands", "argument", "peer")),
        )
        for each in slow
    ]
    headings = ("ended", "took ms", "command", "commands", "argument", "peer")
    print_rows(headings, rows, "no slow commands")


@click.command()
@json_option
@pass_server
def clients(server: IServer, as_json: bool) -> None:
    """Print the connections, and the socket options whose effective value differs."""
    connections = server.call("GET", "/connections")["connections"]
    if as_json:
        print_json(connections)
        return
    rows = [
        (
            each["id"],
            each["listener"],
            each["peer"],
            each["age_seconds"],
            each["idle_seconds"],
            each["commands"],
            each["bytes_in"],
            each["bytes_out"],
            each["last_verb"],
            " ".join(_differences(each["socket_options"])) or "as asked",
        )
        for each in connections
    ]
    headings = (
        *("id", "listener", "peer", "age s", "idle s", "commands"),
        *("bytes in", "bytes out", "last verb", "socket options"),
    )
    print_rows(headings, rows, "no connections")


def _differences(options: dict[str, dict[str, Any]]) -> list[str]:
    return [
        f"{name}={each['effective']}(asked:{each['asked']})"
        for name, each in options.items()
        if each["asked"] is not None and each["asked"] != each["effective"]
    ]
