"""Reads the numbers of records to predict for."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.written_numbers import Decimal, read_number
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
    if isinstance(value, (bool, int, float, str)):
        try:
            truth = str(value).strip().lower()
            number = float(truth == "true") if truth in ("true", "false") else float(value)
            if isinstance(value, str) and decimal == ",":
                number = read_number(value, decimal)
        except (ValueError, OverflowError):
            number = read_number(value, decimal) if isinstance(value, str) else math.nan
    if not math.isfinite(number):
        shown = repr(value)[:40]
        raise InvalidRecord(
            f"'{name}' is {shown}, which is not a finite number", hint="give a number, or null"
        )
    return number


def finite_numbers(name: str, values: Sequence[object]) -> NDArray[np.float64]:
    """[n] finite numbers, NaN for missing ones; see `finite_number`."""
    if all(type(value) is float or type(value) is int for value in values):
        try:
            numbers = np.array(values, dtype=np.float64)
        except OverflowError:
            numbers = np.array([math.inf])
        if np.isfinite(numbers).all():
            return numbers
    return np.array([finite_number(name, value) for value in values], dtype=np.float64)
