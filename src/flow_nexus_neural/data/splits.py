"""Splitting a data set into parts: rows to train on, to select by, to calibrate on and to report on.

Time-ordered rows are cut at the same moments for all series; the rows whose label reaches over a cut are
dropped (purge). Other rows are assigned to parts by a seeded, stratified draw. Shares follow the roles: train
for the workers, select for every choice within a training (best round, own weights, `validated`, `fltrust`)
and, without calib rows, for prediction sets and intervals, meta for stacking, verify to admit that and for
confidence, calib to calibrate, test for reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.part_sizes import (
    FULL_ROWS,
    PARTS,
    SELECT_ROWS,
    SplitRule,
    Starts,
    possible_starts,
)
from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset

OUT_OF_FOLD = "; these use training rows, answered by networks that were trained on the other rows"
"""What is said of small data from which aggregators or validators learn."""


@dataclass(frozen=True)
class Split:
    """Row indices per part.

    Attributes:
        rows: By part, in order.
        purged: Rows dropped at cuts.
        starts: Where the parts were to begin, before rows of one moment were kept together.
        warnings: For the caller.
    """

    rows: dict[str, Indices]
    purged: int
    starts: Starts
    warnings: Sequence[str] = ()


def split_by_time(
    rows: Indices,
    time: NDArray[np.float64],
    series: Indices,
    rule: SplitRule,
    in_test: NDArray[np.bool_] | None = None,
) -> Split:
    """Split rows at moments in time.

    Below FULL_ROWS there is no select part where the gaps would leave no sample in it, or none in train.

    Args:
        rows: [n] usable row indices.
        time: [all rows] moment of every row.
        series: [all rows] series (symbol, client) of every row.
        rule: Gap, embargo and folds.
        in_test: [all rows] rows that the source reserves for the test.

    Raises:
        DataTooSmall: If there are too few rows.
        InvalidArguments: If the sizes leave nothing to train on, or no sample in a part that they ask for.
        InvalidDataset: If the moments are too few to be cut.
    """
    rows = rows[np.lexsort((series[rows], time[rows]))]
    free, reserved = _free_rows(rows, in_test)
    for starts in possible_starts(len(rows), rule, reserved):
        part = np.full(len(rows), PARTS.index("test"), dtype=np.int8)
        part[free] = parts_by_time(time[rows][free], starts)
        kept = outside_gaps(part, time[rows], series[rows], rule)
        found = _collect(rows, part, kept)
        has_select = has_sample(series[found["select"]], rule.window)
        if has_select and has_sample(series[found["train"]], rule.window):
            break
    _require_train_and_test(found)
    _require_select(rule, has_select=has_select)
    warnings = [
        *_describe(len(rows), rule, has_select=has_select),
        *_future_warning(time[rows], free),
    ]
    return Split(found, int(len(rows) - kept.sum()), starts, warnings)


def split_stratified(
    rows: Indices,
    strata: Indices,
    rule: SplitRule,
    in_test: NDArray[np.bool_] | None = None,
) -> Split:
    """Split rows without an order by a seeded draw that keeps the shares of every stratum.

    The rows of each stratum get a random rank. A row's place is the middle of its rank as a fraction of the
    stratum, and all rows are cut into parts along that fraction. Part sizes are exact, strata proportional,
    and the row of a stratum of one row is more often in train than not.

    Args:
        rows: [n] usable row indices.
        strata: [all rows] class (and client) of every row.
        rule: The seed.
        in_test: [all rows] rows that the source reserves for the test.

    Raises:
        DataTooSmall: If there are too few rows.
        InvalidArguments: If a walk-forward split is asked for, or the sizes leave nothing to train on.
    """
    if rule.folds is not None:
        raise InvalidArguments(
            "folds (split=walk_forward) need rows in time order",
            hint="name a time_column, or give a window or horizon if the rows are in time order",
        )
    free, reserved = _free_rows(rows, in_test)
    starts = possible_starts(len(rows), rule, reserved)[0]
    rng = np.random.Generator(np.random.PCG64([rule.seed, 1]))
    part = np.full(len(rows), PARTS.index("test"), dtype=np.int8)
    part[free] = _parts_by_strata(strata[rows][free], starts, rng)
    found = _collect(rows, part, np.ones(len(rows), dtype=np.bool_))
    _require_train_and_test(found)
    return Split(found, 0, starts, _describe(len(rows), rule, has_select=len(found["select"]) > 0))


def _free_rows(
    rows: Indices, in_test: NDArray[np.bool_] | None
) -> tuple[NDArray[np.bool_], int | None]:
    """[n] bool, rows that the source does not reserve, and how many it does; None where it reserves none."""
    if in_test is None:
        return np.ones(len(rows), dtype=np.bool_), None
    return ~in_test[rows], int(in_test[rows].sum())


def has_sample(series: Indices, window: int) -> bool:
    """Whether a part, given by the series of its rows, has a run of `window` rows of one series."""
    return bool(len(series)) and int(np.unique(series, return_counts=True)[1].max()) >= window


def _describe(rows: int, rule: SplitRule, *, has_select: bool) -> list[str]:
    warnings = []
    if rows < FULL_ROWS:
        parts = "train, select and test only" if has_select else "train and test only"
        without = [
            *([] if has_select else ["selection"]),
            *(["ensemble weights"] if rule.stacking else []),
            "calibration",
        ]
        told = (
            f"{rows} rows are below {FULL_ROWS}: they are split into {parts}, without rows for"
            f" {' and '.join(without)}"
        )
        warnings.append(told + (OUT_OF_FOLD if rule.verifying else ""))
    if not has_select:
        warnings.append(
            f"there is no validation loss and no best round: {_why_no_select(rows, rule)}"
        )
    return warnings


def _why_no_select(rows: int, rule: SplitRule) -> str:
    if rule.validation_size == 0:
        return "validation_size is 0"
    if rows < SELECT_ROWS:
        return f"{rows} rows are below {SELECT_ROWS}"
    return "select or train would hold no sample"


def parts_by_time(time: NDArray[np.float64], starts: Starts) -> NDArray[np.int8]:
    """[n] index into PARTS of every row of sorted times; rows of one moment always share a part."""
    part = np.zeros(len(time), dtype=np.int8)
    for index, start in enumerate(starts):
        if index and start < len(time):
            part[np.searchsorted(time, time[start]) :] = index
    return part


def _parts_by_strata(strata: Indices, starts: Starts, rng: np.random.Generator) -> NDArray[np.int8]:
    count = len(strata)
    draw = rng.random(count)
    grouped = np.lexsort((draw, strata))
    _, firsts, sizes = np.unique(strata[grouped], return_index=True, return_counts=True)
    rank = np.arange(count) - np.repeat(firsts, sizes)
    place = np.empty(count)
    place[grouped] = (rank + 0.5) / np.repeat(sizes, sizes)
    along = np.lexsort((rng.random(count), place))
    part = np.zeros(count, dtype=np.int8)
    for index, start in enumerate(starts):
        part[along[start:]] = index
    return part


def outside_gaps(
    part: NDArray[np.int8], time: NDArray[np.float64], series: Indices, rule: SplitRule
) -> NDArray[np.bool_]:
    """[n] bool: True for rows that no cut is too close to.

    The next `gap` and the previous `embargo` rows of the same series must be in the same part.
    """
    kept = np.ones(len(part), dtype=np.bool_)
    if not len(part) or not (rule.gap or rule.embargo):
        return kept
    order = np.lexsort((time, series))
    sorted_part, sorted_series = part[order], series[order]
    position = np.arange(len(order))
    starts = np.flatnonzero(np.r_[True, sorted_series[1:] != sorted_series[:-1]])
    sizes = np.diff(np.r_[starts, len(order)])
    first, last = np.repeat(starts, sizes), np.repeat(starts + sizes - 1, sizes)
    after = sorted_part[np.minimum(position + rule.gap, last)]
    before = sorted_part[np.maximum(position - rule.embargo, first)]
    kept[order] = (after == sorted_part) & (before == sorted_part)
    return kept


def _future_warning(time: NDArray[np.float64], free: NDArray[np.bool_]) -> list[str]:
    if not free.any() or free.all():
        return []
    late = int((time[free] >= time[~free].min()).sum())
    if not late:
        return []
    warning = (
        f"{late} of {int(free.sum())} training rows are not earlier than the first test row: the test can"
        " look better than the future will be"
    )
    return [warning]


def _collect(rows: Indices, part: NDArray[np.int8], kept: NDArray[np.bool_]) -> dict[str, Indices]:
    return {name: rows[kept & (part == index)] for index, name in enumerate(PARTS)}


def _require_select(rule: SplitRule, *, has_select: bool) -> None:
    if rule.validation_size and not has_select:
        dropped = rule.gap + rule.embargo
        raise InvalidArguments(
            f"validation_size={rule.validation_size:g} leaves no whole sample between its cuts, at which"
            f" {dropped} rows of every series are dropped and rows of one time stay together",
            hint="give a larger validation_size, or 0 for none",
        )


def _require_train_and_test(rows: dict[str, Indices]) -> None:
    for name in ("train", "test"):
        if not len(rows[name]):
            raise InvalidDataset(
                f"no row is left in the part '{name}'",
                hint="give more rows or distinct times, other sizes, or a smaller window, horizon or embargo",
            )
