"""Reads the numbers of records to predict for."""

import math
from collections.abc import Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Decimal
from flow_nexus_neural.data.written_numbers import read_number
from flow_nexus_neural.errors import InvalidRecord


def finite_number(name: str, value: object, decimal: Decimal | None = None) -> float:
    """A finite number, or NaN for a missing one.

    Text is read like that of the training data, whose mark before decimals may be known.

    Raises:
        InvalidRecord: If the value is no finite number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return math.nan
    number = math.nan
    if isinstance(value, str):
        number = _of_text(value, decimal)
    elif isinstance(value, (bool, int, float)):
        with suppress(OverflowError):
            number = float(value)
    if not math.isfinite(number):
        shown = repr(value)[:40]
        raise InvalidRecord(
            f"'{name}' is {shown}, which is not a finite number", hint="give a number, or null"
        )
    return number


def _of_text(text: str, decimal: Decimal | None) -> float:
    word = text.strip().lower()
    if word in ("true", "false"):
        return float(word == "true")
    if decimal is not None:
        return read_number(text, decimal)
    try:
        return float(text)
    except ValueError:
        # Only points are usual where nothing else is known, and no number that could mean two things.
        number = read_number(text, ".")
        return number if number == read_number(text) else math.nan


def finite_numbers(name: str, values: Sequence[object]) -> NDArray[np.float64]:
    """[n] finite numbers, NaN for missing ones; see `finite_number`."""
    if {float, int}.issuperset(map(type, values)):
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:
            numbers = np.array([math.inf])
        if np.isfinite(numbers).all():
            return numbers
    return np.array([finite_number(name, value) for value in values], dtype=np.float64)
