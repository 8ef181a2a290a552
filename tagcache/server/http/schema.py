"""JSON Schemas of responses."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

BOOLEAN: Schema = {"type": "boolean"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
STRING: Schema = {"type": "string"}
ANY: Schema = {}
TTL: Schema = {"type": ["integer", "null"], "description": "milliseconds; null: no expiry"}


def nullable(schema: Schema) -> Schema:
    """Return the schema of a value or null."""
    return {**schema, "type": [schema["type"], "null"]}


def array(items: Schema) -> Schema:
    """Return the schema of a list."""
    return {"type": "array", "items": items}


def obj(optional: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """Return the schema of an object; all properties except the ``optional`` ones are required."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def either(*schemas: Schema) -> Schema:
    """Return the schema of a value that fits one of these."""
    return {"anyOf": list(schemas)}


ERROR: Schema = obj(("detail",), error=STRING, detail=STRING)
NOT_FOUND: Schema = obj(error={"type": "string", "const": "not_found"})
TOO_LARGE: Schema = obj(error={"type": "string", "const": "value_too_large"})
