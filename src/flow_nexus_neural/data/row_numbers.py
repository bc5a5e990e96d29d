"""Finds columns that number or name the rows, such as the index of a data frame; new rows have other ones."""

import re

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import PRICE_NAMES, VOLUME_NAMES, plain
from flow_nexus_neural.data.table import Column, Indices, Numbers, TextColumn
from flow_nexus_neural.vocabulary import MIN_ROWS

ROW_NUMBER = "row number or id"
MAX_CODES = 16
"""Whole numbers of so few different values may be codes of something that many rows share."""
MIN_EXPECTED_REPEATS = 8.0
MIN_RISES = 20
_INDEX = re.compile(
    r"^(unnamed\b.*|unnamed_\d+|__index_level_\d+__|level_\d+|index|idx|rn|no\.?|nr\.?|#|\.\.\.\d+"
    r"|row[ ._-]?(names?|ids?|no|nums?|numbers?|index)?)$",
    re.IGNORECASE,
)
_ID = re.compile(r"(?i:(^|[ ._-])(id|uid|uuid|guid)$)|[a-z](Id|ID)$")
_NUMBER = re.compile(
    r"(^|[ ._-])(no|nr|num|number|key|serial|phone|ssn|isbn|account|invoice|ticket|order)\.?$",
    re.IGNORECASE,
)
"""Names of numbers that are ids where hardly any occurs twice."""
_MOSTLY = 0.9
_QUANTITIES = frozenset(
    {*PRICE_NAMES, *VOLUME_NAMES, "open", "high", "low", "last", "bid", "ask", "adjclose", "amount"}
    | {"quantity", "qty", "size", "turnover"}
)
"""What is measured may rise in every row."""


def groups_of_rows(*divisions: NDArray[np.integer] | NDArray[np.bool_] | None) -> Indices | None:
    """[rows] number of the combination of file, client and symbol of a row; None for a single one."""
    known = [division.astype(np.int64) for division in divisions if division is not None]
    if not known:
        return None
    return np.unique(np.stack(known), axis=1, return_inverse=True)[1].astype(np.int64).ravel()


def names_rows(name: str, column: Column) -> bool:
    """Whether a column is, by its name, the index of a data frame or an id with many values."""
    if name.lower().startswith("__index_level_"):
        return True
    is_index = bool(_INDEX.match(name) or _ID.search(name))
    if not is_index and not _NUMBER.search(name):
        return False  # most columns: their values need not be sorted
    if isinstance(column, TextColumn) or not _is_whole(column):
        return False
    distinct = len(np.unique(column))
    if is_index:
        return distinct > MAX_CODES
    return len(column) >= MIN_ROWS and distinct >= _MOSTLY * len(column)


def numbers_rows(name: str, column: Column, groups: Indices | None) -> bool:
    """Whether a column, by its values, numbers the rows.

    Either every row has a whole number of its own, from a range so narrow that measured numbers would repeat;
    or the whole numbers only rise, or only fall, along the rows of a group.
    """
    if isinstance(column, TextColumn) or plain(name) in _QUANTITIES or not _is_whole(column):
        return False
    if len(column) < MIN_ROWS:
        return False
    values = np.asarray(column, dtype=np.float64)
    group = np.zeros(len(values), dtype=np.int64) if groups is None else groups
    return _is_narrow_and_unique(values, group) or _is_monotone(values, group)


def _is_whole(column: Numbers) -> bool:
    return bool(
        column.ndim == 1
        and len(column)
        and np.isfinite(column).all()
        and (column == np.round(column)).all()
    )


def _is_narrow_and_unique(values: NDArray[np.float64], group: Indices) -> bool:
    order = np.lexsort((values, group))
    ordered, groups = values[order], group[order]
    same = groups[1:] == groups[:-1]
    if (same & (ordered[1:] == ordered[:-1])).any():
        return False
    starts = np.flatnonzero(np.r_[True, ~same])
    ends = np.r_[starts[1:], len(ordered)]
    ranges = ordered[ends - 1] - ordered[starts] + 1
    # Of n numbers drawn from r possible ones, about n^2 / 2r pairs are equal.
    expected = ((ends - starts) ** 2 / (2 * ranges)).sum()
    return bool(expected >= MIN_EXPECTED_REPEATS)


def _is_monotone(values: NDArray[np.float64], group: Indices) -> bool:
    order = np.argsort(group, kind="stable")
    steps = np.diff(values[order])[group[order][1:] == group[order][:-1]]
    if len(steps) < MIN_RISES or ((steps > 0).any() and (steps < 0).any()):
        return False
    changes = int((steps != 0).sum())
    return changes >= MIN_RISES and 4 * changes >= len(values)
