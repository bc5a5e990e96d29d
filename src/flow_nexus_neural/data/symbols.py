"""The symbols of a table: which there are, and whose each row is."""

from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Column, TextColumn
from flow_nexus_neural.errors import LimitExceeded

MAX_SYMBOLS: Final = 1_024


def symbols_in(
    columns: Mapping[str, Column], name: str | None, rows: int
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """The names of the symbols, sorted, and [rows] each row's index among them, -1 where unknown.

    Args:
        columns: Of the table.
        name: The column that names the symbols; None if there is none.
        rows: Of the table.

    Raises:
        LimitExceeded: If there are more than 1,024 symbols.
    """
    symbols, symbol_of = _symbols(columns, name, rows)
    _check_symbols(symbols, name)
    return symbols, symbol_of


def _symbols(
    columns: Mapping[str, Column], name: str | None, rows: int
) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    unknown = np.full(rows, -1, dtype=np.int32)
    if name is None:
        return (), unknown
    column = columns[name]
    if isinstance(column, TextColumn):
        order = sorted(range(len(column.levels)), key=column.levels.__getitem__)
        rank = np.empty(len(order) or 1, dtype=np.int32)
        rank[order] = np.arange(len(order), dtype=np.int32)
        symbols = tuple(column.levels[index] for index in order)
        return symbols, np.where(column.codes < 0, np.int32(-1), rank[column.codes])
    if column.ndim != 1:
        return (), unknown
    present = np.isfinite(column)
    values, codes = np.unique(column[present], return_inverse=True)
    unknown[present] = codes
    return tuple(f"{value:.17g}" for value in values), unknown


def _check_symbols(symbols: Collection[str], column: str | None) -> None:
    """Raises `LimitExceeded` for too many."""
    if len(symbols) > MAX_SYMBOLS:
        raise LimitExceeded(
            f"column '{column}' names {len(symbols)} symbols; the limit is {MAX_SYMBOLS}",
            hint="use fewer symbols, or rename the column if it is none",
        )
