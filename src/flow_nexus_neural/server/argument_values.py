"""Converts the value of one argument: lenient in form, strict in meaning.

Hosts send structures as JSON text, numbers and booleans as strings, enumerations in other spellings, a list
of one entry as that entry, and null or an empty text for "not given". These forms are accepted; no other
conversion is made.
"""

import json
import math
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import JsonValue
from pydantic.fields import FieldInfo

from flow_nexus_neural.server.nearest_names import nearest_choice


@dataclass(frozen=True)
class Expected:
    """The values that a field accepts.

    Attributes:
        kinds: Some of "string", "number", "boolean", "array", "object".
        choices: Values of an enumeration, else empty.
        bounds: Bounds of a number, as text.
        nullable: Whether null is a valid value.
        required: Whether the argument must be given.
        of_texts: For a list: whether its entries are texts.
    """

    kinds: frozenset[str]
    choices: tuple[str, ...]
    bounds: str
    nullable: bool
    required: bool
    of_texts: bool

    @classmethod
    def of(cls, field: FieldInfo) -> "Expected":
        """Derive it from the annotation of a request's field."""
        arms = _arms(field.annotation)
        choices = tuple(
            str(choice) for arm in arms if get_origin(arm) is Literal for choice in get_args(arm)
        )
        return cls(
            kinds=frozenset(_kind(arm) for arm in arms if arm is not NoneType),
            choices=choices,
            bounds=_bounds(field),
            nullable=NoneType in arms,
            required=field.is_required(),
            of_texts=any(_entries_are_texts(arm) for arm in arms),
        )

    def words(self) -> str:
        """Describe briefly what is accepted."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        names = {
            "array": "a list",
            "object": "an object",
            "boolean": "true or false",
            "number": f"a number{self.bounds}",
        }
        return " or ".join(sorted(names.get(kind, f"a {kind}") for kind in self.kinds))


def _arms(annotation: object) -> list[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _arms(get_args(annotation)[0])
    if origin in (Union, UnionType):
        return [inner for arm in get_args(annotation) for inner in _arms(arm)]
    return [annotation]


def _entries_are_texts(arm: object) -> bool:
    entries = get_args(arm)
    return get_origin(arm) is tuple and _arms(entries[0]) == [str]


def _bounds(field: FieldInfo) -> str:
    """The bounds as ` from 1 to 1000`; pydantic keeps them in several places of the annotation."""
    constraints = [*field.metadata, *_constraints(field.annotation)]
    low = next(
        (one for one in (getattr(c, "ge", None) for c in constraints) if one is not None), None
    )
    high = next(
        (one for one in (getattr(c, "le", None) for c in constraints) if one is not None), None
    )
    if low is None:
        return ""
    return f" from {low}" if high is None else f" from {low} to {high}"


def _constraints(annotation: object) -> list[object]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *metadata = get_args(annotation)
        found: list[object] = []
        for one in metadata:
            found += one.metadata if isinstance(one, FieldInfo) else [one]
        return [*found, *_constraints(inner)]
    if origin in (Union, UnionType):
        return [found for arm in get_args(annotation) for found in _constraints(arm)]
    return []


def _kind(arm: object) -> str:
    base = get_origin(arm) or arm
    if base is bool:
        return "boolean"
    if base in (int, float):
        return "number"
    if base in (list, tuple):
        return "array"
    return "object" if base is dict else "string"


def read_value(value: JsonValue, expected: Expected) -> JsonValue:
    """Convert a value to the form that its field expects.

    Raises:
        ValueError: If the value is of a wrong kind; the text says what is expected.
    """
    # Only if the field takes no text: "1" for a name must stay a text.
    if isinstance(value, str) and "string" not in expected.kinds:
        value = _unquoted(value, expected)
    if expected.kinds == {"array"} and isinstance(value, str if expected.of_texts else dict):
        value = [value]
    if value is None:
        return None
    if expected.choices:
        return _choice(value, expected)
    if isinstance(value, str):
        return value.strip() if "object" not in expected.kinds else value
    if _kind(type(value)) not in expected.kinds:
        raise ValueError(f"expected {expected.words()}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


def is_blank(value: JsonValue) -> bool:
    """Whether a value is a text without content: models fill in what they leave open."""
    return isinstance(value, str) and not value.strip()


def _unquoted(text: str, expected: Expected) -> JsonValue:
    """Parse a text for a field that is not a text: JSON, or a boolean in any case."""
    if "boolean" in expected.kinds and text.strip().lower() in ("true", "false"):
        return text.strip().lower() == "true"
    try:
        value: JsonValue = json.loads(text)
    except (ValueError, RecursionError) as failure:
        if expected.of_texts and text.strip()[:1] not in ("[", "{"):
            return text.strip()
        structure = expected.kinds & {"array", "object"}
        form = ", or JSON text of it" if structure else ""
        raise ValueError(f"expected {expected.words()}{form}") from failure
    if expected.of_texts and isinstance(value, bool | int | float):
        return text.strip()  # a name that looks like a number
    return value


def _choice(value: JsonValue, expected: Expected) -> str:
    if isinstance(value, str):
        wanted = _folded(value)
        for choice in expected.choices:
            if _folded(choice) == wanted:
                return choice
        if near := nearest_choice(value, expected.choices):
            raise ValueError(f"expected {expected.words()}; did you mean '{near}'?")
    raise ValueError(f"expected {expected.words()}")


def _folded(text: str) -> str:
    return text.strip().lower().replace("_", "-")
