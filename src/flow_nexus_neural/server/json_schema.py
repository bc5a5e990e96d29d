"""Publish pydantic's JSON schemas without their noise: hosts put every byte of them before the model.

The result accepts and refuses the same values, except that an object may gain fields later (outputs) and that
nested free JSON is not described further.
"""

from collections.abc import Collection, Mapping
from typing import cast

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import JsonSchemaMode

Schema = dict[str, JsonValue]

MAX_EXACT_INTEGER = 2**53
"""Integers above are not exact in every client, so that a bound there helps nobody."""

_NOISE = ("title", "description", "additionalProperties")


def published_schema(model: type[BaseModel], mode: JsonSchemaMode) -> Schema:
    """The compact JSON schema of a model, under its wire names."""
    raw = cast(Schema, model.model_json_schema(mode=mode, by_alias=True))
    definitions = cast(Schema, raw.pop("$defs", {}))
    schema = _compact(raw)
    named: Schema = {
        name: _compact(cast(Schema, body))
        for name, body in definitions.items()
        if name != "JsonValue"
    }
    if named:
        schema["$defs"] = named
    return schema


def without_enum(schema: Schema, echoed: Collection[frozenset[str]]) -> Schema:
    """Drop enumerations that only echo an argument: its input schema lists the values already."""
    slim: Schema = {}
    for key, value in schema.items():
        if key == "enum" and frozenset(cast(list[str], value)) - {None} in echoed:
            continue
        slim[key] = without_enum(value, echoed) if isinstance(value, dict) else value
    return slim


def optional_without_null(schema: Schema) -> None:
    """Publish an optional argument without null: leaving it out says the same in fewer bytes.

    Null is still understood. A null default that is published on purpose stays.
    """
    for body in cast(Schema, schema["properties"]).values():
        field = cast(Schema, body)
        if "default" in field and field["default"] is None:
            del field["default"]
            types = [kind for kind in cast(list[JsonValue], field["type"]) if kind != "null"]
            field["type"] = types[0] if len(types) == 1 else types
            if "enum" in field:
                field["enum"] = [
                    value for value in cast(list[JsonValue], field["enum"]) if value is not None
                ]


def describe(schema: Schema, texts: Mapping[str, str]) -> None:
    """Write descriptions into the properties of a schema and of its definitions, by field name."""
    definitions = cast(Schema, schema.get("$defs", {}))
    for node in (schema, *definitions.values()):
        properties = cast(Schema, cast(Schema, node).get("properties", {}))
        for name, body in properties.items():
            if name in texts:
                cast(Schema, body)["description"] = texts[name]


def _compact(schema: Schema) -> Schema:
    compacted: Schema = {}
    for key, value in schema.items():
        if key in _NOISE:
            continue
        if key == "properties":
            compacted[key] = {
                name: _compact(cast(Schema, body)) for name, body in cast(Schema, value).items()
            }
        elif key == "items" and value != {}:
            item = _compact(cast(Schema, value))
            if item:
                compacted[key] = item
        elif key == "anyOf":
            compacted.update(
                _union([_compact(cast(Schema, arm)) for arm in cast(list[JsonValue], value)])
            )
        elif key == "exclusiveMaximum" and cast(float, value) > MAX_EXACT_INTEGER:
            continue
        else:
            compacted[key] = value
    return {} if compacted.get("$ref") == "#/$defs/JsonValue" else compacted


def _union(arms: list[Schema]) -> Schema:
    """Write `T or null` and unions of plain types as one schema with a list of types."""
    if not all(isinstance(arm.get("type"), str) for arm in arms):
        return {"anyOf": cast(list[JsonValue], arms)}
    bodies = [arm for arm in arms if arm["type"] != "null"]
    nullable = len(bodies) < len(arms)
    constrained = [arm for arm in bodies if set(arm) != {"type"}]
    if len(bodies) > 1 and constrained:
        return {"anyOf": cast(list[JsonValue], arms)}
    merged: Schema = dict(bodies[0])
    types: list[JsonValue] = [arm["type"] for arm in bodies]
    if nullable:
        types.append("null")
        if "enum" in merged:
            merged["enum"] = [*cast(list[JsonValue], merged["enum"]), None]
    merged["type"] = types[0] if len(types) == 1 else types
    return merged
