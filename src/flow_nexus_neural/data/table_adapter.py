"""Turns the rows of a table into network input, column by column, as `data.adapter` does with records.

Names, imputation, scaling and the report are those of records. A file differs in what it can hold: a missing
word or an infinite number counts as unknown, as in the files that a model learns from, and a column of
numbers in another spelling is read as a whole. A model of windows reads the rows as series: each row is
predicted from itself and the rows before it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.adapter import (
    MAX_LISTED,
    Reading,
    RecordNames,
    known_symbol,
    scaled,
    shown,
    why_ignored,
    with_inputs,
)
from flow_nexus_neural.data.column_names import SYMBOL_NAMES
from flow_nexus_neural.data.file_series import FileSeries
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.record_numbers import finite_number
from flow_nexus_neural.data.records import Records
from flow_nexus_neural.data.schema import Adapted, DataSchema
from flow_nexus_neural.data.table import Column, Indices, Numbers, Table, TextColumn, number_text
from flow_nexus_neural.data.written_numbers import MOSTLY, is_gap, with_numbers
from flow_nexus_neural.errors import InvalidRecord, NoKnownFeature

Raw = NDArray[np.float64]


@dataclass(frozen=True)
class AdaptedRows:
    """Some rows of a table as network input.

    Attributes:
        adapted: As for records; rows that cannot be predicted are in it too.
        known: [rows] bool, whether a row gives some input.
        whole: [rows] bool, whether a row ends a whole window; always for a model without windows.
    """

    adapted: Adapted
    known: NDArray[np.bool_]
    whole: NDArray[np.bool_]

    @property
    def usable(self) -> NDArray[np.bool_]:
        """[rows] bool, whether a row is predicted."""
        return self.known & self.whole


class TableAdapter:
    """Reads rows of one table for one model.

    Args:
        schema: Of the model.
        table: As read, with missing words as they stand there.
        series: The rows in series; None unless the model reads windows of rows.

    Raises:
        NoKnownFeature: No column is an input of the model.
        InvalidRecord: A column cannot be the input that it is named after.
    """

    def __init__(self, schema: DataSchema, table: Table, series: FileSeries | None) -> None:
        self._schema = schema
        self._steps = schema.input.window or 1
        self._width = schema.input.flat_width // self._steps
        self._series = series
        self._rows = table.rows
        self._reading = Reading(np.empty((0, self._steps, self._width)), [])
        self._fill: list[Callable[[Indices, Raw], None]] = []
        self._symbols: list[str | None] | None = None
        self._symbol_codes: NDArray[np.int64] | None = None
        self.warnings: list[str] = []
        try:
            self._take_columns(table)
        except (InvalidRecord, NoKnownFeature) as refusal:
            raise with_inputs(schema, refusal) from None

    def read(self, rows: Indices) -> AdaptedRows:
        """Read the rows of these indices.

        Raises:
            InvalidRecord: A cell is no number; the message names its row.
        """
        n = len(rows)
        whole = np.ones(n, dtype=np.bool_)
        if self._series is not None:
            windows, whole = self._series.windows(rows, self._steps)
            raw = self._raw(windows.ravel()).reshape(n, self._steps, self._width)
        elif self._steps > 1:
            raw = self._raw(rows)
        else:
            raw = self._raw(rows).reshape(n, 1, self._width)
        reading = replace(self._reading, values=raw, symbols=self._symbols_of(rows))
        known = np.asarray(np.isfinite(raw).any(axis=(1, 2)))
        request = Records([], is_list=True, mode="window" if self._steps > 1 else "batch")
        return AdaptedRows(scaled(self._schema, request, reading), known, whole)

    def _raw(self, rows: Indices) -> Raw:
        """[n, width] float64 values, [n, steps, width] where every row is a sequence; NaN: unknown."""
        sequences = self._series is None and self._steps > 1
        between = (self._steps,) if sequences else ()
        values = np.full((len(rows), *between, self._width), np.nan)
        for fill in self._fill:
            fill(rows, values)
        return values

    def _symbols_of(self, rows: Indices) -> list[str | None]:
        if self._symbols is None or self._symbol_codes is None:
            return [None] * len(rows)
        return [self._symbols[code] for code in self._symbol_codes[rows]]

    def _take_columns(self, table: Table) -> None:
        """Find what every column is to the model."""
        schema, names = self._schema, RecordNames(self._schema)
        table = self._numbers_read(table, names)
        # Exact names come last, so that they win over aliases and other spellings.
        for name, column in sorted(table.columns.items(), key=lambda item: item[0] in names.exact):
            place, steps = names.place_of(name), names.steps_of(name)
            if place is not None:
                spec, start = schema.columns[place.column], schema.scaler.starts[place.column]
                self._take(
                    spec, name, column, start + (place.step or 0), one=place.step is not None
                )
            elif steps and not isinstance(column, TextColumn) and column.ndim == 2:
                self._take_steps(name, column, steps)
            elif name.lower() in SYMBOL_NAMES and schema.symbols:
                self._take_symbols(names.symbols, column)
            elif len(self._reading.ignored) < MAX_LISTED:
                self._reading.ignored[shown(name, 80)] = why_ignored(schema, name)
        if not self._fill:
            ignored = ", ".join(list(self._reading.ignored)[:8])
            raise NoKnownFeature(f"the file holds none of the model's inputs (it has: {ignored})")

    def _numbers_read(self, table: Table, names: RecordNames) -> Table:
        """The table with columns of numbers in other spellings read, where the model knows no mark itself."""
        wanted = {}
        for name, column in table.columns.items():
            place = names.place_of(name)
            spec = None if place is None else self._schema.columns[place.column]
            if spec is None or spec.kind == "levels":
                continue
            if isinstance(column, TextColumn) and spec.decimal is None:
                wanted[name] = column
            elif not isinstance(column, TextColumn) and spec.decimal == ",":
                self.warnings.append(
                    f"'{name}' is read with decimal points here; the model learnt it with decimal commas"
                )
        read = with_numbers(Table(dict(wanted), table.rows), (), list(wanted))
        self.warnings += read.remarks
        self.warnings += [
            f"'{name}' is read with decimal {'commas' if mark == ',' else 'points'}"
            for name, mark in read.decimals.items()
        ]
        return replace(table, columns={**table.columns, **read.columns})

    def _take(self, spec: ColumnSpec, name: str, column: Column, start: int, *, one: bool) -> None:
        if spec.kind == "levels":
            self._take_levels(spec, column, start)
        elif isinstance(column, TextColumn):
            if spec.kind == "vector" and not one:
                raise InvalidRecord(
                    f"'{name}' is text, and the model reads a list of {spec.width} numbers",
                    hint="give a list, or one column a step",
                )
            self._take_numbers(spec, self._of_texts(spec, name, column), start)
        elif column.ndim == 1 and (spec.kind != "vector" or one or spec.width == 1):
            self._take_numbers(spec, column, start)
        elif column.ndim == 2 and spec.kind == "vector" and not one:
            self._take_vector(spec, name, column, start)
        elif column.ndim == 2 and self._series is None and self._steps > 1:
            self._take_channel(column, start)
        else:
            given = "one number" if column.ndim == 1 else f"{column.shape[1:]} numbers"
            raise InvalidRecord(
                f"'{name}' holds {given} a row, the model reads {spec.width}",
                hint="give it in the form of the training data",
            )

    def _of_texts(self, spec: ColumnSpec, name: str, column: TextColumn) -> Numbers:
        """[rows] the numbers that texts mean, each as in a record; a few that mean none count as unknown."""
        values = np.full(len(column.levels) + 1, np.nan)
        odd: dict[int, InvalidRecord] = {}
        for code, text in enumerate(column.levels):
            try:
                known = not is_gap(text.strip())
                values[code] = finite_number(name, text, spec.decimal) if known else np.nan
            except InvalidRecord as refusal:
                odd[code] = refusal
        if odd:
            cells = np.flatnonzero(np.isin(column.codes, list(odd)))
            first = int(cells[0])
            worst = odd[int(column.codes[first])]
            told = f"row {first}: {worst.message}"
            if len(cells) > (1 - MOSTLY) * (column.codes >= 0).sum():
                raise InvalidRecord(told, hint=worst.hint)
            self.warnings.append(f"{told}; {len(cells)} such cells of '{name}' count as unknown")
        return values[column.codes]

    def _take_numbers(self, spec: ColumnSpec, column: Numbers, start: int) -> None:
        infinite = int(np.isinf(column).sum())
        if infinite:
            self._reading.warn(f"'{spec.name}': {infinite} infinite values count as unknown")
        if spec.medians is not None:
            bad = int((column <= 0).sum())
            if bad:
                self._reading.invalid[spec.name] = None
                self._reading.warn(f"'{spec.name}' must be above 0: {bad} values count as missing")

        def fill(rows: Indices, values: Raw) -> None:
            numbers = np.asarray(column[rows], dtype=np.float64)
            known = np.isfinite(numbers)
            if spec.medians is not None:
                known &= numbers > 0
            values[known, ..., start] = (
                numbers[known] if values.ndim == 2 else numbers[known][:, None]
            )

        self._fill.append(fill)

    def _take_levels(self, spec: ColumnSpec, column: Column, start: int) -> None:
        levels = spec.levels or ()
        codes, texts = _as_texts(column)
        hits = np.full((len(texts) + 1, len(levels)), np.nan)
        for code, text in enumerate(texts):
            if text in levels:
                hits[code] = [float(level == text) for level in levels]
            elif not is_gap(text):
                hits[code] = 0.0
                self._reading.invalid[spec.name] = None
                known = ", ".join(levels[:8])
                self._reading.warn(
                    f"'{spec.name}' has no category '{shown(text, 40)}' (known: {known})"
                )

        def fill(rows: Indices, values: Raw) -> None:
            cells = hits[codes[rows]]
            given = np.isfinite(cells).all(axis=1)
            width = slice(start, start + len(levels))
            values[given, ..., width] = cells[given] if values.ndim == 2 else cells[given][:, None]

        self._fill.append(fill)

    def _take_vector(self, spec: ColumnSpec, name: str, column: Numbers, start: int) -> None:
        """The last values of a list, or a shorter one at the end of the steps."""
        given = column.shape[1]
        if given > spec.width:
            self._reading.warn(f"only the last {spec.width} of {given} values of '{name}' are used")
        elif given < spec.width:
            self._reading.warn(
                f"{spec.width - given} of {spec.width} steps of '{name}' were imputed"
            )
        used = min(given, spec.width)

        def fill(rows: Indices, values: Raw) -> None:
            numbers = np.asarray(column[rows][:, given - used :], dtype=np.float64)
            cells = values[:, start + spec.width - used : start + spec.width]
            np.copyto(cells, numbers, where=np.isfinite(numbers))

        self._fill.append(fill)

    def _take_steps(self, name: str, column: Numbers, steps: Mapping[int, int]) -> None:
        """A list whose steps are inputs of their own."""
        if column.shape[1] <= max(steps):
            raise InvalidRecord(
                f"'{name}' has {column.shape[1]} values, the model reads {max(steps) + 1}",
                hint="give the whole list, null where unknown",
            )
        for step, index in steps.items():
            spec = self._schema.columns[index]
            self._take_numbers(spec, column[:, step], self._schema.scaler.starts[index])

    def _take_channel(self, column: Numbers, start: int) -> None:
        """One channel of rows that are sequences; shorter ones end where the sequences end."""
        given = column.shape[1]
        if given > self._steps:
            self._reading.warn(f"only the last {self._steps} rows of a longer window are used")
        elif given < self._steps:
            self._reading.warn(f"windows shorter than {self._steps} rows are padded with the mean")
        used = min(given, self._steps)

        def fill(rows: Indices, values: Raw) -> None:
            numbers = np.asarray(column[rows][:, given - used :], dtype=np.float64)
            cells = values[:, self._steps - used :, start]
            np.copyto(cells, numbers, where=np.isfinite(numbers))

        self._fill.append(fill)

    def _take_symbols(self, known: Mapping[str, str], column: Column) -> None:
        codes, texts = _as_texts(column, digits=17)
        self._symbols = [
            None if is_gap(text) else known_symbol(known, self._reading, text) for text in texts
        ]
        self._symbols.append(None)
        self._symbol_codes = codes


def _as_texts(column: Column, digits: int = 0) -> tuple[NDArray[np.int64], list[str]]:
    """[rows] index into the distinct texts of a column, -1 where missing, and these texts without blanks."""
    if isinstance(column, TextColumn):
        return column.codes.astype(np.int64), [level.strip() for level in column.levels]
    numbers = np.asarray(column, dtype=np.float64).reshape(len(column), -1)[:, 0]
    present = np.isfinite(numbers)
    values, inverse = np.unique(numbers[present], return_inverse=True)
    codes = np.full(len(numbers), -1, dtype=np.int64)
    codes[present] = inverse
    shown_as = [f"{v:.{digits}g}" if digits else number_text(v) for v in values.tolist()]
    return codes, shown_as
