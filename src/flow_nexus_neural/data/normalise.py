"""Scaling of columns, by statistics of training rows only; data sets and records are scaled alike.

Numbers are z-scored and clipped to +-6; a missing value becomes 0, the training mean. Prices and volumes
first become the log ratio to their symbol's training median, so that symbols are comparable.
Vector columns are scaled per step. Categories become one column per level, scaled like numbers.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from flow_nexus_neural.data.column_names import PRICE_NAMES, VOLUME_NAMES
from flow_nexus_neural.data.table import Column, Decimal, Indices, Numbers, TextColumn

CLIP = 6.0
RELATIVE_ZERO = 1e-12

ColumnKind = Literal["number", "vector", "levels"]


class ColumnSpec(BaseModel):
    """A feature column and how it is scaled.

    Attributes:
        name: As in the source.
        kind: `number` is one value, `vector` one list, `levels` one text.
        mean: [width] training mean per value, after the log ratio if there is one.
        sd: [width] training standard deviation; 0 marks a constant value, which is always scaled to 0.
        medians: Training median per symbol; None where plain values are scaled.
        pooled: Mean and standard deviation of the training values' logarithms over all symbols, for rows
            without a known symbol.
        levels: Texts of a category, each of which is one 0/1 value of a row; None for numbers.
        decimal: Mark before decimals of numbers that were texts in another spelling; None for plain numbers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    kind: ColumnKind
    mean: tuple[float, ...] = Field(min_length=1)
    sd: tuple[float, ...] = Field(min_length=1)
    medians: dict[str, float] | None = None
    pooled: tuple[float, float] | None = None
    levels: tuple[str, ...] | None = None
    decimal: Decimal | None = None

    @property
    def width(self) -> int:
        """Values per row."""
        return len(self.mean)


def fit_column(
    name: str,
    column: Column,
    train: Indices,
    symbols: Sequence[str],
    symbol_of: NDArray[np.int32],
    *,
    ratios: bool,
) -> ColumnSpec:
    """Compute the statistics by which a column is scaled, from training rows.

    Args:
        name: The column's name.
        column: [rows], [rows, steps] or text.
        train: Indices of training rows.
        symbols: Names of symbols.
        symbol_of: [rows] index into `symbols`, -1 where unknown.
        ratios: Whether prices and volumes are scaled relative to their symbol.
    """
    levels: tuple[str, ...] | None = None
    kind: ColumnKind = "number"
    if isinstance(column, TextColumn):
        kind, levels = "levels", _levels(column, train)
    elif column.ndim > 1:
        kind = "vector"
    values = raw_values(column, levels, train)
    medians, pooled = None, None
    if ratios and _by_ratio(name) and kind == "number" and _all_positive(values):
        medians = _medians(values[:, 0], symbols, symbol_of[train])
        log_mean, log_sd = _moments(np.log(values))
        pooled = (float(log_mean[0]), float(log_sd[0]))
        bases = _bases(medians, symbols, symbol_of[train])
        ratios_only = np.log(values / bases[:, None])
        mean, sd = _moments(ratios_only) if np.isfinite(bases).any() else (log_mean, log_sd)
    else:
        mean, sd = _moments(values)
    return ColumnSpec(
        name=name,
        kind=kind,
        mean=tuple(mean.tolist()),
        sd=tuple(sd.tolist()),
        medians=medians,
        pooled=pooled,
        levels=levels,
    )


def fit_channel(name: str, values: Numbers) -> ColumnSpec:
    """Compute one mean and deviation over all rows and steps of a channel of [rows, steps, channels] data."""
    mean, sd = _moments(np.asarray(values, dtype=np.float64).reshape(-1, 1))
    return ColumnSpec(name=name, kind="number", mean=tuple(mean.tolist()), sd=tuple(sd.tolist()))


def scale_column(
    spec: ColumnSpec,
    column: Column,
    rows: Indices,
    symbols: Sequence[str],
    symbol_of: NDArray[np.int32],
) -> NDArray[np.float32]:
    """[n, width] float32 scaled values of the given rows, missing values 0."""
    values = raw_values(column, spec.levels, rows)
    bases = None if spec.medians is None else _bases(spec.medians, symbols, symbol_of[rows])
    return scale(spec, values, bases)[0]


def scale(
    spec: ColumnSpec, values: NDArray[np.float64], bases: NDArray[np.float64] | None
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scale raw values.

    Args:
        spec: The column's statistics.
        values: [n, width] float64, NaN where missing; not changed.
        bases: [n] median of each row's symbol for log ratios, NaN without a known symbol; else None.

    Returns:
        [n, width] float32 within +-6, and [n, width] bool where a number was clipped.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        if bases is None:
            scaled = _standard(values, np.asarray(spec.mean), np.asarray(spec.sd))
        else:
            scaled = _log_ratio(spec, values, bases)
    outside = np.abs(scaled) > CLIP
    if spec.kind == "levels":
        outside[:] = False
    return _clipped(scaled), outside


class RowScaler:
    """Scales whole rows of all columns at once, as `scale` does column by column.

    Attributes:
        starts: [columns] place of every column's first value in a row.
    """

    def __init__(self, specs: Sequence[ColumnSpec]) -> None:
        self._specs = specs
        widths = np.array([spec.width for spec in specs])
        self.starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
        self._mean = np.concatenate([spec.mean for spec in specs])
        self._sd = np.concatenate([spec.sd for spec in specs])
        self._counts = np.repeat([spec.kind != "levels" for spec in specs], widths)
        self._ratios = [index for index, spec in enumerate(specs) if spec.medians is not None]

    def scale(
        self, values: NDArray[np.float64], symbols: Sequence[str | None]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Scale [n, width] raw values of rows of the given symbols; see `scale` for the result."""
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            scaled = _standard(values, self._mean, self._sd)
            for index in self._ratios:
                spec = self._specs[index]
                place = slice(self.starts[index], self.starts[index] + 1)
                medians = spec.medians or {}
                bases = np.array([medians.get(symbol or "", np.nan) for symbol in symbols])
                scaled[:, place] = _log_ratio(spec, values[:, place], bases)
        outside = (np.abs(scaled) > CLIP) & self._counts
        return _clipped(scaled), outside


def _clipped(scaled: NDArray[np.float64]) -> NDArray[np.float32]:
    np.clip(scaled, -CLIP, CLIP, out=scaled)
    np.nan_to_num(scaled, copy=False, nan=0.0)
    return scaled.astype(np.float32)


def _standard(
    values: NDArray[np.float64], mean: NDArray[np.float64], sd: NDArray[np.float64]
) -> NDArray[np.float64]:
    scaled: NDArray[np.float64] = (values - mean) / np.where(sd > 0, sd, 1.0)
    scaled *= sd > 0
    return scaled


def _log_ratio(
    spec: ColumnSpec, values: NDArray[np.float64], bases: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Scaled log ratio to the median of the row's symbol; of an unknown symbol the scaled logarithm."""
    mean, sd = np.array(spec.pooled or (0.0, 0.0))[:, None]
    logs = np.log(np.where(values > 0, values, np.nan))
    known = np.isfinite(bases)[:, None]
    ratios = _standard(logs - np.log(bases)[:, None], np.asarray(spec.mean), np.asarray(spec.sd))
    return np.where(known, ratios, _standard(logs, mean, sd))


def raw_values(
    column: Column, levels: tuple[str, ...] | None, rows: Indices
) -> NDArray[np.float64]:
    """[n, width] float64 with NaN for missing or infinite; texts as one 0/1 column per level."""
    if isinstance(column, TextColumn):
        index = {level: place for place, level in enumerate(levels or ())}
        places = np.array([index.get(level, -1) for level in column.levels] or [-1])
        codes = column.codes[rows]
        hits: NDArray[np.bool_] = places[codes][:, None] == np.arange(len(index))
        return np.where((codes < 0)[:, None], np.nan, hits.astype(np.float64))
    numbers = np.asarray(column[rows], dtype=np.float64).reshape(len(rows), -1)
    finite = np.isfinite(numbers)
    return numbers if finite.all() else np.where(finite, numbers, np.nan)


def _levels(column: TextColumn, train: Indices) -> tuple[str, ...]:
    codes = np.unique(column.codes[train])
    found = tuple(sorted(column.levels[code] for code in codes if code >= 0))
    return found or (column.levels[0],)


def _by_ratio(name: str) -> bool:
    return name.lower() in (*PRICE_NAMES, *VOLUME_NAMES)


def _all_positive(values: NDArray[np.float64]) -> bool:
    present = values[np.isfinite(values)]
    return bool(len(present)) and bool((present > 0).all())


def _medians(
    values: NDArray[np.float64], symbols: Sequence[str], symbol_of: NDArray[np.int32]
) -> dict[str, float]:
    present = np.flatnonzero(np.isfinite(values) & (symbol_of >= 0))
    order = present[np.lexsort((values[present], symbol_of[present]))]
    ends = np.searchsorted(symbol_of[order], np.arange(len(symbols) + 1))
    return {
        symbol: float(np.median(values[order[first:last]]))
        for symbol, first, last in zip(symbols, ends[:-1], ends[1:], strict=True)
        if last > first
    }


def _bases(
    medians: dict[str, float], symbols: Sequence[str], symbol_of: NDArray[np.int32]
) -> NDArray[np.float64]:
    """[n] median of the row's symbol, NaN where there is none."""
    by_symbol = np.array([*(medians.get(symbol, np.nan) for symbol in symbols), np.nan])
    bases: NDArray[np.float64] = by_symbol[symbol_of]
    return bases


def _moments(
    values: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    filled = np.where(present, values, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = filled.sum(axis=0) / count
        np.subtract(filled, mean, out=filled)
        filled[~present] = 0.0
        sd = np.sqrt((filled**2).sum(axis=0) / count)
    sound = np.isfinite(mean) & np.isfinite(sd)
    mean = np.where(sound, mean, 0.0)
    varies = sound & (sd > RELATIVE_ZERO * np.maximum(np.abs(mean), 1e-300))
    return mean, np.where(varies, sd, 0.0)
