"""The ``tagcache`` command: common options, and the subcommands that start a server."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlunsplit

import click
from click.core import ParameterSource
from click.shell_completion import get_completion_class

import tagcache
from tagcache import native
from tagcache.cli import bench, cache_port, configuration, credentials, entries, state, tags
from tagcache.cli.api import Credentials, HttpServer, IServer
from tagcache.client.options import split_url
from tagcache.config.loading import find, load
from tagcache.config.settings import DEFAULT_PASSWORD, DEFAULT_USERNAME
from tagcache.errors import BadArgument, ConfigurationError


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    invoke_without_command=True,
)
@click.version_option(tagcache.__version__, prog_name="tagcache")
@click.option("--host", default="127.0.0.1", show_default=True, help="The host of the server.")
@click.option("--port", "-p", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option(
    "--url",
    envvar="TAGCACHE_URL",
    metavar="URL",
    help="In place of --host and --port: http://, https://, tagcache://, tagcaches:// or unix://.",
)
@click.option("--username", "-u", envvar="TAGCACHE_USERNAME", default=DEFAULT_USERNAME)
@click.option("--password", envvar="TAGCACHE_PASSWORD", default=DEFAULT_PASSWORD)
@click.option("--token", "-t", envvar="TAGCACHE_TOKEN", help="In place of username and password.")
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
    """TagCache, a tag-aware cache server. Without a command, start the server.

    TAGCACHE_URL, TAGCACHE_USERNAME, TAGCACHE_PASSWORD and TAGCACHE_TOKEN set the options' defaults.
    Exit codes: 0 done, 1 not found, 2 usage, 3 not authorised, 4 unavailable, 5 refused.
    """
    at = f"[{host}]" if ":" in host else host
    if url is None or (_is_from_environment(context, "url") and _is_typed(context, "host", "port")):
        url = f"http://{at}:{port}"
    if _is_from_environment(context, "token") and _is_typed(context, "username", "password"):
        token = None
    given = Credentials(username, password, token)
    in_url = not _is_typed(context, "username", "password", "token")
    context.obj = lambda db=None: _server_at(url, given, in_url, db)
    if context.invoked_subcommand is None:
        context.invoke(server)


def _server_at(url: str, given: Credentials, in_url: bool, db: int | None = None) -> IServer:
    """Return the server. With ``in_url``, credentials in the URL override those given.

    ``db`` is the number of the database; None: that of the URL.
    """
    try:
        parts = split_url(url)
    except BadArgument as error:
        raise click.UsageError(str(error)) from None
    before, at, where = parts.netloc.rpartition("@")
    if at:
        url = urlunsplit(parts._replace(netloc=where))
        if in_url:
            username, _, password = before.partition(":")
            given = Credentials(unquote(username), unquote(password), None)
    if parts.scheme in ("http", "https"):
        return HttpServer(url, given, db)
    if parts.scheme in cache_port.SCHEMES:
        return cache_port.CachePortServer(url, given, db)
    known = ", ".join(f"{each}://" for each in ("http", "https", *cache_port.SCHEMES))
    raise click.UsageError(f"{url} is not the URL of a server; use one of {known}")


def _is_from_environment(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is ParameterSource.ENVIRONMENT


def _is_typed(context: click.Context, *names: str) -> bool:
    return any(context.get_parameter_source(n) is ParameterSource.COMMANDLINE for n in names)


@main.command()
@configuration.CONFIG_OPTION
@click.option(
    "--reactor",
    help="The Twisted reactor; default: the fastest one that can be used.",
)
def server(file: Path | None = None, reactor: str | None = None) -> None:
    """Run the server in the foreground, as `twistd --nodaemon tagcache` does."""
    from twisted.application.reactors import NoSuchReactor, getReactorTypes, installReactor
    from twisted.scripts import twistd

    reactor = reactor or _fastest_reactor(file)
    # Install it here, because twistd would answer a failure with its own usage text.
    try:
        installReactor(reactor)
    except NoSuchReactor:
        known = ", ".join(sorted(each.shortName for each in getReactorTypes()))
        raise click.UsageError(f"there is no reactor {reactor}; known ones are {known}") from None
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"--reactor={reactor} cannot be used: {error}") from None
    arguments = ["--nodaemon", "--pidfile=", "tagcache"]
    if file is not None:
        arguments.append(f"--config={file}")
    sys.argv = ["twistd", *arguments]
    twistd.run()


def _fastest_reactor(file: Path | None) -> str:
    """Return the name of the fastest reactor that can be used with this configuration."""
    try:
        backend = load(file or find(os.environ), os.environ).settings.engine.backend
    except ConfigurationError:
        # The server reports the fault when it reads the configuration.
        backend = "memory"
    if backend == "memory" and native.core is not None:
        return "tagcache"
    # The Redis engine needs an asyncio reactor.
    return "uvloop" if find_spec("uvloop") is not None else "asyncio"


@main.command()
def restart() -> None:
    """Print how to restart the server."""
    click.echo(
        "Restart the server the way you started it:\n"
        "  systemd:          systemctl restart tagcache\n"
        "  twistd (daemon):  kill $(cat twistd.pid), then twistd tagcache again\n"
        "  tagcache server:  Ctrl-C, then tagcache server again\n"
        "Most changes of the configuration need only a reload: kill -HUP PID, or\n"
        "systemctl reload tagcache."
    )


@main.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of this command for SHELL.

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
    entries.touch,
    state.stats,
    state.status,
    state.health,
    state.clients,
    state.info,
    state.slowlog,
    tags.tags,
    credentials.change_password,
    credentials.reset_credentials,
    configuration.config,
    configuration.import_toml,
    bench.bench,
):
    main.add_command(command)
