"""Which rows train, which choose, which calibrate and which only report.

Time-ordered rows are cut at the same moments for all series; the rows whose label reaches over a cut are
dropped (purge). Other rows are spread by a seeded, stratified draw. Shares follow the roles: train the
workers, select versions, meta for stacking, verify for confidence, calib for calibration, test for reports.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments, InvalidDataset
from flow_nexus_neural.vocabulary import MIN_ROWS

PARTS = ("train", "select", "meta", "verify", "calib", "test")
SHARES = (62, 8, 10, 7, 5, 8)
SMALL_SHARES = (80, 0, 0, 0, 0, 20)
FULL_ROWS = 2_000


@dataclass(frozen=True)
class SplitRule:
    """How to split.

    Attributes:
        seed: Of the stratified draw; unused for time-ordered rows.
        gap: Rows dropped per series at the end of a part, before a cut.
        embargo: Rows dropped per series at the start of a part, after a cut.
        folds: Of a walk-forward split; None for the plain shares.
    """

    seed: int
    gap: int = 0
    embargo: int = 0
    folds: int | None = None


@dataclass(frozen=True)
class Split:
    """Row indices per part, in order, and the rows dropped at cuts."""

    rows: dict[str, Indices]
    purged: int
    warnings: list[str] = field(default_factory=list)


def split_by_time(
    rows: Indices,
    time: NDArray[np.float64],
    series: Indices,
    rule: SplitRule,
    in_test: NDArray[np.bool_] | None = None,
) -> Split:
    """Split rows at moments in time.

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
    shares = _shares(len(rows), rule)
    warnings = _describe(len(rows), rule)
    rows = rows[np.lexsort((series[rows], time[rows]))]
    part = np.full(len(rows), PARTS.index("test"), dtype=np.int8)
    if in_test is None:
        part = _parts_by_time(time[rows], shares)
    else:
        free = ~in_test[rows]
        part[free] = _parts_by_time(time[rows][free], (*shares[:-1], 0))
        warnings.extend(_future_warning(time[rows], free))
    kept = _outside_gaps(part, time[rows], series[rows], rule)
    split = _collect(rows, part, kept, warnings)
    _require_train_and_test(split)
    return split


def split_stratified(
    rows: Indices,
    strata: Indices,
    rule: SplitRule,
    in_test: NDArray[np.bool_] | None = None,
) -> Split:
    """Split rows without an order by a seeded draw that keeps the shares of every stratum.

    Within each stratum rows get a random rank; a row's place is its rank's middle as a fraction of the
    stratum, and parts are cut along that fraction over all rows. Part sizes are exact, strata proportional,
    and a stratum of one row is trained on more often than not.

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
    shares = _shares(len(rows), rule)
    rng = np.random.Generator(np.random.PCG64([rule.seed, 1]))
    part = np.full(len(rows), PARTS.index("test"), dtype=np.int8)
    if in_test is None:
        part = _parts_by_strata(strata[rows], shares, rng)
    else:
        free = ~in_test[rows]
        part[free] = _parts_by_strata(strata[rows][free], (*shares[:-1], 0), rng)
    split = _collect(rows, part, np.ones(len(rows), dtype=np.bool_), _describe(len(rows), rule))
    _require_train_and_test(split)
    return split


def _shares(rows: int, rule: SplitRule) -> tuple[int, ...]:
    if rows < MIN_ROWS:
        raise DataTooSmall(
            f"{rows} usable rows; at least {MIN_ROWS} are needed", hint="give more rows"
        )
    shares = SHARES if rows >= FULL_ROWS else SMALL_SHARES
    if rule.folds is None:
        return shares
    # The last of folds + 1 equal blocks is the test; the others keep their proportions before it.
    before = sum(shares[:-1])
    return (*(share * rule.folds for share in shares[:-1]), before)


def _describe(rows: int, rule: SplitRule) -> list[str]:
    warnings = []
    if rule.folds is not None:
        warnings.append(
            f"walk_forward with {rule.folds} folds: one model is trained on the first {rule.folds} of"
            f" {rule.folds + 1} equal blocks of time and tested on the last; the earlier folds are not"
            " trained one by one"
        )
    if rows < FULL_ROWS:
        warnings.append(
            f"{rows} rows are below {FULL_ROWS}: they are split into train and test only, without rows for"
            " selection, stacking, confidence and calibration"
        )
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
    """[n] bool, rows whose next `gap` and previous `embargo` rows of their series are in their part."""
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


def _collect(
    rows: Indices, part: NDArray[np.int8], kept: NDArray[np.bool_], warnings: list[str]
) -> Split:
    parts = {name: rows[kept & (part == index)] for index, name in enumerate(PARTS)}
    return Split(parts, int(len(rows) - kept.sum()), warnings)


def _require_train_and_test(split: Split) -> None:
    for name in ("train", "test"):
        if not len(split.rows[name]):
            raise InvalidDataset(
                f"no row is left in the part '{name}'",
                hint="give more rows, more distinct times, or a smaller window, horizon or embargo",
            )
