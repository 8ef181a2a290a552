"""Describe the routes in an OpenAPI 3.1 document, and on an HTML page."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

import tagcache
from tagcache.server.http.messages import Response
from tagcache.server.http.routes import Access, Route
from tagcache.server.http.schema import ERROR

_WHAT = {
    200: "Done",
    304: "Not changed",
    400: "The path, the query or the JSON cannot be read",
    401: "Not authenticated",
    403: "Not allowed from a page of another origin, or from another machine",
    404: "Not found",
    409: "Not possible with the configuration of the server, or the lease was refused",
    413: "Too large",
    503: "Too many at once",
    507: "Not enough memory",
    415: "Not JSON",
    421: "The Host is not a name of this server",
    422: "A field is missing or wrong, or exceeds a limit",
    429: "Too many requests or failures from this address",
}
_CSS = """
body{font:16px/1.5 system-ui,sans-serif;max-width:54rem;margin:2rem auto;padding:0 1rem;
color:#1c2430;background:#fff}
h2{font:600 1rem ui-monospace,monospace;margin:2rem 0 .25rem;padding-top:1rem;
border-top:1px solid #d8dee6}
h2 b{color:#0b5cad;margin-right:.5rem}
table{border-collapse:collapse;margin:.5rem 0}
td,th{text-align:left;padding:.15rem 1rem .15rem 0;vertical-align:top}
code,pre{font:.9em ui-monospace,monospace}
pre{background:#f3f5f8;padding:.5rem .75rem;border-radius:6px;overflow-x:auto}
.open{color:#5b6675}
@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#12161c}
pre{background:#1c232c}h2{border-color:#2b343f}h2 b{color:#78b7f0}.open{color:#93a0af}}
"""


def describe(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI document."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "TagCache",
            "version": tagcache.__version__,
            "description": "A tag-aware cache.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{"basic": []}, {"bearer": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    name = (
        route.path.replace("{key}", "key").strip("/").replace("/", "-").replace(".", "-") or "root"
    )
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}-{name}",
        "summary": route.about,
        "responses": _responses(route),
    }
    if route.access is not Access.AUTHENTICATED:
        operation["security"] = [{}, {"basic": []}, {"bearer": []}]
    parameters = []
    if route.takes_key:
        parameters.append(
            {
                "name": "key",
                "in": "path",
                "required": True,
                "description": "the key, percent-encoded",
                "schema": {"type": "string", "minLength": 1},
            }
        )
    for field in route.query:
        parameters.append(
            {
                "name": field.name,
                "in": "query",
                "required": field.required,
                "description": field.about,
                "schema": dict(field.kind.schema),
            }
        )
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = {
            "type": "object",
            "properties": {field.name: field.schema for field in route.body},
            "required": [field.name for field in route.body if field.required],
        }
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _responses(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {}
    kind = route.content_type.partition(";")[0]
    content[kind] = {"schema": route.response} if route.response is not None else {}
    responses: dict[str, Any] = {"200": {"description": _WHAT[200], "content": content}}
    statuses = set(route.statuses) | {421, 429}
    if route.method != "GET":
        statuses.add(403)
    if route.access is not Access.OPEN:
        statuses.add(401)
    if route.takes_key or route.query or route.body is not None:
        statuses.add(400)
    if route.body is not None:
        statuses |= {413, 415, 422}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status in sorted(statuses):
        responses[str(status)] = {"description": _WHAT[status], "content": error}
    return responses


def page(document: dict[str, Any]) -> Response:
    """Return the document as a page that loads nothing from elsewhere."""
    parts = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            parts.append(_section(path, method, operation))
    html = (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>TagCache HTTP API</title><style>{_CSS}</style>"
        f"<h1>TagCache HTTP API</h1><p>Version {escape(document['info']['version'])}. Requests "
        "and answers are JSON. Authenticate with <code>Authorization: Basic</code>, or with a "
        "<code>Bearer</code> token from <code>/auth/login</code>. An error is "
        '<code>{"error": "...", "detail": "..."}</code>. For programs: '
        '<a href="/openapi.json">/openapi.json</a>.</p>' + "".join(parts)
    )
    policy = (
        b"content-security-policy: default-src 'none'; style-src 'unsafe-inline'; "
        b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    )
    return Response(200, html.encode(), b"text/html; charset=utf-8", policy)


def _section(path: str, method: str, operation: dict[str, Any]) -> str:
    rows = [
        (each["name"], each["in"], each["schema"], each["required"], each["description"])
        for each in operation.get("parameters", ())
    ]
    body = operation.get("requestBody")
    if body is not None:
        schema = body["content"]["application/json"]["schema"]
        rows += [
            (name, "body", each, name in schema["required"], each["description"])
            for name, each in schema["properties"].items()
        ]
    table = "".join(
        f"<tr><td><code>{escape(name)}</code><td>{where}<td>{escape(kind_of(schema))}"
        f"<td>{'required' if required else ''}<td>{escape(about)}"
        for name, where, schema, required, about in rows
    )
    access = "" if "security" not in operation else "<p class=open>Open.</p>"
    answer = next(iter(operation["responses"]["200"]["content"].values())).get("schema")
    shown = f"<pre>{escape(json.dumps(outline(answer)))}</pre>" if answer else ""
    return (
        f"<h2><b>{method.upper()}</b>{escape(path)}</h2><p>{escape(operation['summary'])}</p>"
        f"{access}{f'<table>{table}</table>' if table else ''}{shown}"
    )


def kind_of(schema: dict[str, Any]) -> str:
    """Return the type of a field, in a few words."""
    kind = schema.get("type", "any")
    names = [name for name in kind if name != "null"] if isinstance(kind, list) else [kind]
    if "enum" in schema:
        return " or ".join(str(each) for each in schema["enum"] if each is not None)
    return str(names[0]) + (" of strings" if names[0] == "array" else "")


def outline(schema: dict[str, Any]) -> Any:
    """Return an outline of a response: its fields with the names of their types."""
    if "anyOf" in schema:
        return outline(schema["anyOf"][0])
    if schema.get("properties"):
        return {name: outline(each) for name, each in schema["properties"].items()}
    if schema.get("type") == "array":
        return [outline(schema["items"])]
    kind = schema.get("type", "any")
    return " or ".join(kind) if isinstance(kind, list) else schema.get("const", kind)
