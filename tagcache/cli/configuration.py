"""Commands on the configuration file."""

from __future__ import annotations

import os
import tempfile
import tomllib
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem
from configobj import ConfigObj, ConfigObjError

from tagcache.cli.api import NOT_AUTHORISED, Failed, IServer, pass_server
from tagcache.cli.output import json_option, print_json, print_rows
from tagcache.config.loading import (
    NEEDS_RESTART,
    Configuration,
    configspec,
    find,
    load,
    user_file,
)
from tagcache.config.rewriting import rewrite
from tagcache.config.toml import from_toml
from tagcache.errors import ConfigurationError

# The exit code for an invalid configuration.
UNUSABLE = 1

CONFIG_OPTION = click.option(
    "--config",
    "-c",
    "file",
    type=click.Path(path_type=Path),
    help="The configuration file; default: ./tagcache.conf, the user's, or built-in defaults.",
)

TAG_RULES = "tag_rules"
# Knobs whose values are separated by commas.
_LISTS = frozenset({("security", "allowed_ips"), ("server", "allowed_hosts")})


@click.group()
def config() -> None:
    """Show, check and change the configuration file."""


def load_or_exit(file: Path | None) -> Configuration:
    """Return the configuration of a file, or of the usual one; print what is wrong, and exit."""
    try:
        return load(file or find(os.environ), os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def _split(knob: str) -> tuple[str, str]:
    """Return section and key. A tag rule may have any name."""
    section, _, key = knob.partition(".")
    if key not in configspec().get(section, {}) and not (section == TAG_RULES and key):
        raise click.UsageError(f"there is no knob {knob}; see: tagcache config show")
    return section, key


def _complete_knob(
    context: click.Context, argument: click.Parameter, begun: str
) -> Sequence[CompletionItem]:
    spec = configspec()
    names = (f"{section}.{key}" for section in spec for key in spec[section])
    return [CompletionItem(name) for name in names if name.startswith(begun)]


@config.command()
@CONFIG_OPTION
@json_option
def show(file: Path | None, as_json: bool) -> None:
    """Print every knob and tag rule, its value, and the value's source; secrets are masked."""
    rows = [
        (f"{section}.{key}", _shown(value), origin.value)
        for section, key, value, origin in load_or_exit(file).knobs()
    ]
    if as_json:
        print_json([{"knob": k, "value": v, "origin": o} for k, v, o in rows])
    else:
        print_rows(("knob", "value", "from"), rows, "nothing")


@config.command("get")
@click.argument("knob", shell_complete=_complete_knob)
@CONFIG_OPTION
@json_option
def get_knob(knob: str, file: Path | None, as_json: bool) -> None:
    """Print the value of KNOB, for instance server.tcp_port; a secret is masked.

    KNOB may be a tag rule, such as tag_rules.posts.
    """
    name = _split(knob)
    for section, key, value, origin in load_or_exit(file).knobs():
        if (section, key) == name:
            if as_json:
                print_json({"knob": knob, "value": _shown(value), "origin": origin.value})
            else:
                click.echo(_shown(value))
            return
    raise click.UsageError(f"there is no tag rule {name[1]}; see: tagcache config show")


@config.command("set")
@click.argument("knob", shell_complete=_complete_knob)
@click.argument("value")
@CONFIG_OPTION
@pass_server
def set_knob(server: IServer, knob: str, value: str, file: Path | None) -> None:
    """Set KNOB to VALUE in the file; an invalid value changes nothing.

    KNOB may be a tag rule, such as tag_rules.posts; VALUE is then its pattern and its tags, written
    as in the file.

    Without --config, the file is the one that the running server uses.
    """
    name = _split(knob)
    content: str | list[str] = value
    if name[0] == TAG_RULES:
        content = _as_in_file(value)
    elif name in _LISTS:
        content = [each.strip() for each in value.split(",")]
    _change(file, {name: content}, server)


def _as_in_file(value: str) -> str | list[str]:
    """Return a value, or a list of values with commas between them, some of them in quotes."""
    try:
        read = ConfigObj([f"value = {value}"], interpolation=False)
    except ConfigObjError:
        raise click.UsageError(f"{value} cannot be read as a value in a file") from None
    if read.inline_comments["value"]:
        raise click.UsageError("a # in a value must be in quotes")
    content: str | list[str] = read["value"]
    return content


@config.command()
@click.argument("knob", required=False, shell_complete=_complete_knob)
@click.option("--yes", is_flag=True, help="Do not ask before every knob is reset.")
@CONFIG_OPTION
@pass_server
def reset(server: IServer, knob: str | None, yes: bool, file: Path | None) -> None:
    """Reset KNOB to its default by removing it from the file; without KNOB, reset every knob.

    KNOB may be a tag rule. Without KNOB, tag rules stay.
    """
    if knob is not None:
        _change(file, {_split(knob): None}, server)
        return
    if not yes:
        click.confirm("Remove every knob from the file?", abort=True, err=True)
    spec = configspec()
    _change(file, {(section, key): None for section in spec for key in spec[section]}, server)


@config.command()
@json_option
def path(as_json: bool) -> None:
    """Print which file is read; if there is none, print a possible place, and exit with 1."""
    found = find(os.environ)
    if as_json:
        print_json({"file": str(found.absolute()) if found is not None else None})
        raise SystemExit(int(found is None))
    if found is not None:
        click.echo(found.absolute())
        return
    click.echo(f"none; it could be {user_file(os.environ)}", err=True)
    raise SystemExit(1)


@config.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def check(file: Path | None, as_json: bool) -> None:
    """Print everything that is wrong with FILE, or its tag rules, without starting the server.

    Environment variables apply as they do at a start. Exit code 1 if FILE cannot be used.
    """
    # Imported here because it imports Twisted, which takes longer than most commands.
    from tagcache.server.preflight import Preflight

    used = file or find(os.environ)
    try:
        configuration = load(used, os.environ)
        notices = Preflight().check(configuration)
    except ConfigurationError as error:
        if as_json:
            print_json({"fine": False, "faults": list(error.faults), "notices": []})
        else:
            click.echo(str(error), err=True)
        raise SystemExit(1) from None
    rules = configuration.settings.tag_rules.rules
    if as_json:
        by_name = {each.name: {"pattern": each.pattern, "tags": each.tags} for each in rules}
        print_json({"fine": True, "faults": [], "notices": notices, "tag_rules": by_name})
        return
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    for each in rules:
        click.echo(f"tag rule {each.name}: {each.pattern} -> {', '.join(each.tags)}")
    click.echo(f"{used or 'built-in defaults and environment'}: fine")


@config.command("import-toml")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The file to write, which must not exist; default: standard output.",
)
def import_toml(file: Path, output: Path | None) -> None:
    """Convert the TOML configuration of the reference implementation to ours."""
    try:
        ours, notices = from_toml(file.read_text(encoding="utf-8"), configspec())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failed(f"{file} is not valid TOML: {error}", UNUSABLE) from None
    for notice in notices:
        click.echo(notice, err=True)
    text = "\n".join(ours.write()) + "\n"
    _check_text(text)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failed(f"{output} cannot be written: {error.strerror}", UNUSABLE) from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        written.write(text)


def _check_text(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as trial:
        trial.write(text)
        trial.flush()
        try:
            load(Path(trial.name), {})
        except ConfigurationError as error:
            raise Failed("; ".join(error.faults), UNUSABLE) from None


def _change(
    file: Path | None,
    changes: dict[tuple[str, str], str | list[str] | None],
    server: IServer,
) -> None:
    """Change the file, unless the result would be invalid."""
    when = "its next start" if NEEDS_RESTART & changes.keys() else "a reload (SIGHUP)"
    applies = f"a server that uses it applies the change at {when}"
    target, notice = (file, applies) if file else _file_of(server, applies)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch, "trial.conf")
        try:
            if target.exists():
                trial.write_bytes(target.read_bytes())
            rewrite(trial, changes)
            load(trial, {})
            rewrite(target, changes)
        except ConfigurationError as error:
            raise Failed(f"{target}: {'; '.join(error.faults)}", UNUSABLE) from None
        except OSError as error:
            raise Failed(f"{target}: {error.strerror}", UNUSABLE) from None
    click.echo(f"{target} is changed; {notice}", err=True)


def _file_of(server: IServer, applies: str) -> tuple[Path, str]:
    """Return the file to change if none is given, and a notice to print afterwards.

    This is the file of the running server: changing or creating another one would not affect that
    server. ``applies`` is the notice for a server that uses the file. Raises Failed if the file is
    unknown or not on this machine.
    """
    found = find(os.environ)
    other = (found or user_file(os.environ)).absolute()
    no_server = other, applies
    try:
        told = server.call("GET", "/info")
    except Failed as error:
        if error.exit_code != NOT_AUTHORISED:
            return no_server
        raise Failed(
            f"the server at {server.url} does not reveal which file it uses ({error.message}); "
            "name the file to change with --config",
            NOT_AUTHORISED,
        ) from None
    if not isinstance(told, dict) or "server" not in told:
        # The other end is not a TagCache server.
        return no_server
    file = told["server"]["config_file"]
    if file is None:
        return other, f"the server at {server.url} runs without a file until its next start"
    used = Path(file)
    if not (_is_here(server.host) and used.exists()):
        raise Failed(
            f"the server at {server.url} uses {used}, which is not on this machine; change it "
            "there, or name another file with --config",
            UNUSABLE,
        )
    if found is not None and not used.samefile(found):
        raise Failed(
            f"the server at {server.url} uses {used}, not {other}; name the file to change "
            "with --config",
            UNUSABLE,
        )
    return used, applies


def _is_here(host: str) -> bool:
    """Return whether a name or address is the loopback of this machine."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
