"""Splitting a data set into parts: rows to train on, to select by, to calibrate on and to report on.

Time-ordered rows are cut at the same moments for all series; the rows whose label reaches over a cut are
dropped (purge). Other rows are assigned to parts by a seeded, stratified draw. Shares follow the roles: train
for the workers, select for choosing versions, meta for stacking, verify for confidence, calib to calibrate,
test for reports.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments, InvalidDataset
from flow_nexus_neural.vocabulary import MIN_ROWS

PARTS = ("train", "select", "meta", "verify", "calib", "test")
FULL_ROWS = 2_000
SELECT_ROWS = 200
# Shares of PARTS in per cent, by the number of usable rows from which they apply. From SELECT_ROWS on, select
# has the share that it has from FULL_ROWS on: 16 rows at least, enough to see a training diverge. It is taken
# from train, so the test rows are the same with and without it, and results below FULL_ROWS stay comparable.
SHARES = {
    FULL_ROWS: (62, 8, 10, 7, 5, 8),
    SELECT_ROWS: (72, 8, 0, 0, 0, 20),
    MIN_ROWS: (80, 0, 0, 0, 0, 20),
}


@dataclass(frozen=True)
class SplitRule:
    """How to split.

    Attributes:
        seed: Of the stratified draw; unused for time-ordered rows.
        gap: Rows dropped per series at the end of a part, before a cut.
        embargo: Rows dropped per series at the start of a part, after a cut.
        folds: Of a walk-forward split; None for the plain shares.
        window: Consecutive rows of one series that make one sample.
    """

    seed: int
    gap: int = 0
    embargo: int = 0
    folds: int | None = None
    window: int = 1


@dataclass(frozen=True)
class Split:
    """Row indices per part, in order, and the number of rows dropped at cuts."""

    rows: dict[str, Indices]
    purged: int
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
        InvalidDataset: If the moments are too few to be cut.
    """
    rows = rows[np.lexsort((series[rows], time[rows]))]
    free = np.ones(len(rows), dtype=np.bool_) if in_test is None else ~in_test[rows]
    for shares in _shares(len(rows), rule):
        part = np.full(len(rows), PARTS.index("test"), dtype=np.int8)
        part[free] = _parts_by_time(time[rows][free], _of_free_rows(shares, in_test))
        kept = _outside_gaps(part, time[rows], series[rows], rule)
        found = _collect(rows, part, kept)
        has_select = _has_sample(series[found["select"]], rule.window)
        if has_select and _has_sample(series[found["train"]], rule.window):
            break
    _require_train_and_test(found)
    warnings = [
        *_describe(len(rows), rule, has_select=has_select),
        *_future_warning(time[rows], free),
    ]
    return Split(found, int(len(rows) - kept.sum()), warnings)


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
        InvalidArguments: If a walk-forward split is asked for.
    """
    if rule.folds is not None:
        raise InvalidArguments(
            "split=walk_forward needs rows in time order",
            hint="name a time_column, or give a window or horizon if the rows are in time order",
        )
    shares = _of_free_rows(_shares(len(rows), rule)[0], in_test)
    rng = np.random.Generator(np.random.PCG64([rule.seed, 1]))
    free = np.ones(len(rows), dtype=np.bool_) if in_test is None else ~in_test[rows]
    part = np.full(len(rows), PARTS.index("test"), dtype=np.int8)
    part[free] = _parts_by_strata(strata[rows][free], shares, rng)
    found = _collect(rows, part, np.ones(len(rows), dtype=np.bool_))
    _require_train_and_test(found)
    return Split(found, 0, _describe(len(rows), rule, has_select=len(found["select"]) > 0))


def _shares(rows: int, rule: SplitRule) -> list[tuple[int, ...]]:
    """Shares that this many rows allow, preferred first; the second, if any, has no select part."""
    if rows < MIN_ROWS:
        raise DataTooSmall(
            f"{rows} usable rows; at least {MIN_ROWS} are needed", hint="give more rows"
        )
    first = next(low for low in SHARES if rows >= low)
    tables: list[tuple[int, ...]] = [
        SHARES[low] for low in ([first, MIN_ROWS] if first == SELECT_ROWS else [first])
    ]
    if rule.folds is None:
        return tables
    # The last of folds + 1 equal blocks is the test; the others keep their proportions before it.
    return [(*(share * rule.folds for share in shares[:-1]), sum(shares[:-1])) for shares in tables]


def _of_free_rows(shares: tuple[int, ...], in_test: NDArray[np.bool_] | None) -> tuple[int, ...]:
    """Shares of the rows that are to be split; nothing is for the test where the source has reserved it."""
    return shares if in_test is None else (*shares[:-1], 0)


def _has_sample(series: Indices, window: int) -> bool:
    """Whether a part, given by the series of its rows, has a run of `window` rows of one series."""
    return bool(len(series)) and int(np.unique(series, return_counts=True)[1].max()) >= window


def _describe(rows: int, rule: SplitRule, *, has_select: bool) -> list[str]:
    warnings = []
    if rule.folds is not None:
        warnings.append(
            f"walk_forward with {rule.folds} folds: one model is trained on the first {rule.folds} of"
            f" {rule.folds + 1} equal blocks of time and tested on the last; the earlier folds are not"
            " trained one by one"
        )
    if rows < FULL_ROWS:
        parts = (
            ("train, select and test only", "")
            if has_select
            else ("train and test only", " selection,")
        )
        warnings.append(
            f"{rows} rows are below {FULL_ROWS}: they are split into {parts[0]}, without rows for{parts[1]}"
            " stacking, confidence and calibration"
        )
    if not has_select:
        reason = (
            f"{rows} rows are below {SELECT_ROWS}"
            if rows < SELECT_ROWS
            else "select or train would hold no sample"
        )
        warnings.append(f"there is no validation loss and no best round: {reason}")
    return warnings


def _parts_by_time(time: NDArray[np.float64], shares: tuple[int, ...]) -> NDArray[np.int8]:
    """Part of every row of sorted times; rows of one moment always share a part."""
    part = np.zeros(len(time), dtype=np.int8)
    total = sum(shares)
    for index in range(1, len(shares)):
        before = sum(shares[:index])
        cut = (before * len(time) + total // 2) // total
        if before < total and cut < len(time):
            part[np.searchsorted(time, time[cut]) :] = index
    return part


def _parts_by_strata(
    strata: Indices, shares: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.int8]:
    count = len(strata)
    draw = rng.random(count)
    grouped = np.lexsort((draw, strata))
    _, starts, sizes = np.unique(strata[grouped], return_index=True, return_counts=True)
    rank = np.arange(count) - np.repeat(starts, sizes)
    place = np.empty(count)
    place[grouped] = (rank + 0.5) / np.repeat(sizes, sizes)
    along = np.lexsort((rng.random(count), place))
    part = np.zeros(count, dtype=np.int8)
    total = sum(shares)
    for index in range(1, len(shares)):
        before = sum(shares[:index])
        if before < total:
            part[along[(before * count + total // 2) // total :]] = index
    return part


def _outside_gaps(
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


def _require_train_and_test(rows: dict[str, Indices]) -> None:
    for name in ("train", "test"):
        if not len(rows[name]):
            raise InvalidDataset(
                f"no row is left in the part '{name}'",
                hint="give more rows, more distinct times, or a smaller window, horizon or embargo",
            )
