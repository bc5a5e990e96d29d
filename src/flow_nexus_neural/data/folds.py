"""The earlier folds of a walk-forward split: what to train on and to test on at earlier moments.

Source: Tashman, "Out-of-sample tests of forecasting accuracy: an analysis and review", International Journal
of Forecasting 16 (2000), rolling-origin evaluation; Hyndman and Athanasopoulos, "Forecasting: Principles and
Practice", 3rd edition, section 5.10.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.moments import as_milliseconds, iso_text
from flow_nexus_neural.data.part_sizes import PARTS, SplitRule, Starts, first_of_last_blocks
from flow_nexus_neural.data.series import Series, Windows, first_rows, last_rows
from flow_nexus_neural.data.splits import has_sample, outside_gaps, parts_by_time
from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.errors import InvalidArguments


@dataclass(frozen=True)
class Fold:
    """One earlier fold: an expanding training part that ends before its own test block.

    The indexed samples are scaled as those of the last fold are; `rescaling` scales them by its own rows.

    Attributes:
        number: 1 for the earliest. The last fold is the split itself and no `Fold`.
        train: [n] index into the samples of the whole data, as `select` and `test`.
        select: [n] the samples just before the test block; may be empty.
        test: [n] one block of time; the block of the next fold follows it.
        begins: Time of the first test sample as ISO 8601 text; None where rows have no dates.
        ends: Time of the last test sample.
    """

    number: int
    train: Indices
    select: Indices
    test: Indices
    begins: str | None = None
    ends: str | None = None


def earlier_folds(
    usable: Indices, samples: Indices | Windows, series: Series, rule: SplitRule, last: Starts
) -> tuple[Fold, ...]:
    """All folds of a walk-forward split but the last.

    The tests are the last `rule.folds` of `rule.folds` + 1 equal blocks of time, or the last blocks of
    `test_size` rows. A fold trains on everything before its test but a select part in the proportion of the
    last fold; there is no calib or meta part, since only the last fold's model is calibrated. Cuts drop rows
    as they do between parts.

    Args:
        usable: Rows with a label, sorted by time, then series.
        samples: The samples of the whole data that the folds are to index.
        series: The series of all rows.
        rule: Folds, gap, embargo and window.
        last: Where the parts of the last fold begin.

    Raises:
        InvalidArguments: If a fold would have no sample to train on or to test on.
    """
    found = []
    for number, parts in enumerate(_rows_of_folds(usable, series, rule, last), start=1):
        train, select, test = (
            _samples_within(samples, parts[part], len(series.time))
            for part in ("train", "select", "test")
        )
        for part, own in (("train", train), ("test", test)):
            if not len(own):
                raise InvalidArguments(
                    f"folds={rule.folds}: fold {number} has no whole sample in the part '{part}'",
                    hint="use fewer folds, or a smaller window, horizon, embargo or test_size",
                )
        found.append(Fold(number, train, select, test, *span_of(last_rows(samples)[test], series)))
    return tuple(found)


def span_of(rows: NDArray[np.int64], series: Series) -> tuple[str | None, str | None]:
    """Times of the first and the last of these rows as ISO 8601 text; None where rows have no dates."""
    moments = as_milliseconds(series.time, dated=series.dated)
    if moments is None or not len(rows):
        return None, None
    return iso_text(moments[rows[0]]), iso_text(moments[rows[-1]])


def _rows_of_folds(
    usable: Indices, series: Series, rule: SplitRule, last: Starts
) -> Iterator[Mapping[str, Indices]]:
    time, of_row = series.time[usable], series.of_row[usable]
    folds, test = rule.folds or 1, last[-1]
    test_rows = None if rule.test_size is None else len(usable) - test
    for number in range(1, folds):
        begin, end = (
            max(0, first_of_last_blocks(len(usable), folds, block, test_rows))
            for block in (number, number + 1)
        )
        until = int(np.searchsorted(time, time[end]))
        select = (2 * (last[2] - last[1]) * begin + test) // (2 * test)
        for own in (select, 0) if select else (0,):
            starts = (0, begin - own, *[begin] * 4)
            part = parts_by_time(time[:until], starts)
            kept = outside_gaps(part, time[:until], of_row[:until], rule)
            rows = {
                name: usable[:until][kept & (part == PARTS.index(name))]
                for name in ("train", "select", "test")
            }
            if all(
                has_sample(series.of_row[rows[name]], rule.window) for name in ("train", "select")
            ):
                break
        yield rows


def _samples_within(samples: Indices | Windows, rows: Indices, n_rows: int) -> Indices:
    """Index of every sample whose rows are all in a part, which in each series is a run of rows."""
    inside = np.zeros(n_rows, dtype=np.bool_)
    inside[rows] = True
    return np.flatnonzero(inside[first_rows(samples)] & inside[last_rows(samples)])
