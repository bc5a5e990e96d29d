"""Publish pydantic's JSON schemas without their noise: hosts put every byte of them before the model.

The result accepts and refuses the same values, except that an object may gain fields later. What results and
optional arguments further do without is said at the functions that leave it out.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import cast

from pydantic import BaseModel, JsonValue
from pydantic.json_schema import JsonSchemaMode

Schema = dict[str, JsonValue]

MAX_EXACT_INTEGER = 2**53
"""Integers above are not exact in every client, so that a bound there helps nobody."""

MIN_SHARED = 3
"""A definition of its own saves bytes from here on."""

_NULL: Schema = {"type": "null"}
_NOISE = ("title", "description")
_INTEGER: Schema = {"type": "integer"}
_NUMBER: Schema = {"type": "number"}


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

    def slim(value: JsonValue) -> JsonValue:
        if isinstance(value, list):
            return [slim(one) for one in value]
        if not isinstance(value, dict):
            return value
        is_echo = "enum" in value and frozenset(cast(list[str], value["enum"])) in echoed
        return {key: slim(one) for key, one in value.items() if not (is_echo and key == "enum")}

    return cast(Schema, slim(schema))


def optional_without_null(schema: Schema) -> None:
    """Publish an optional argument without null: leaving it out says the same in fewer bytes.

    Null is still understood. A null default that is published on purpose stays.
    """
    for body in cast(Schema, schema["properties"]).values():
        field = cast(Schema, body)
        if "default" in field and field["default"] is None:
            del field["default"]
            arms = [arm for arm in cast(list[Schema], field.pop("anyOf")) if arm != _NULL]
            field.update(arms[0] if len(arms) == 1 else {"anyOf": cast(list[JsonValue], arms)})


def without_enum_types(schema: Schema) -> Schema:
    """Drop `type` beside an enumeration: the values say it.

    For results only: some hosts, which translate the schemas of arguments, look for the type.
    """

    def slim(value: JsonValue) -> JsonValue:
        if isinstance(value, list):
            return [slim(one) for one in value]
        if not isinstance(value, dict):
            return value
        is_enum = isinstance(value.get("enum"), list)
        return {key: slim(one) for key, one in value.items() if not (is_enum and key == "type")}

    return cast(Schema, slim(schema))


def share_repeats(schema: Schema) -> None:
    """Write a union of bare types and a list of such values once, as a definition, where a schema repeats it.

    Their names are short, as each is written at every use: `N` for a number or null, `LS` for a list of
    strings, `SNBv` for a value that is one of three and never null.
    A list of types (`["number", "null"]`) would be shorter still, but clients that translate schemas into a
    dialect with one type per value refuse it or drop it.
    """
    for shared_name in (_union_name, _list_name):
        found = [(name, node) for node in _nodes(schema) if (name := shared_name(node))]
        counts = Counter(name for name, _ in found)
        definitions = cast(Schema, schema.setdefault("$defs", {}))
        for name, node in found:
            if counts[name] >= MIN_SHARED:
                body = {key: node.pop(key) for key in _SHARED_KEYS if key in node}
                definitions.setdefault(name, body)
                node["$ref"] = f"#/$defs/{name}"


def describe(schema: Schema, texts: Mapping[str, str]) -> None:
    """Write descriptions into the properties of a schema, by field name.

    A text whose field the schema itself does not have belongs to its definitions.
    """
    own = cast(Schema, schema["properties"])
    for node in (schema, *cast(Schema, schema.get("$defs", {})).values()):
        for name, body in cast(Schema, cast(Schema, node).get("properties", {})).items():
            if name in texts and (node is schema or name not in own):
                cast(Schema, body)["description"] = texts[name]


def _compact(schema: Schema) -> Schema:
    compacted: Schema = {}
    for key, value in schema.items():
        if key in _NOISE or (key == "type" and "const" in schema):
            continue
        if key == "properties":
            compacted[key] = {
                name: _compact(cast(Schema, body)) for name, body in cast(Schema, value).items()
            }
        elif key in ("items", "additionalProperties"):
            inner = _compact(value) if isinstance(value, dict) else {}
            if inner:
                compacted[key] = inner
        elif key == "anyOf":
            arms = [_compact(cast(Schema, arm)) for arm in cast(list[JsonValue], value)]
            whole: JsonValue = [arm for arm in arms if arm != _INTEGER or _NUMBER not in arms]
            compacted[key] = whole
        elif key == "exclusiveMaximum" and cast(float, value) > MAX_EXACT_INTEGER:
            continue
        else:
            compacted[key] = value
    return {} if compacted.get("$ref") == "#/$defs/JsonValue" else compacted


def inline_single_uses(schema: Schema) -> None:
    """Put a definition that is used once where it is used: fewer bytes, and one place to read."""
    counts = Counter(node["$ref"] for node in _nodes(schema) if "$ref" in node)
    definitions = cast(Schema, schema.get("$defs", {}))
    for node in list(_nodes(schema)):
        reference = node.get("$ref")
        if isinstance(reference, str) and counts[reference] == 1:
            del node["$ref"]
            node.update(cast(Schema, definitions.pop(reference.rsplit("/", 1)[1])))
    if not definitions:
        schema.pop("$defs", None)


def _nodes(value: JsonValue) -> Iterator[Schema]:
    """Every object of a schema, outermost first."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from _nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _nodes(inner)


_SHARED_KEYS = ("anyOf", "items", "type")


def _union_name(node: Schema) -> str:
    """The initials of the bare types of a union: `N` with null, `Nv` without; empty for any other schema."""
    arms = node.get("anyOf")
    if not isinstance(arms, list):
        return ""
    if not all(isinstance(arm, dict) and set(arm) == {"type"} for arm in arms):
        return ""
    initials = "".join(str(cast(Schema, arm)["type"])[0] for arm in arms if arm != _NULL).upper()
    return initials if _NULL in arms else f"{initials}v"


def _list_name(node: Schema) -> str:
    """`LS` for a list of bare strings and its like; empty for any other schema."""
    items = node.get("items")
    if (
        not isinstance(items, dict)
        or set(items) != {"type"}
        or set(node) - set(_SHARED_KEYS) - {"description"}
    ):
        return ""
    return "L" + str(items["type"])[0].upper()
