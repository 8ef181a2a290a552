"""Commands that tell how the server is doing."""

from __future__ import annotations

import time
from typing import Any

import click

from tagcache.cli.api import Api
from tagcache.cli.output import json_option, print_json, print_rows


def _totals(stats: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, each) for name, each in stats.items() if not name.startswith("shard_")]


@click.command()
@click.option(
    "--watch",
    type=click.FloatRange(min=0.1),
    is_flag=False,
    flag_value=2.0,
    metavar="[SECONDS]",
    help="Print again and again, every two seconds if none are given.",
)
@click.option("--count", type=click.IntRange(min=1), help="With --watch: how often.")
@json_option
@click.pass_obj
def stats(api: Api, watch: float | None, count: int | None, as_json: bool) -> None:
    """Print the counters and totals of the cache."""
    left = count if watch is not None else 1
    while True:
        answer = api.call("GET", "/stats")
        if as_json:
            print_json(answer)
        else:
            print_rows(("what", "value"), _totals(answer), "nothing")
        if left is not None:
            left -= 1
            if not left:
                return
        time.sleep(watch or 0)


@click.command()
@json_option
@click.pass_obj
def status(api: Api, as_json: bool) -> None:
    """Print whether the server answers, and how it is doing."""
    health_answer = api.call("GET", "/health")
    totals = api.call("GET", "/stats")
    connections = api.call("GET", "/connections")["connections"]
    answer = {
        "url": api.url,
        "status": health_answer["status"],
        "items": totals["items"],
        "tags": totals["tags"],
        "bytes": totals["bytes"],
        "hit_ratio": totals["hit_ratio"],
        "connections": len(connections),
    }
    if as_json:
        print_json(answer)
    else:
        print_rows(("what", "value"), list(answer.items()), "nothing")


@click.command()
@json_option
@click.pass_obj
def health(api: Api, as_json: bool) -> None:
    """Print ok if the server answers; exit code 4 if not. Asks for no credentials."""
    answer = api.call("GET", "/health")
    if as_json:
        print_json(answer)
    else:
        click.echo(answer["status"])


@click.command()
@json_option
@click.pass_obj
def clients(api: Api, as_json: bool) -> None:
    """Print who is connected, and the socket options that are not as asked."""
    connections = api.call("GET", "/connections")["connections"]
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
