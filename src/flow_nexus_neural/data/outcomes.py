"""What a record says about its own outcome: found under label-like names, read as a class or a value.

It never becomes input; a model may learn from it once its answer to the record is fixed.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from flow_nexus_neural.data.column_names import SYMBOL_NAMES, TARGET_NAMES
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.vocabulary import Label

DIRECTIONS = ("direction", "trend")
"""Names that say which way something went, but not by how much."""
NAMES = ("expectedoutcome", "expected_outcome", *TARGET_NAMES, *DIRECTIONS)
"""Names of outcomes beside the target's own, in the order in which they are believed."""

EXPLICIT = ("expectedoutcome", "expected_outcome", "label", "outcome", "trend")
"""Those that count also where the target has a name of its own; a `class` may be anything there."""

_UP = frozenset({"1", "true", "yes", "up"})
_DOWN = frozenset({"0", "-1", "false", "no", "down"})
MAX_SHOWN = 40
MAX_STANDARDISED = 1e9
"""Its square is finite in float32, in which nodes learn from it."""


@dataclass(frozen=True)
class ReadOutcome:
    """The outcome of one record.

    Attributes:
        name: Under which it was given.
        value: Class index, or the standardised value for regression; None where it is not one of the model's.
        why: Why it is not.
    """

    name: str
    value: float | None
    why: str | None = None


def outcome_rank(schema: DataSchema, name: str) -> int | None:
    """How much a name is believed to hold the outcome that the model predicts, 0 most; None: not at all.

    Other label-like names, such as `next_close`, are of outcomes that this model does not predict.
    """
    lowered = name.lower()
    if schema.target_name is not None and lowered == schema.target_name.lower():
        return 0
    if lowered in SYMBOL_NAMES or lowered not in (EXPLICIT if schema.target_name else NAMES):
        return None
    return 1 + NAMES.index(lowered)


def read_outcome(schema: DataSchema, given: Mapping[str, object]) -> ReadOutcome | None:
    """The outcome of a record, from its fields that are no input of the model; None where none is known.

    Where several are given, the target's own name says it, then the order of `NAMES`; none does where they
    say different things. A null is not known.

    Args:
        schema: Of the model that predicts.
        given: Fields by name.
    """
    ranked = [
        (rank, name)
        for name, value in given.items()
        if value is not None and (rank := outcome_rank(schema, name)) is not None
    ]
    if not ranked:
        return None
    names = [name for _, name in sorted(ranked)]
    found, *others = [outcome_of(schema, name, given[name]) for name in names]
    other = next((o for o in others if o.value not in (None, found.value)), None)
    if found.value is None or other is None:
        return found
    return ReadOutcome(found.name, None, f"{found.name} and {other.name} say different things")


def outcome_of(schema: DataSchema, name: str, value: object) -> ReadOutcome:
    """An outcome as the model counts it.

    Classes are compared as labels. Where the two classes of a model themselves are such a pair, 1, true, yes
    and up are one side; 0, -1, false, no and down the other: so -1 or 1 is a direction of price.
    """
    if schema.task == "regression":
        return _value_of(schema, name, value)
    classes = schema.classes or []
    for index, label in enumerate(classes):
        if _text(label) == _text(value):
            return ReadOutcome(name, float(index))
    side = _side(value)
    if schema.task == "binary" and side is not None and [_side(c) for c in classes] == [0, 1]:
        return ReadOutcome(name, float(side))
    known = ", ".join(str(label) for label in classes[:8])
    shown = _text(value)[:MAX_SHOWN].encode("utf-8", "replace").decode()
    return ReadOutcome(name, None, f"{name} {shown!r} is none of the model's classes ({known})")


def _value_of(schema: DataSchema, name: str, value: object) -> ReadOutcome:
    own = schema.target_name is not None and name.lower() == schema.target_name.lower()
    if name.lower() in DIRECTIONS and not own:
        return ReadOutcome(name, None, f"{name} is a direction; the model predicts values")
    try:
        number = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        return ReadOutcome(name, None, f"{name} is no finite number")
    standardised = number / schema.target_sd - schema.target_mean / schema.target_sd
    if not abs(standardised) <= MAX_STANDARDISED:
        return ReadOutcome(
            name,
            None,
            f"{name} is more than {MAX_STANDARDISED:g} standard deviations from what was learnt from",
        )
    return ReadOutcome(name, (number - schema.target_mean) / schema.target_sd)


def _text(label: Label | object) -> str:
    """A label in one spelling: 1, 1.0 and true are different texts of a number or of a word."""
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, (int, float)):
        try:
            return f"{label:.15g}"
        except OverflowError:  # an integer that no float holds; its digits are many
            return hex(int(label))
    text = str(label).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return f"{number:.15g}" if math.isfinite(number) else text


def _side(value: Label | object) -> int | None:
    """0 or 1 for one of the words of a yes or no, of an up or down; None for anything else."""
    text = _text(value).lower()
    return 1 if text in _UP else 0 if text in _DOWN else None
