"""The rows of a file to predict as series in time, for models that read windows or look ahead.

A series is one symbol of one client, as in training. The columns that were the time of the training rows
order it; where a file has none of them, the order of its rows is taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import SYMBOL_NAMES, first_named
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.table import Indices, Numbers, Table, TextColumn
from flow_nexus_neural.data.targets import rows_ahead
from flow_nexus_neural.data.time_columns import find_time


@dataclass(frozen=True)
class FileSeries:
    """The rows of a file in series.

    Attributes:
        order: [rows] row indices sorted by series, then time.
        of_row: [rows] number of the series of a row.
        warnings: For the caller.
    """

    order: Indices
    of_row: Indices
    warnings: list[str]

    def windows(self, rows: Indices, steps: int) -> tuple[Indices, NDArray[np.bool_]]:
        """[n, steps] row indices of the windows that end at these rows, and [n] bool whether one is whole.

        Of an incomplete window the row itself stands in every place.
        """
        last = self._places[rows]
        first = last - (steps - 1)
        same = self.of_row[self.order[np.maximum(first, 0)]] == self.of_row[rows]
        whole = (first >= 0) & same
        places = np.where(whole[:, None], first[:, None] + np.arange(steps), last[:, None])
        return self.order[places], whole

    @cached_property
    def _places(self) -> Indices:
        """[rows] place of every row in `order`."""
        places = np.empty(len(self.order), dtype=np.int64)
        places[self.order] = np.arange(len(self.order))
        return places

    def ahead(self, steps: int) -> Indices:
        """[rows] index of the row `steps` later in the same series, -1 where there is none."""
        return rows_ahead(self.order, self.of_row, steps)


def series_in_file(schema: DataSchema, table: Table, time_names: Sequence[str]) -> FileSeries:
    """The series of a file's rows.

    Args:
        schema: Of the model.
        table: The file's rows.
        time_names: Columns that were the time of the training rows.

    Raises:
        InvalidDataset: A column of times has values that are no times.
    """
    of_row = _groups(schema, table)
    warnings: list[str] = []
    time = _time(table, time_names, warnings)
    if time is None:
        order = np.argsort(of_row, kind="stable")
        said = "the file has no time column: the order of its rows is taken as their order in time"
        return FileSeries(order, of_row, [*warnings, said])
    return FileSeries(np.lexsort((time, of_row)), of_row, warnings)


def _time(table: Table, names: Sequence[str], warnings: list[str]) -> NDArray[np.float64] | None:
    present = {name: table.columns[name] for name in names if name in table.columns}
    if not present:
        return None
    found = find_time(present, None, (), warnings) if len(present) > 1 else None
    if found is None:
        first = next(iter(present))
        found = find_time(present, first, (), warnings)
    return None if found is None else found.times


def _groups(schema: DataSchema, table: Table) -> Indices:
    of_row = np.zeros(table.rows, dtype=np.int64)
    name = first_named(table.columns, SYMBOL_NAMES) if schema.symbols else None
    if name is not None:
        column = table.columns[name]
        codes: Numbers | NDArray[np.int32] = (
            column.codes if isinstance(column, TextColumn) else column
        )
        if codes.ndim == 1:
            of_row = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    if table.client_of is not None:
        of_row = of_row + (int(of_row.max(initial=0)) + 1) * table.client_of.astype(np.int64)
    return of_row
