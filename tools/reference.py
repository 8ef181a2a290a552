"""Generate the reference pages of the documentation from the code, as Markdown.

``docs/conf.py`` replaces a line ``<!-- generated: NAME -->`` of a page by what the function of that
name in ``SECTIONS`` returns. To look at one:

    python -m tools.reference knobs
"""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from tagcache import errors
from tagcache.cli.main import main as command_line
from tagcache.config.descriptions import descriptions
from tagcache.config.environment import VARIABLES
from tagcache.config.loading import NEEDS_RESTART, configspec, load
from tagcache.server.app import build_engine, build_routes, build_shared, build_tables
from tagcache.server.commands.resp.refused import REFUSED_COMMANDS
from tagcache.server.commands.resp.table import RedisError, RespCommand, error_reply
from tagcache.server.commands.table import CommandTable
from tagcache.server.http.application import response_to
from tagcache.server.http.openapi import describe, kind_of, outline
from tagcache.server.http.sse import Streams
from tagcache.server.observe.metrics import Metrics
from tagcache.server.preflight import Preflight
from tagcache.server.resp.commands import RespTable
from tagcache.server.service import TagCacheService

PACKAGE = Path(errors.__file__).parent
_COLUMNS = 96
# The extras of those who change TagCache.
_DEVELOPMENT = ("dev", "bench", "docs", "soak")
# HTTP answers these with an error of its own.
_NOT_OVER_HTTP = (errors.AuthenticationRequired, errors.InternalError, errors.RateLimited)
# What the words mean that no class of tagcache.errors has.
WORDS = {
    "auth_failed": "The user name, the password or the token is wrong, or the address must wait.",
    "empty_keys": "A list of keys has only commas and blanks.",
    "empty_tags": "A list of tags has only commas and blanks.",
    "line_too_long": "A line is longer than any legal request; the connection is closed.",
    "max_connections": "The server is full; the connection is closed.",
    "unknown_command": "There is no such verb.",
    "value_not_representable": "The value has a line feed, so a line cannot carry it; use RESP or "
    "HTTP.",
}


class Assembled(NamedTuple):
    """A server in memory, which listens nowhere."""

    lines: CommandTable
    resp: RespTable
    openapi: dict[str, Any]
    metrics: Metrics


def assemble() -> Assembled:
    """Build the parts of a server with the default configuration."""
    # Nothing is started, so nothing asks the reactor.
    configuration, reactor, check = load(None, {}), object(), Preflight()
    shared = build_shared(configuration, {}, reactor)
    parts = build_engine(configuration.settings, shared.slices, reactor)
    service = TagCacheService(
        configuration,
        parts.databases,
        parts.persistence,
        shared.connections,
        shared.waits,
        check,
        lambda: configuration,
        None,
        {},
        reactor,
    )
    routes = build_routes(service, shared, check, Streams(shared.events))
    metrics = Metrics(
        parts.databases,
        shared.connections,
        shared.traffic,
        shared.rates,
        lambda: {"snapshot_age_seconds": 0, "snapshot_error": None},
        lambda: 0,
        lambda: 0,
        lambda: 0,
        lambda: 0,
        lambda: {"near_cache": defaultdict(int)},
    )
    return Assembled(*build_tables(service, shared), describe(routes.all), metrics)


def extras() -> str:
    """Return the extras that users install, from pyproject.toml, with its comments."""
    text = (PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8")
    optional = tomllib.loads(text)["project"]["optional-dependencies"]
    comments = dict(re.findall(r"((?:^# .*\n)+)(\w+) = \[", text, re.MULTILINE))
    about = {name: comment.replace("#", " ") for comment, name in comments.items()}
    rows, last = [], ""
    for name, needs in optional.items():
        if name not in _DEVELOPMENT:
            last = prose(about.get(name, last))
            rows.append((code(f"tagcache-server[{name}]"), last, " ".join(map(code, needs))))
    return table(("extra", "what for", "brings"), rows)


def knobs() -> str:
    """Return every knob, by section, from the configspec and the sample file."""
    described, variables = descriptions(), defaultdict(list)
    for variable, section, key, _ in VARIABLES:
        variables[section, key].append(code(variable))
    spec, parts = configspec(), []
    for section in spec:
        parts.append(f"## [{section}]")
        if not spec[section]:
            parts.append(
                "The names in this section are your own: see [Tag rules](../tag-rules.md)."
            )
        for key in spec[section]:
            name = section, key
            about = re.sub(r" ?Environment: [^.]*$", "", described[name])
            facts = [
                *_checked(spec[section][key]),
                "at the next start" if name in NEEDS_RESTART else "with a reload",
                *([f"environment: {', '.join(variables[name])}"] if name in variables else []),
            ]
            parts += [f"### {section}.{key}", " · ".join(facts), prose(about)]
    return "\n\n".join(parts)


def _checked(check: str) -> Iterator[str]:
    """Yield the type, the bounds and the default of a knob, in words."""
    kind, _, rest = check.partition("(")
    bounds = dict(re.findall(r'(min|max|default)=("[^"]*"|list\(\)|[^,)]+)', rest))
    if kind == "option":
        choices = re.findall(r'"([^"]*)"', rest.partition("default=")[0])
        yield "one of " + ", ".join(f"`{choice}`" for choice in choices)
    else:
        yield kind.replace("_", " ")
    if "max" in bounds and kind != "string":
        yield f"{bounds['min']} to {bounds['max']}"
    default = bounds["default"].strip('"').replace("list()", "")
    yield f"default: `{default}`" if default else "default: empty"


def line_commands() -> str:
    """Return the verbs of the line protocol, from the command table."""
    rows = [
        (
            code(f"{row.verb.decode()} {row.form}".strip()),
            ", ".join(code(reply) for reply in row.replies.split(", ")),
            prose(row.about),
        )
        for row in sorted(assemble().lines.rows, key=lambda row: row.verb)
    ]
    return table(("request", "replies", "what it does"), rows)


def resp_commands() -> str:
    """Return the commands of RESP, from the table: ours, and those that Redis has as well."""
    supported = sorted(assemble().resp.supported, key=lambda row: row.verb)
    parts = []
    for title, ours in (("Commands for tags", True), ("Commands that Redis has as well", False)):
        rows = [
            (code(row.verb.decode()), _arguments(row), prose(row.summary), _in_transactions(row))
            for row in supported
            if row.verb.startswith(b"TAG.") is ours
        ]
        head = ("command", "arguments", "what it does", "in `MULTI`")
        parts += [f"## {title}", table(head, rows)]
    refused = defaultdict(list)
    for row in REFUSED_COMMANDS:
        refused[_advice(row)].append(code(row.verb.decode()))
    advices = [(" ".join(verbs), prose(advice)) for advice, verbs in refused.items()]
    parts += ["## Commands that are refused", table(("commands", "why"), advices)]
    return "\n\n".join(parts)


def _arguments(row: RespCommand) -> str:
    """Return how many arguments a command takes, without the verb."""
    return str(row.arity - 1) if row.arity > 0 else f"{-row.arity - 1} or more"


def _in_transactions(row: RespCommand) -> str:
    return "yes" if row.transaction else "no"


def _advice(row: RespCommand) -> str:
    try:
        row.run(None, [row.verb])
    except RedisError as error:
        return str(error).partition("is not supported: ")[2]
    raise AssertionError(row.verb)


def http_endpoints() -> str:
    """Return every endpoint of the HTTP API, from the OpenAPI document."""
    parts = []
    for path, operations in assemble().openapi["paths"].items():
        for method, operation in operations.items():
            parts += [f"## {method.upper()} {prose(path)}", *_endpoint(operation)]
    return "\n\n".join(parts)


def _endpoint(operation: dict[str, Any]) -> Iterator[str]:
    yield prose(operation["summary"])
    if "security" in operation:
        yield "Needs no credentials, or none from the server's own machine."
    rows = [
        (each["name"], each["in"], each["schema"], each["required"], each["description"])
        for each in operation.get("parameters", ())
    ]
    if "requestBody" in operation:
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        rows += [
            (name, "body", each, name in schema["required"], each["description"])
            for name, each in schema["properties"].items()
        ]
    if rows:
        yield table(
            ("field", "in", "type", "required", "what it is"),
            [
                (code(name), where, prose(kind_of(each)), "yes" if needed else "", prose(about))
                for name, where, each, needed, about in rows
            ],
        )
    answer = next(iter(operation["responses"]["200"]["content"].values())).get("schema")
    if answer:
        yield f"A response, with the types of its fields:\n\n{fenced(outline(answer))}"
    others = [status for status in operation["responses"] if status != "200"]
    yield f"Other statuses: {', '.join(others)}."


def fenced(content: Any) -> str:
    """Return JSON as a code block, with a line for each field of an object."""
    text = json.dumps(content)
    if len(text) > 90:
        text = json.dumps(content, indent=2)
    return f"```text\n{text}\n```"


def cli() -> str:
    """Return the help of every command of ``tagcache``, from click."""
    settings = {**command_line.context_settings, "terminal_width": _COLUMNS}
    root = click.Context(command_line, info_name="tagcache", **settings)
    return "\n\n".join(_helps(command_line, root))


def _helps(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"## {context.command_path}"
    yield f"```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from _helps(inner, click.Context(inner, info_name=name, parent=context))


def metrics() -> str:
    """Return every metric, from the collector."""
    rows = []
    for family in assemble().metrics.collect():
        labels: Sequence[str] = getattr(family, "_labelnames", ())
        name = family.name + ("_total" if family.type == "counter" else "")
        shown = f"{name}{{{','.join(labels)}}}" if labels else name
        rows.append((code(shown), family.type, prose(family.documentation)))
    return table(("metric", "type", "what it is"), sorted(rows))


def command_errors() -> str:
    """Return the error words of commands, with the reply over RESP and the status of HTTP."""
    rows = [
        (code(word), prose(about), code(_over_resp(word, error)), _over_http(error))
        for word, about, error in sorted(_words(), key=lambda each: each[0])
    ]
    return table(("`ERR` and", "what it means", "over RESP", "over HTTP"), rows)


def _words() -> Iterator[tuple[str, str, errors.CommandError | None]]:
    for each in errors.CommandError.__subclasses__():
        if "code" in vars(each) and each.__module__ == errors.__name__:
            yield each.code, (each.__doc__ or "").partition("\n\n")[0], each.__new__(each)
    for word in sorted(words_in_code()):
        yield word, WORDS.get(word) or _by_prefix(word), None


def words_in_code() -> set[str]:
    """Return the error words that code passes to ``InvalidArgument`` and ``error``."""
    found = set()
    for call, path in _calls():
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name == "InvalidArgument" or (name == "error" and path.parent.name in _PROTOCOLS):
            first = call.args[0] if call.args else None
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
            elif isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                found |= {f"{first.values[0].value!s}{kind}" for kind in ("tags", "keys")}
    return {word for word in found if re.fullmatch(r"[a-z_]+", word)} - _codes()


_PROTOCOLS = ("wire", "line", "commands", "cache_port")


def _codes() -> set[str]:
    return {getattr(each, "code", "") for each in vars(errors).values()}


def _by_prefix(word: str) -> str:
    kind, _, field = word.partition("_")
    about = {
        "missing": f"The request has no {field}.",
        "invalid": f"The field `{field}` cannot be read, or is out of range.",
    }
    return about[kind]


def _over_resp(word: str, error: errors.CommandError | None) -> str:
    if word == "auth_failed":
        return "WRONGPASS"
    if error is None:
        return f"ERR {word}"
    error.args = (word,)
    return error_reply(error).decode().strip().removeprefix("-")


def _over_http(error: errors.CommandError | None) -> str:
    if error is None or isinstance(error, _NOT_OVER_HTTP):
        return ""
    response = response_to(error)
    return "" if response is None else str(response.status)


def http_errors() -> str:
    """Return the errors that only HTTP has, from the code that sends them."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for call, path in _calls():
        name = getattr(call.func, "id", "")
        if "http" not in path.parts or name not in ("failure", "too_many"):
            continue
        arguments = [ast.Constant(429), *call.args] if name == "too_many" else call.args
        status, word, *detail = map(_text, arguments)
        if status and word:
            found[word, status].update(each for each in detail[:1] if each)
    rows = [
        (code(word), status, prose("; ".join(sorted(details))))
        for (word, status), details in sorted(found.items())
    ]
    return table(("error", "status", "detail"), rows)


def _text(node: ast.expr) -> str:
    """Return a constant as text; what a format string inserts is shown as three dots."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [each.value if isinstance(each, ast.Constant) else "..." for each in node.values]
        return "".join(map(str, parts))
    return ""


def _calls() -> Iterator[tuple[ast.Call, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node, path


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: str) -> str:
    """Return text as code in Markdown, also within a table."""
    return "`" + text.replace("|", r"\|") + "`"


def prose(text: str) -> str:
    """Return the text of a comment or docstring as Markdown, also within a table."""
    text = " ".join(text.replace("``", "`").split())
    pieces = text.split("`")
    for place in range(0, len(pieces), 2):
        piece = re.sub(r"([*_\[\]<>{}|$])", r"\\\1", pieces[place])
        pieces[place] = re.sub(r"\bdocs/([\w-]+)\.md\b", r"[\1.md](../\1.md)", piece)
    for place in range(1, len(pieces), 2):
        pieces[place] = pieces[place].replace("|", r"\|")
    return "`".join(pieces)


SECTIONS: dict[str, Callable[[], str]] = {
    "extras": extras,
    "knobs": knobs,
    "line commands": line_commands,
    "resp commands": resp_commands,
    "http endpoints": http_endpoints,
    "cli": cli,
    "metrics": metrics,
    "command errors": command_errors,
    "http errors": http_errors,
}
_MARK = re.compile(r"<!-- generated: ([\w ]+) -->")


def filled(text: str) -> str:
    """Return a page with its generated parts. Raises KeyError for a name that is not known."""
    return _MARK.sub(lambda mark: SECTIONS[mark[1]](), text)


if __name__ == "__main__":
    print(SECTIONS[" ".join(sys.argv[1:])]())
