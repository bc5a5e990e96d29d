"""Finds the class that a caller names, as labels are written in data, in JSON and as keys of an object."""

import math
from collections.abc import Sequence

from flow_nexus_neural.vocabulary import Label

MAX_SHOWN_CHARS = 40
"""Of a label in an error."""
_SWITCHES = {"true": 1.0, "false": 0.0}
"""A column of true and false is read as 1 and 0."""


def class_index(classes: Sequence[Label], written: Label) -> int | None:
    """Index of the class that is written so; None if none is, or several are.

    The very spelling comes first, then an equal number (`1`, `"1.0"` and `true` are the class 1), then
    letters in another case.
    """
    text = str(written).strip()
    number = _number(text)
    spellings = (
        [str(label) == text for label in classes],
        [
            number is not None and not isinstance(label, str) and label == number
            for label in classes
        ],
        [str(label).casefold() == text.casefold() for label in classes],
    )
    for equal in spellings:
        if sum(equal) == 1:
            return equal.index(True)
    return None


def told_classes(classes: Sequence[Label]) -> str:
    """The classes there are, for an error's hint."""
    return "its classes are " + ", ".join(repr(label)[:MAX_SHOWN_CHARS] for label in classes)


def _number(text: str) -> float | None:
    switch = _SWITCHES.get(text.lower())
    if switch is not None:
        return switch
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
