"""The ``tagcache`` command and its subcommands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

import tagcache
from tagcache.config.loading import find, load
from tagcache.errors import ConfigurationError
from tagcache.server.preflight import Preflight

_CONFIG = click.option(
    "--config",
    "-c",
    type=click.Path(path_type=Path),
    help="The configuration file; else ./tagcache.conf, the user's, or built-in defaults.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(tagcache.__version__, prog_name="tagcache")
def main() -> None:
    """TagCache, a tag-aware cache server."""


@main.command()
@_CONFIG
@click.option("--reactor", help="The Twisted reactor to use, for instance epoll or asyncio.")
def server(config: Path | None, reactor: str | None) -> None:
    """Run the server in the foreground, as `twistd --nodaemon tagcache` does."""
    from twisted.scripts import twistd

    arguments = ["--nodaemon", "--pidfile="]
    if reactor is not None:
        arguments.append(f"--reactor={reactor}")
    arguments.append("tagcache")
    if config is not None:
        arguments.append(f"--config={config}")
    sys.argv = ["twistd", *arguments]
    twistd.run()


@main.group()
def config() -> None:
    """Look at the configuration."""


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
def check(file: Path | None) -> None:
    """Say everything that is wrong with FILE, without starting anything.

    The environment variables count, as they do at a start. Exit code 1 if it can not be used.
    """
    path = file or find(os.environ)
    try:
        notices = Preflight().check(load(path, os.environ))
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    click.echo(f"{path or 'built-in defaults and environment'}: fine")
