"""Rows in series: one symbol of one client, in time order."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.columns import Layout
from flow_nexus_neural.data.table import Indices, Table
from flow_nexus_neural.errors import DataTooSmall

_GATHERED_AT_ONCE = 1 << 18
"""Rows."""


@dataclass(frozen=True)
class Series:
    """The series that each row belongs to, and the order of the rows within it.

    Attributes:
        of_row: [rows] number of the series that a row belongs to.
        order: [rows] row indices sorted by series, then time.
        time: [rows] moment of every row; its position in the series when there is no time column.
        ordered: Whether the rows are in time order.
        warnings: For the caller.
        dated: Whether `time` is milliseconds since 1970.
    """

    of_row: Indices
    order: Indices
    time: NDArray[np.float64]
    ordered: bool
    warnings: list[str]
    dated: bool = False


@dataclass(frozen=True)
class Windows:
    """Runs of following rows of one series, without their contents: written out they can take gigabytes.

    Attributes:
        rows: Row indices, sorted by series, then time.
        starts: [windows] place in `rows` at which each window begins, in the order of their last rows' time.
        steps: Rows per window.
    """

    rows: Indices
    starts: Indices
    steps: int

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def first(self) -> Indices:
        """[windows] row index of each window's first row."""
        return self.rows[self.starts]

    @property
    def last(self) -> Indices:
        """[windows] row index of each window's last row."""
        return self.rows[self.starts + (self.steps - 1)]

    def of(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        """[windows, steps, ...] the values of each window's rows, oldest first.

        Args:
            x: [rows, ...] values of all rows.
        """
        taken = np.empty((len(self), self.steps, *x.shape[1:]), dtype=x.dtype)
        # In blocks, because the indices take more memory than the values.
        step = max(1, _GATHERED_AT_ONCE // self.steps)
        offsets = np.arange(self.steps)
        for first in range(0, len(self), step):
            places = self.starts[first : first + step, None] + offsets
            taken[first : first + step] = x[self.rows[places]]
        return taken


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
        return Series(
            of_row, order, layout.time, ordered=True, warnings=remarks, dated=layout.dated
        )
    order = np.argsort(of_row, kind="stable")
    ordered = bool(window or layout.horizon)
    remarks = ["there is no time column: the order of the rows is taken as their order in time"]
    return Series(of_row, order, _places(order, of_row), ordered, remarks if ordered else [])


def windows_in(rows: Indices, series: Series, steps: int) -> Windows:
    """Every run of `steps` following rows of one series, inside the given rows.

    Args:
        rows: Row indices of one part, so that no window crosses into another part.
        series: The series of all rows.
        steps: Rows per window.

    """
    sorted_rows = rows[np.lexsort((series.time[rows], series.of_row[rows]))]
    n_runs = max(0, len(sorted_rows) - steps + 1)
    first, last = sorted_rows[:n_runs], sorted_rows[steps - 1 :]
    starts = np.flatnonzero(series.of_row[first] == series.of_row[last])
    last = last[starts]
    in_time = starts[np.lexsort((series.of_row[last], series.time[last]))]
    return Windows(sorted_rows, in_time, steps)


def first_rows(samples: Indices | Windows) -> Indices:
    """[samples] the row in which each sample begins."""
    return samples.first if isinstance(samples, Windows) else samples


def last_rows(samples: Indices | Windows) -> Indices:
    """[samples] the row in which each sample ends, whose label it has."""
    return samples.last if isinstance(samples, Windows) else samples


def run_within(samples: Indices | Windows, whole: Indices | Windows, n_rows: int) -> slice | None:
    """Where samples stand in the whole, if they follow each other there.

    Args:
        samples: Of one part.
        whole: All samples, as long as those of the part.
        n_rows: Rows of the table.
    """
    place = np.full(n_rows, -1, dtype=np.int64)
    place[last_rows(whole)] = np.arange(len(whole))
    found = place[last_rows(samples)]
    if not len(found) or found[0] < 0 or (np.diff(found) != 1).any():
        return None
    within = slice(int(found[0]), int(found[-1]) + 1)
    same = bool((first_rows(whole)[within] == first_rows(samples)).all())
    return within if same else None


def require_windows(windows: Mapping[str, Windows], steps: int) -> None:
    """Refuse parts that are shorter than a window.

    Raises:
        DataTooSmall: If train or test has no window.
    """
    short = next((part for part in ("train", "test") if not len(windows[part])), None)
    if short is not None:
        raise DataTooSmall(
            f"the part '{short}' has no run of {steps} rows of one series",
            hint="use a smaller window, other sizes of the parts, or more rows per symbol and client",
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
