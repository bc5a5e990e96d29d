"""Rows in series: one symbol of one client, in time order."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.columns import Layout
from flow_nexus_neural.data.table import Indices, Table
from flow_nexus_neural.errors import DataTooSmall


@dataclass(frozen=True)
class Series:
    """The series that each row belongs to, and the order of the rows within it.

    Attributes:
        of_row: [rows] number of the series that a row belongs to.
        order: [rows] row indices sorted by series, then time.
        time: [rows] moment of every row; its position in the series when there is no time column.
        ordered: Whether the rows are in time order.
        warnings: For the caller.
    """

    of_row: Indices
    order: Indices
    time: NDArray[np.float64]
    ordered: bool
    warnings: list[str]


def series_of(table: Table, layout: Layout, window: int | None) -> Series:
    """Group the rows by client and symbol, and order each group by time.

    Where a window or a horizon is wanted without a time column, the order of the rows is taken as their order
    in time, and a warning says so.
    """
    client_of = 0 if table.client_of is None else table.client_of.astype(np.int64)
    of_row = client_of * (len(layout.symbols) + 1) + layout.symbol_of.astype(np.int64) + 1
    if layout.time is not None:
        order = np.lexsort((layout.time, of_row))
        remarks = _repeated_times(layout.time[order], of_row[order])
        return Series(of_row, order, layout.time, ordered=True, warnings=remarks)
    order = np.argsort(of_row, kind="stable")
    ordered = bool(window or layout.horizon)
    remarks = ["there is no time column: the order of the rows is taken as their order in time"]
    return Series(of_row, order, _places(order, of_row), ordered, remarks if ordered else [])


def windows_in(rows: Indices, series: Series, steps: int) -> Indices:
    """Every run of `steps` following rows of one series, inside the given rows.

    Args:
        rows: Row indices of one part, so that no window crosses into another part.
        series: The series of all rows.
        steps: Rows per window.

    Returns:
        [windows, steps] row indices, oldest first, in the order of their last rows' time.
    """
    sorted_rows = rows[np.lexsort((series.time[rows], series.of_row[rows]))]
    if len(sorted_rows) < steps:
        return np.empty((0, steps), dtype=np.int64)
    runs = np.lib.stride_tricks.sliding_window_view(sorted_rows, steps)
    runs = runs[series.of_row[runs[:, 0]] == series.of_row[runs[:, -1]]]
    last = runs[:, -1]
    in_time: Indices = runs[np.lexsort((series.of_row[last], series.time[last]))]
    return in_time


def require_windows(windows: Mapping[str, Indices], steps: int) -> None:
    """Refuse parts that are shorter than a window.

    Raises:
        DataTooSmall: If train or test has no window.
    """
    short = next((part for part in ("train", "test") if not len(windows[part])), None)
    if short is not None:
        raise DataTooSmall(
            f"the part '{short}' has no run of {steps} rows of one series",
            hint="use a smaller window or more rows per symbol and client",
        )


def _repeated_times(time: NDArray[np.float64], of_row: Indices) -> list[str]:
    count = int(((np.diff(time) == 0) & (np.diff(of_row) == 0)).sum())
    return [f"{count} rows repeat the time of the row before in their series"] if count else []


def _places(order: Indices, of_row: Indices) -> NDArray[np.float64]:
    ordered = of_row[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    sizes = np.diff(np.r_[starts, len(order)])
    places = np.empty(len(order))
    places[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return places
