"""Prepares a result for the wire: rounds floats and replaces values that JSON cannot represent by null.

Six significant digits exceed the precision of every measurement here and keep replies short.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

from pydantic import BaseModel, JsonValue

from flow_nexus_neural.vocabulary import SIGNIFICANT_DIGITS, round_float

ResultT = TypeVar("ResultT", bound=BaseModel)


@dataclass(frozen=True)
class OnWire(Generic[ResultT]):
    """A result and what is sent of it, which is made once however often it is looked at."""

    result: ResultT

    @cached_property
    def content(self) -> dict[str, JsonValue]:
        """See `wire_json`."""
        return wire_json(self.result)

    @cached_property
    def text(self) -> str:
        """See `wire_text`."""
        return wire_text(self.content)

    @cached_property
    def n_bytes(self) -> int:
        """Bytes that it takes as text of a reply."""
        return len(self.text.encode())


def wire_json(result: BaseModel) -> dict[str, JsonValue]:
    """Dump a result under its published names.

    Integers and strings are exact. A non-finite float means "not measured" and becomes None.

    Raises:
        ValidationError: If a non-finite float is in a field that must be a number.
    """
    unknown: list[float] = []
    dumped = result.model_dump(mode="python", by_alias=True)
    content = {name: _rounded(value, unknown) for name, value in dumped.items()}
    # Checked only then: null may be sent only for fields whose published schema allows it.
    if unknown:
        type(result).model_validate(content)
    return content


def wire_text(content: Mapping[str, JsonValue]) -> str:
    """The content of a reply as compact JSON text, as it is sent."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def _rounded(value: JsonValue, unknown: list[float]) -> JsonValue:
    """Round every float in a value, and note those that are not finite."""
    match value:
        case float():
            rounded = round_float(value)
            if rounded is None:
                unknown.append(value)
            return rounded
        case str():
            return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        case dict():
            return {str(key): _rounded(item, unknown) for key, item in value.items()}
        case list() | tuple():
            return _rounded_floats(value) or [_rounded(item, unknown) for item in value]
        case _:
            return value


def _rounded_floats(values: Sequence[JsonValue]) -> list[JsonValue] | None:
    """What `round_float` makes of each; None unless all are finite floats.

    Most of a long reply is such lists: one format for a whole list takes a fifth of the time.
    """
    if set(map(type, values)) != {float}:
        return None
    text = f"%.{SIGNIFICANT_DIGITS}g " * len(values) % tuple(values)
    rounded = list(map(float, text.split()))
    return list[JsonValue](rounded) if all(map(math.isfinite, rounded)) else None
