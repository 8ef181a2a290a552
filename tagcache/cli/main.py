"""The ``tagcache`` command: what is common to its subcommands, and those that start a server."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click
from click.core import ParameterSource
from click.shell_completion import get_completion_class

import tagcache
from tagcache.cli import bench, configuration, credentials, entries, state
from tagcache.cli.api import Api
from tagcache.config.settings import DEFAULT_PASSWORD, DEFAULT_USERNAME


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(tagcache.__version__, prog_name="tagcache")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where the server is.")
@click.option("--port", "-p", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--url", envvar="TAGCACHE_URL", metavar="URL", help="Instead of --host and --port.")
@click.option("--username", "-u", envvar="TAGCACHE_USERNAME", default=DEFAULT_USERNAME)
@click.option("--password", envvar="TAGCACHE_PASSWORD", default=DEFAULT_PASSWORD)
@click.option("--token", "-t", envvar="TAGCACHE_TOKEN", help="Instead of user and password.")
@click.pass_context
def main(
    context: click.Context,
    host: str,
    port: int,
    url: str | None,
    username: str,
    password: str,
    token: str | None,
) -> None:
    """TagCache, a tag-aware cache server.

    TAGCACHE_URL, TAGCACHE_USERNAME, TAGCACHE_PASSWORD and TAGCACHE_TOKEN stand in for the
    options. Exit codes: 0 done, 1 not found or not done, 2 usage, 3 not authorised,
    4 not reachable.
    """
    at = f"[{host}]" if ":" in host else host
    if url is None or (_is_from_environment(context, "url") and _is_typed(context, "host", "port")):
        url = f"http://{at}:{port}"
    if _is_from_environment(context, "token") and _is_typed(context, "username", "password"):
        token = None
    context.obj = Api(url, username, password, token)


def _is_from_environment(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.ENVIRONMENT


def _is_typed(context: click.Context, *names: str) -> bool:
    return any(context.get_parameter_source(n) is ParameterSource.COMMANDLINE for n in names)


@main.command()
@configuration.CONFIG_OPTION
@click.option(
    "--reactor",
    help="The Twisted reactor; else uvloop where it is installed, and asyncio where not.",
)
def server(file: Path | None, reactor: str | None) -> None:
    """Run the server in the foreground, as `twistd --nodaemon tagcache` does."""
    from twisted.scripts import twistd

    if reactor is None:
        # The one that redis as the engine needs, and the fastest of that kind if it is there.
        reactor = "uvloop" if find_spec("uvloop") is not None else "asyncio"
    arguments = ["--nodaemon", "--pidfile="]
    if reactor is not None:
        arguments.append(f"--reactor={reactor}")
    arguments.append("tagcache")
    if file is not None:
        arguments.append(f"--config={file}")
    sys.argv = ["twistd", *arguments]
    twistd.run()


@main.command()
def restart() -> None:
    """Say how to restart the server."""
    click.echo(
        "The server is restarted by what started it:\n"
        "  systemd:          systemctl restart tagcache\n"
        "  twistd (daemon):  kill $(cat twistd.pid), then twistd tagcache again\n"
        "  tagcache server:  Ctrl-C, then tagcache server again\n"
        "To follow a changed configuration, most knobs need no restart: kill -HUP PID, or\n"
        "systemctl reload tagcache."
    )


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete this command.

    For bash: eval "$(tagcache completion bash)", in ~/.bashrc.
    """
    cls = get_completion_class(shell)
    if cls is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(cls(main, {}, "tagcache", "_TAGCACHE_COMPLETE").source())


for command in (
    entries.put,
    entries.add,
    entries.increment,
    entries.decrement,
    entries.get,
    entries.flush,
    entries.search,
    state.stats,
    state.status,
    state.health,
    state.clients,
    credentials.change_password,
    credentials.reset_credentials,
    configuration.config,
    configuration.import_toml,
    bench.bench,
):
    main.add_command(command)
