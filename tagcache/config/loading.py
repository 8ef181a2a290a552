"""Read the configuration: return one Settings, or report everything that is wrong at once."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from ipaddress import ip_address
from pathlib import Path
from shlex import quote
from typing import Any, get_type_hints

from configobj import ConfigObj, ConfigObjError, flatten_errors, get_extra_values

from tagcache.config.checks import validator
from tagcache.config.environment import Override, overrides
from tagcache.config.settings import Settings
from tagcache.config.tag_rules import read_rules
from tagcache.config.toml import is_toml
from tagcache.errors import ConfigurationError
from tagcache.model.tag_rules import TagRules

FILE_NAME = "tagcache.conf"
# The URL may hold a password.
SECRETS = frozenset({("authentication", "password"), ("engine", "url")})
# These knobs are read once, at the start. A reload applies all others.
NEEDS_RESTART = frozenset(
    {
        ("server", "host"),
        ("server", "tcp_port"),
        ("server", "http_port"),
        ("server", "num_shards"),
        ("cache", "databases"),
        ("cache", "eviction_policy"),
        ("engine", "backend"),
        ("engine", "url"),
        ("engine", "connections"),
        ("engine", "key_prefix"),
        ("engine", "partitions"),
        ("engine", "near_cache_mb"),
        ("persistence", "snapshot_file"),
        ("persistence", "after_crash"),
        ("logging", "format"),
        ("logging", "file"),
        ("performance", "listen_backlog"),
        ("performance", "reuse_port"),
        ("performance", "defer_accept_seconds"),
        ("performance", "fast_open_queue"),
        ("manhole", "enabled"),
        ("manhole", "port"),
        ("manhole", "user"),
        ("manhole", "authorized_keys_file"),
        ("manhole", "host_key_file"),
    }
)
_SECTION = re.compile(r"\s*\[+\s*([^\[\]]+?)\s*\]")
_QUOTED = re.compile(r"""(["']).*?\1""")
_KEY = re.compile(r"""\s*["']?([^#=\s"']+)["']?\s*=""")


class Origin(enum.Enum):
    """The source of a knob's value."""

    DEFAULT = "default"
    FILE = "file"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class Configuration:
    """Settings and their sources.

    ``path`` is the file that was read, or None. ``origins`` has the source of the value of each
    (section, key). ``notices`` are sentences that the operator should see.
    """

    settings: Settings
    path: Path | None
    origins: Mapping[tuple[str, str], Origin]
    notices: tuple[str, ...]

    def knobs(self) -> Iterator[tuple[str, str, Any, Origin]]:
        """Yield (section, key, value, origin) for every knob and every tag rule, secrets masked."""
        for section, key, value in self.settings.knobs():
            name = section, key
            yield *name, "********" if name in SECRETS else value, self.origins[name]

    def changed(self) -> Iterator[tuple[str, str]]:
        """Yield (section, key) of every knob whose value is not the default."""
        default = set(load(None, {}).settings.knobs())
        for section, key, value in self.settings.knobs():
            if (section, key, value) not in default:
                yield section, key


def find(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to use if none is named; None if there is none.

    It is ``tagcache.conf`` in the working directory, or else in the user's configuration
    directory.
    """
    for candidate in (Path(FILE_NAME), user_file(environ)):
        if candidate.is_file():
            return candidate
    return None


def user_file(environ: Mapping[str, str]) -> Path:
    """Return the path of the user's own configuration file, which need not exist."""
    base = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME", "")) / ".config"
    return Path(base, "tagcache", FILE_NAME)


def load(path: Path | None, environ: Mapping[str, str]) -> Configuration:
    """Read ``path`` and the environment; only the environment if ``path`` is None.

    Raises ConfigurationError, which lists everything that is wrong.
    """
    source = str(path) if path is not None else "built-in defaults and environment"
    text = _read(path, source) if path is not None else ""
    try:
        return _parse(path, source, text, environ)
    except ConfigurationError:
        if path is not None and is_toml(path, text):
            ours = path.with_name(f"{path.stem}-converted.conf")
            fault = (
                "is TOML, the format of the reference implementation; convert it with: "
                f"tagcache config import-toml {quote(str(path))} --output {quote(str(ours))}"
            )
            raise ConfigurationError(source, [fault]) from None
        raise


def _parse(path: Path | None, source: str, text: str, environ: Mapping[str, str]) -> Configuration:
    try:
        config = ConfigObj(
            text.splitlines(),
            configspec=configspec(),
            interpolation=False,
            raise_errors=False,
        )
    except ConfigObjError as error:
        faults = [_syntax_fault(each) for each in getattr(error, "errors", None) or [error]]
        raise ConfigurationError(source, faults) from None
    lines = _line_numbers(text)
    faults = _misplaced(config, lines) + _cut_values(text)
    rules, bad_rules = read_rules(config.pop("tag_rules", {}))
    faults += [f"{_where(('tag_rules', name), lines)}: {fault}" for name, fault in bad_rules]
    from_environment, notices = overrides(environ)
    by_knob = {}
    for override in from_environment:
        section = config.setdefault(override.section, {})
        section[override.key] = override.value
        by_knob[override.section, override.key] = override
    faults += _no_address(by_knob)
    checked = config.validate(validator(), preserve_errors=True)
    if checked is not True:
        faults += _value_faults(config, checked, lines, by_knob)
    faults += _unknown_names(config, lines)
    if faults:
        raise ConfigurationError(source, sorted(faults, key=_line_number))
    return _configuration(config, path, by_knob, notices, rules)


def configspec() -> ConfigObj:
    """Return the parsed configspec."""
    text = resources.files(__package__).joinpath("configspec.ini").read_text("utf-8")
    return ConfigObj(
        text.splitlines(), interpolation=False, list_values=False, _inspec=True, raise_errors=True
    )


def _read(path: Path, source: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(source, [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(source, [f"line {line}: is not UTF-8 text"]) from None


def _syntax_fault(error: ConfigObjError) -> str:
    # The parser quotes the line, which may contain a password. The line number is enough.
    message = re.split(r"[('\"]", str(error), maxsplit=1)[0].strip().rstrip(".")
    return f"line {error.line_number}: {message[:1].lower()}{message[1:]}"


def _line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Return the line number of each section (section,) and each knob (section, key)."""
    found: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if match := _SECTION.match(line):
            section = (match[1].strip("\"'"),)
            found.setdefault(section, number)
        elif match := _KEY.match(line):
            found.setdefault((*section, match[1]), number)
    return found


def _cut_values(text: str) -> list[str]:
    """Find values with a # that is probably part of the value, but begins a comment."""
    return [
        f"line {number}: {match[1]}: a # in a value must be in quotes; write a "
        "blank before one that begins a comment"
        for number, line in enumerate(text.splitlines(), 1)
        if (match := _KEY.match(line))
        and re.search(r"[^\s#]#", _QUOTED.sub("", line[match.end() :]).split(" #")[0])
    ]


def _misplaced(config: ConfigObj, lines: Mapping[tuple[str, ...], int]) -> list[str]:
    """Remove values in place of sections, and sections in place of values.

    The validator would fail with them.
    """
    faults = []
    for section in config.configspec:
        if section not in config:
            continue
        if not isinstance(config[section], dict):
            faults.append(f"{_where((section,), lines)}: is a section; write it as [{section}]")
            del config[section]
            continue
        for name in list(config[section].sections):
            faults.append(f"{_where((name,), lines)}: [{section}] cannot contain sections")
            del config[section][name]
    return faults


def _value_faults(
    config: ConfigObj,
    checked: dict[str, Any],
    lines: Mapping[tuple[str, ...], int],
    from_environment: Mapping[tuple[str, str], Override],
) -> list[str]:
    faults = []
    spec = config.configspec
    for sections, key, error in flatten_errors(config, checked):
        (section,) = sections
        expected = re.sub(r",?\s*default=.*\)$", ")", spec[section][key]).replace("()", "")
        override = from_environment.get((section, key))
        if override is not None:
            where = f"the environment variable {override.variable} ({section}.{key})"
        else:
            where = _where((section, key), lines)
        said = _masked(str(error), (section, key), config[section].get(key))
        if isinstance(config[section].get(key), list) and not expected.startswith(
            ("hosts", "networks")
        ):
            said = "a comma makes it a list; put the value in quotes"
        faults.append(f"{where}: {said.rstrip('.')} (expected: {expected})")
    return faults


def _no_address(from_environment: Mapping[tuple[str, str], Override]) -> Iterator[str]:
    """Yield a fault if the environment's HOST is not an address: it was not set for us, then."""
    host = from_environment.get(("server", "host"))
    if host is None or host.value == "localhost":
        return
    try:
        ip_address(host.value)
    except ValueError:
        yield (
            f"the environment variable {host.variable} (server.host) is {host.value!r}, which is "
            "not an address; many shells set it to the name of the machine: unset it, or set it to "
            "an address such as 127.0.0.1"
        )


def _line_number(fault: str) -> int:
    match = re.match(r"line (\d+)", fault)
    return int(match[1]) if match else 0


def _masked(message: str, name: tuple[str, str], value: object) -> str:
    return message.replace(str(value), "********") if name in SECRETS and value else message


def _where(name: tuple[str, ...], lines: Mapping[tuple[str, ...], int]) -> str:
    dotted = ".".join(name)
    return f"line {lines[name]}: {dotted}" if name in lines else dotted


def _unknown_names(config: ConfigObj, lines: Mapping[tuple[str, ...], int]) -> list[str]:
    spec = config.configspec
    faults = []
    for parents, name in get_extra_values(config):
        path = (*parents, name)
        container = config
        for parent in parents:
            container = container[parent]
        if not parents:
            kind, known = "section", list(spec)
            if not isinstance(container[name], dict):
                homes = [section for section in spec if name in spec[section]]
                hint = f"; it belongs in [{homes[0]}]" if homes else ""
                faults.append(f"{_where(path, lines)}: is before the first section{hint}")
                continue
        else:
            kind, known = "key", list(spec.get(parents[0], {}))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
        faults.append(f"{_where(path, lines)}: unknown {kind}{hint}")
    return faults


def _configuration(
    config: ConfigObj,
    path: Path | None,
    from_environment: Mapping[tuple[str, str], Override],
    notices: list[str],
    rules: TagRules,
) -> Configuration:
    sections: dict[str, Any] = {"tag_rules": rules}
    origins = {("tag_rules", rule.name): Origin.FILE for rule in rules.rules}
    types = get_type_hints(Settings)
    for section in dataclasses.fields(Settings):
        if section.name in sections:
            continue
        values = config[section.name]
        sections[section.name] = types[section.name](**values)
        for key in values:
            if (section.name, key) in from_environment:
                origin = Origin.ENVIRONMENT
            else:
                origin = Origin.DEFAULT if key in values.defaults else Origin.FILE
            origins[section.name, key] = origin
    return Configuration(Settings(**sections), path, origins, tuple(notices))
