"""Commands on the configuration file."""

from __future__ import annotations

import os
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import click
from configobj import ConfigObj

from tagcache.cli.api import Failed
from tagcache.cli.output import json_option, print_json, print_rows
from tagcache.config.loading import Configuration, configspec, find, load, user_file
from tagcache.config.rewriting import rewrite
from tagcache.errors import ConfigurationError
from tagcache.server.preflight import Preflight

CONFIG_OPTION = click.option(
    "--config",
    "-c",
    "file",
    type=click.Path(path_type=Path),
    help="The configuration file; else ./tagcache.conf, the user's, or built-in defaults.",
)

# Knobs whose values are separated by commas.
_LISTS = frozenset({("security", "allowed_ips"), ("server", "allowed_hosts")})


@click.group()
def config() -> None:
    """Look at the configuration file, and change it."""


def _load(file: Path | None) -> Configuration:
    try:
        return load(file or find(os.environ), os.environ)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


def _shown(value: Any) -> Any:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else value


def _split(knob: str) -> tuple[str, str]:
    section, _, key = knob.partition(".")
    if key not in configspec().get(section, {}):
        raise click.UsageError(f"there is no knob {knob}; see: tagcache config show")
    return section, key


@config.command()
@CONFIG_OPTION
@json_option
def show(file: Path | None, as_json: bool) -> None:
    """Print every knob, its value, and where that came from; secrets are masked."""
    rows = [
        (f"{section}.{key}", _shown(value), origin.value)
        for section, key, value, origin in _load(file).knobs()
    ]
    if as_json:
        print_json([{"knob": k, "value": v, "origin": o} for k, v, o in rows])
    else:
        print_rows(("knob", "value", "from"), rows, "nothing")


@config.command("get")
@click.argument("knob")
@CONFIG_OPTION
@json_option
def get_knob(knob: str, file: Path | None, as_json: bool) -> None:
    """Print the value of KNOB, for instance server.tcp_port; a secret is masked."""
    name = _split(knob)
    for section, key, value, origin in _load(file).knobs():
        if (section, key) == name:
            if as_json:
                print_json({"knob": knob, "value": _shown(value), "origin": origin.value})
            else:
                click.echo(_shown(value))


@config.command("set")
@click.argument("knob")
@click.argument("value")
@CONFIG_OPTION
def set_knob(knob: str, value: str, file: Path | None) -> None:
    """Set KNOB to VALUE in the file; a value that can not be used changes nothing."""
    name = _split(knob)
    content = [each.strip() for each in value.split(",")] if name in _LISTS else value
    _change(file, {name: content})


@config.command()
@click.argument("knob", required=False)
@click.option("--yes", is_flag=True, help="Do not ask, where every knob is reset.")
@CONFIG_OPTION
def reset(knob: str | None, yes: bool, file: Path | None) -> None:
    """Set KNOB back to its default by taking it out of the file; without KNOB, every one."""
    if knob is not None:
        _change(file, {_split(knob): None})
        return
    if not yes:
        click.confirm("Take every knob out of the file?", abort=True, err=True)
    spec = configspec()
    _change(file, {(section, key): None for section in spec for key in spec[section]})


@config.command()
@json_option
def path(as_json: bool) -> None:
    """Print which file is read; exit code 1 if there is none, and where it would be."""
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
    """Say everything that is wrong with FILE, without starting anything.

    The environment variables count, as they do at a start. Exit code 1 if it can not be used.
    """
    used = file or find(os.environ)
    try:
        notices = Preflight().check(load(used, os.environ))
    except ConfigurationError as error:
        if as_json:
            print_json({"fine": False, "faults": list(error.faults), "notices": []})
        else:
            click.echo(str(error), err=True)
        raise SystemExit(1) from None
    if as_json:
        print_json({"fine": True, "faults": [], "notices": notices})
        return
    for notice in notices:
        click.echo(f"notice: {notice}", err=True)
    click.echo(f"{used or 'built-in defaults and environment'}: fine")


@click.command("import-toml")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    help="The file to write, which must not exist; else standard output.",
)
def import_toml(file: Path, output: Path | None) -> None:
    """Turn the TOML configuration of the reference implementation into ours."""
    try:
        given = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failed(f"{file} is not TOML: {error}") from None
    spec = configspec()
    ours = ConfigObj(interpolation=False)
    for section, knobs in given.items():
        for key, value in knobs.items() if isinstance(knobs, dict) else ():
            if section in spec and key in spec[section] and not isinstance(value, dict):
                ours.setdefault(section, {})[key] = value
            else:
                click.echo(f"left out, because it is not known here: {section}.{key}", err=True)
        if not isinstance(knobs, dict):
            click.echo(f"left out, because it is not known here: {section}", err=True)
    text = "\n".join(ours.write()) + "\n"
    _check_text(text)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Failed(f"{output} can not be written: {error.strerror}") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as written:
        written.write(text)


def _check_text(text: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".conf", encoding="utf-8") as trial:
        trial.write(text)
        trial.flush()
        try:
            load(Path(trial.name), {})
        except ConfigurationError as error:
            raise Failed("; ".join(error.faults)) from None


def _change(file: Path | None, changes: dict[tuple[str, str], str | list[str] | None]) -> None:
    """Change the file, but only into one that can be used."""
    target = file or find(os.environ) or user_file(os.environ)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch, "trial.conf")
        try:
            if target.exists():
                trial.write_bytes(target.read_bytes())
            rewrite(trial, changes)
            load(trial, {})
            rewrite(target, changes)
        except ConfigurationError as error:
            raise Failed("; ".join(error.faults)) from None
        except OSError as error:
            raise Failed(f"{target}: {error.strerror}") from None
    click.echo(f"{target} is changed; a running server follows at a reload (SIGHUP)", err=True)
