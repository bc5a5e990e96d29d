"""Prepares a result for the wire: rounds floats and replaces values that JSON cannot represent by null.

Six significant digits exceed the precision of every measurement here and keep replies short.
"""

import json
import math
from collections.abc import Mapping

from pydantic import BaseModel, JsonValue

from flow_nexus_neural.vocabulary import round_float


def wire_json(result: BaseModel) -> dict[str, JsonValue]:
    """Dump a result under its published names.

    Integers and strings are exact. A non-finite float means "not measured" and becomes None.

    Raises:
        ValidationError: If a non-finite float is in a field that must be a number.
    """
    dumped = result.model_dump(mode="python", by_alias=True)
    content = {name: _rounded(value) for name, value in dumped.items()}
    # Checked only then: null may be sent only for fields whose published schema allows it.
    if not _is_finite(dumped):
        type(result).model_validate(content)
    return content


def wire_text(content: Mapping[str, JsonValue]) -> str:
    """The content of a reply as compact JSON text, as it is sent."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def n_wire_bytes(result: BaseModel) -> int:
    """Bytes that a result takes as text of a reply."""
    return len(wire_text(wire_json(result)).encode())


def _is_finite(value: JsonValue) -> bool:
    match value:
        case float():
            return math.isfinite(value)
        case dict():
            return all(_is_finite(item) for item in value.values())
        case list() | tuple():
            return all(_is_finite(item) for item in value)
        case _:
            return True


def _rounded(value: JsonValue) -> JsonValue:
    match value:
        case float():
            return round_float(value)
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {str(key): _rounded(item) for key, item in value.items()}
        case list() | tuple():
            return [_rounded(item) for item in value]
        case _:
            return value
