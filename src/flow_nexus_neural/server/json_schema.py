"""The JSON schemas that `tools/list` publishes: full ones for arguments, shallow ones for results.

Hosts put these schemas into a model's context, so they are short. The schema of arguments is equivalent to
pydantic's, except for null. The schema of a result describes its top level only: a model that reads a reply
needs no nested schema, and a reply may gain fields.
"""

from collections.abc import Iterable, Mapping
from typing import cast

from pydantic import BaseModel, JsonValue

Schema = dict[str, JsonValue]

MAX_EXACT_INTEGER = 2**53
"""Larger integers are not exact in every client, so larger bounds are not published."""

_NULL: Schema = {"type": "null"}
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}
_ANY_JSON = "#/$defs/JsonValue"


def argument_schema(model: type[BaseModel]) -> Schema:
    """The schema of a request, without titles; it accepts no other arguments.

    An optional argument is published without null, since leaving it out means the same. Null is still
    accepted.
    """
    raw = cast(Schema, model.model_json_schema(mode="validation", by_alias=True))
    properties = {
        name: _argument(cast(Schema, body))
        for name, body in cast(Schema, raw["properties"]).items()
    }
    schema: Schema = {"type": "object", "properties": cast(JsonValue, properties)}
    if "required" in raw:
        schema["required"] = raw["required"]
    schema["additionalProperties"] = False
    return schema


def result_schema(model: type[BaseModel]) -> Schema:
    """The top level of a result: every field is required, nested objects have only the type object."""
    raw = cast(Schema, model.model_json_schema(mode="serialization", by_alias=True))
    properties = {
        name: _shallow(cast(Schema, body)) for name, body in cast(Schema, raw["properties"]).items()
    }
    return {
        "type": "object",
        "properties": cast(JsonValue, properties),
        "required": raw["required"],
    }


def allow_null(schema: Schema, names: Iterable[str]) -> None:
    """Let fields of a result be null."""
    properties = cast(Schema, schema["properties"])
    for name in names:
        former = cast(Schema, properties[name])
        arms = cast(list[Schema], former.get("anyOf", [former]))
        if _NULL not in arms:
            properties[name] = {"anyOf": cast(JsonValue, [*arms, _NULL])}


def describe(schema: Schema, texts: Mapping[str, str]) -> None:
    """Write descriptions into the properties of a schema, by field name."""
    properties = cast(Schema, schema["properties"])
    for name, text in texts.items():
        cast(Schema, properties[name])["description"] = text


def _argument(schema: Schema) -> Schema:
    """The schema of one argument, without null if null means that the argument was left out."""
    compact = _compact(schema)
    if "default" in compact and compact["default"] is None:
        del compact["default"]
        arms = [arm for arm in cast(list[Schema], compact.pop("anyOf")) if arm != _NULL]
        compact.update(arms[0] if len(arms) == 1 else {"anyOf": cast(JsonValue, arms)})
    return compact


def _compact(schema: Schema) -> Schema:
    """Drop titles, bounds that clients may not represent exactly, and references to "any JSON value"."""
    compacted: Schema = {}
    for key, value in schema.items():
        if key == "title" or (key == "exclusiveMaximum" and _is_inexact(value)):
            continue
        if key in ("items", "additionalProperties") and isinstance(value, dict):
            if value.get("$ref") != _ANY_JSON:
                compacted[key] = _compact(value)
        elif key == "anyOf":
            compacted[key] = [_compact(arm) for arm in cast(list[Schema], value)]
        else:
            compacted[key] = value
    return compacted


def _is_inexact(bound: JsonValue) -> bool:
    return isinstance(bound, int | float) and bound > MAX_EXACT_INTEGER


def _shallow(schema: Schema) -> Schema:
    """The type of a result's field and of a list's items, without the content of objects."""
    if "$ref" in schema:
        return {"type": "object"}
    if "anyOf" in schema:
        arms = [_shallow(arm) for arm in cast(list[Schema], schema["anyOf"])]
        distinct = [arm for arm in arms if arm != _INTEGER or _NUMBER not in arms]
        return {"anyOf": cast(JsonValue, distinct)}
    if "const" in schema:
        return {"const": schema["const"]}
    if schema["type"] == "array":
        return {"type": "array", "items": _shallow(cast(Schema, schema["items"]))}
    return {"type": schema["type"]}
