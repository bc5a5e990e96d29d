"""Chooses the label column: the one that was named, or a default, about which a warning is given."""

from collections.abc import Collection, Mapping

import numpy as np

from flow_nexus_neural.data.column_names import (
    PRICE_NAMES,
    TARGET_NAMES,
    are_coordinates,
    first_named,
)
from flow_nexus_neural.data.row_numbers import names_rows, numbers_rows
from flow_nexus_neural.data.table import Column, Indices, TextColumn
from flow_nexus_neural.data.time_columns import holds_moments
from flow_nexus_neural.errors import InvalidDataset

MAX_TEXT_CLASSES = 20


def default_target(
    columns: Mapping[str, Column],
    barred: Collection[str],
    groups: Indices | None,
    warnings: list[str],
    *,
    has_time: bool,
) -> str | None:
    """The label column where none was named; None means the return of the price.

    Args:
        columns: All columns.
        barred: The time, the symbol, and the columns that the caller named as features.
        groups: See `groups_of_rows`.
        warnings: Says what is taken.
        has_time: Whether the rows have a time.

    Raises:
        InvalidDataset: If no column can be a target.
    """
    free = [name for name in columns if name not in barred]
    x_y_z = are_coordinates(columns)
    named = first_named(
        (name for name in free if not (x_y_z and name.lower() == "y")), TARGET_NAMES
    )
    if named is not None:
        warnings.append(f"no target was named: '{named}' is taken for its name")
        return named
    price = first_named(columns, PRICE_NAMES)
    if has_time and price is not None:
        warnings.append(f"no target was named: it is whether '{price}' is higher in a later row")
        return None
    for name in reversed(free):
        if _can_be_target(name, columns[name], groups):
            last = "last column" if name == list(columns)[-1] else "last column that can be one,"
            warnings.append(f"no target was named: the {last} '{name}' is taken")
            return name
    raise InvalidDataset(
        "no target was named, and no column can be one by default", hint="name a target"
    )


def _can_be_target(name: str, column: Column, groups: Indices | None) -> bool:
    if names_rows(name, column) or holds_moments(name, column):
        return False
    if isinstance(column, TextColumn):
        return 2 <= len(column.levels) <= MAX_TEXT_CLASSES
    if column.ndim != 1 or numbers_rows(name, column, groups):
        return False
    finite = column[np.isfinite(column)]
    return bool(len(finite)) and bool((finite != finite[0]).any())
