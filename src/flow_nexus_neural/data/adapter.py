"""Turns records to predict for into network input: finds columns by name, imputes, scales and reports it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import (
    PRICE_NAMES,
    SYMBOL_NAMES,
    VOLUME_NAMES,
    label_like,
    time_like,
)
from flow_nexus_neural.data.example import example_record, inputs_in_order
from flow_nexus_neural.data.json_text import json_kind
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.outcomes import outcome_rank
from flow_nexus_neural.data.record_numbers import finite_number, finite_numbers
from flow_nexus_neural.data.records import Records, Row, parse_records
from flow_nexus_neural.data.schema import Adapted, DataSchema
from flow_nexus_neural.data.vectors import step_of
from flow_nexus_neural.errors import InvalidRecord, NoKnownFeature

MAX_VALUES = 16 * 1024 * 1024
MAX_GIVEN = 65_536
MAX_LISTED = 64


@dataclass(frozen=True)
class Place:
    """The column that a name of a record stands for, and the step if it is one value of a vector."""

    column: int
    step: int | None = None


@dataclass
class Reading:
    """The records as far as they have been read.

    Attributes:
        values: [records, rows, width] float64 in stored order, NaN where nothing was given.
        symbols: Symbol of every record, as given.
        ignored: Names that were not used, with the reason.
        invalid: Columns with a value that their scaling cannot use: a price of 0, an unknown category.
        warnings: In the order of their first occurrence.
        outcomes: Fields of the last row of each record that are outcomes, by record.
    """

    values: NDArray[np.float64]
    symbols: list[str | None]
    ignored: dict[str, str] = field(default_factory=dict)
    invalid: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    outcomes: dict[int, dict[str, object]] = field(default_factory=dict)

    def warn(self, sentence: str) -> None:
        """Add a warning, unless it is there already or there are too many."""
        if len(self.warnings) < MAX_LISTED:
            self.warnings[sentence] = None


def with_inputs(
    schema: DataSchema, refusal: InvalidRecord | NoKnownFeature
) -> InvalidRecord | NoKnownFeature:
    """A refusal that names the model's inputs and shows a record that would be accepted."""
    inputs = f"inputs: {inputs_in_order(schema)}; for example {example_record(schema)}"
    hint = f"{refusal.hint}; {inputs}" if refusal.hint else inputs
    return type(refusal)(refusal.message, hint=hint)


def adapt(schema: DataSchema, input_data: object) -> Adapted:
    """Read records to predict for.

    Args:
        schema: Of the model that predicts.
        input_data: JSON text or values: a record, a list of records, `{"window": [...]}`, a list of numbers
            in stored order, or a list of such lists.

    Raises:
        InvalidRecord: If the input is not JSON, not finite, too large, or of the wrong width.
        NoKnownFeature: If a record holds none of the model's features.
        Both errors name the model's inputs and show a record that would be accepted.
    """
    try:
        return _adapt(schema, input_data)
    except (InvalidRecord, NoKnownFeature) as refusal:
        raise with_inputs(schema, refusal) from None


def _adapt(schema: DataSchema, input_data: object) -> Adapted:
    request = parse_records(schema, input_data)
    steps = schema.input.window or 1
    if len(request.rows) * schema.input.flat_width > MAX_VALUES:
        raise InvalidRecord(
            f"{len(request.rows)} records of {schema.input.flat_width} inputs are too many at once",
            hint=f"send at most {max(1, MAX_VALUES // schema.input.flat_width)} records",
        )
    width = schema.input.flat_width // steps
    reading = Reading(
        np.full((len(request.rows), steps, width), np.nan), [None] * len(request.rows)
    )
    names = RecordNames(schema)
    for index, given in enumerate(request.rows):
        rows = given[-steps:]
        if len(given) > steps:
            reading.warn(f"only the last {steps} rows of a longer window are used")
        elif len(given) < steps and isinstance(given[0], Mapping):
            apart = request.mode == "batch" and len(request.rows) > 1
            whole = '; one window of many rows is {"window": [...]}' if apart else ""
            reading.warn(f"windows shorter than {steps} rows are padded with the mean{whole}")
        for offset, row in enumerate(rows, start=steps - len(rows)):
            _read_row(schema, names, reading, row, (index, offset))
    _require_known(reading)
    return scaled(schema, request, reading)


class RecordNames:
    """All names under which a record may give the columns of a model."""

    def __init__(self, schema: DataSchema) -> None:
        self.exact = {spec.name: Place(index) for index, spec in enumerate(schema.columns)}
        self.folded: dict[str, Place] = {}
        for name, place in self.exact.items():
            self.folded.setdefault(name.lower(), place)
        for same in (PRICE_NAMES, VOLUME_NAMES):
            known = next((self.folded[name] for name in same if name in self.folded), None)
            if known is not None:
                self.folded.update({name: self.folded.get(name, known) for name in same})
        self.symbols: dict[str, str] = {}
        for symbol in schema.symbols:
            self.symbols.setdefault(symbol.lower(), symbol)
        self._columns = schema.columns
        self._dissolved: dict[str, dict[int, int]] = {}
        for index, spec in enumerate(schema.columns):
            split = step_of(spec.name) if spec.name.endswith("]") else None
            if split is not None:
                self._dissolved.setdefault(split[0].lower(), {})[split[1]] = index

    def place_of(self, name: str) -> Place | None:
        """The column that a name stands for; None if the model has none of this name."""
        place = self.exact.get(name) or self.folded.get(name.lower())
        split = step_of(name) if place is None else None
        if split is None:
            return place
        vector = self.folded.get(split[0].lower())
        if vector is None or self._columns[vector.column].kind != "vector":
            return None
        within = split[1] < self._columns[vector.column].width
        return Place(vector.column, split[1]) if within else None

    def steps_of(self, name: str) -> dict[int, int]:
        """Column by step, for a list whose steps are columns of their own; empty for any other name."""
        return self._dissolved.get(name.lower(), {})

    def lone_list(self, row: Mapping[str, object]) -> list[object] | None:
        """The list of all inputs in order in `{"features": [...]}`; None if the record names any column."""
        values = row.get("features")
        known = (self.place_of(str(name)) or self.steps_of(str(name)) for name in row)
        if not isinstance(values, list) or any(known):
            return None
        return values


def _read_row(
    schema: DataSchema, names: RecordNames, reading: Reading, row: Row, at: tuple[int, int]
) -> None:
    if isinstance(row, list):
        _read_positional(reading, row, at)
        return
    inputs = names.lone_list(row)
    if inputs is not None:
        _read_positional(reading, inputs, at)
        row = {name: value for name, value in row.items() if name != "features"}
    # Exact names are read last, so that they win over aliases and other spellings.
    for name, value in sorted(row.items(), key=lambda item: item[0] in names.exact):
        place = names.place_of(str(name))
        if place is not None:
            spec, start = schema.columns[place.column], schema.scaler.starts[place.column]
            cell = reading.values[at][start : start + spec.width]
            _read_value(spec, place.step, reading, value, cell)
        elif isinstance(value, list) and (steps := names.steps_of(str(name))):
            _read_steps(schema, steps, reading.values[at], str(name), value)
        elif str(name).lower() in SYMBOL_NAMES and schema.symbols:
            reading.symbols[at[0]] = known_symbol(names.symbols, reading, value)
        else:
            if outcome_rank(schema, str(name)) is not None and at[1] == reading.values.shape[1] - 1:
                reading.outcomes.setdefault(at[0], {})[str(name)] = value
            _ignore(schema, reading, str(name))


def _ignore(schema: DataSchema, reading: Reading, name: str) -> None:
    told = shown(name, 80)
    # Of many rows the first says it for all.
    if len(reading.ignored) < MAX_LISTED and told not in reading.ignored:
        reading.ignored[told] = why_ignored(schema, name)


def shown(text: str, length: int) -> str:
    """A text of the caller, cut to a length and without lone surrogates, which JSON cannot carry."""
    return text[:length].encode("utf-8", "replace").decode()


def why_ignored(schema: DataSchema, name: str) -> str:
    """Why an input of this name is not used."""
    lowered = name.lower()
    outcomes = {outcome.lower() for outcome in schema.outcome_names}
    if label_like(name) or lowered in outcomes or name == schema.target_name:
        return "label-like"
    if time_like(name):
        return "time"
    if lowered in SYMBOL_NAMES:
        return "the model knows no symbols"
    return "unknown"


def known_symbol(symbols: Mapping[str, str], reading: Reading, value: object) -> str | None:
    """The model's symbol that a record names, in any case; `symbols` has them by their lower case."""
    if value is None:
        return None
    if isinstance(value, (list, Mapping)):
        raise InvalidRecord(f"the symbol is {json_kind(value)}", hint="give a text")
    text = shown(str(value).strip(), 40)
    known = symbols.get(text.lower())
    if known is None:
        reading.warn(f"symbol '{text}' is unknown: pooled statistics are used")
    return known or text


def _read_value(
    spec: ColumnSpec,
    step: int | None,
    reading: Reading,
    value: object,
    cell: NDArray[np.float64],
) -> None:
    if value is None or (isinstance(value, str) and not value.strip()):
        return  # missing, as an empty cell of a file is
    if step is not None:
        cell[step] = finite_number(spec.name, value, spec.decimal)
    elif spec.kind == "vector":
        _read_vector(spec, reading, value, cell)
    elif spec.kind == "levels":
        _read_level(spec, reading, value, cell)
    else:
        number = finite_number(spec.name, value, spec.decimal)
        if spec.medians is not None and number <= 0:
            reading.invalid[spec.name] = None
            reading.warn(f"'{spec.name}' must be above 0: {number:g} counts as missing")
            number = math.nan
        cell[0] = number


def _read_steps(
    schema: DataSchema,
    steps: Mapping[int, int],
    row: NDArray[np.float64],
    name: str,
    values: Sequence[object],
) -> None:
    if len(values) <= max(steps):
        raise InvalidRecord(
            f"'{name}' has {len(values)} values, the model reads {max(steps) + 1}",
            hint="give the whole list, null where unknown",
        )
    for step, column in steps.items():
        row[schema.scaler.starts[column]] = finite_number(name, values[step])


def _read_vector(
    spec: ColumnSpec, reading: Reading, value: object, cell: NDArray[np.float64]
) -> None:
    if not isinstance(value, list) or len(value) > MAX_GIVEN:
        raise InvalidRecord(
            f"'{spec.name}' is no list of numbers",
            hint=f"give up to {spec.width} numbers, the most recent last",
        )
    if len(value) > spec.width:
        warning = f"only the last {spec.width} of {len(value)} values of '{spec.name}' are used"
        reading.warn(warning)
    elif value and len(value) < spec.width:
        warning = f"{spec.width - len(value)} of {spec.width} steps of '{spec.name}' were imputed"
        reading.warn(warning)
    numbers = finite_numbers(spec.name, value)[-spec.width :]
    if len(numbers):
        cell[-len(numbers) :] = numbers


def _read_level(
    spec: ColumnSpec, reading: Reading, value: object, cell: NDArray[np.float64]
) -> None:
    if isinstance(value, (list, Mapping)):
        raise InvalidRecord(
            f"'{spec.name}' is {json_kind(value)}", hint="give one text for a category"
        )
    text = str(value).strip()
    levels = spec.levels or ()
    cell[:] = [float(level == text) for level in levels]
    if text not in levels:
        reading.invalid[spec.name] = None
        known = ", ".join(levels[:8])
        reading.warn(f"'{spec.name}' has no category '{shown(text, 40)}' (known: {known})")


def _read_positional(reading: Reading, row: list[object], at: tuple[int, int]) -> None:
    steps, width = reading.values.shape[1:]
    if len(row) == width * steps and len(row) != width:
        # A whole sequence in stored order.
        reading.values[at[0]] = finite_numbers("input", row).reshape(steps, width)
        return
    if len(row) != width:
        whole = f" ({steps} rows of {width})" if steps > 1 else ""
        raise InvalidRecord(
            f"a record has {len(row)} numbers, the model reads {width * steps}{whole}",
            hint="give the inputs in this order",
        )
    reading.values[at] = finite_numbers("input", row)


def _require_known(reading: Reading) -> None:
    empty = np.flatnonzero(~np.isfinite(reading.values).any(axis=(1, 2)))
    if len(empty):
        ignored = ", ".join(list(reading.ignored)[:8]) or "nothing usable"
        raise NoKnownFeature(
            f"record {empty[0]} gives none of the model's inputs (it has: {ignored})"
        )


def scaled(schema: DataSchema, request: Records, reading: Reading) -> Adapted:
    """What was read of records as network input, with the report of it."""
    given = np.isfinite(reading.values)
    steps = given.shape[1]
    symbols = [symbol for symbol in reading.symbols for _ in range(steps)]
    x, outside = schema.scaler.scale(reading.values.reshape(len(symbols), -1), symbols)
    starts = schema.scaler.starts
    some = np.logical_or.reduceat(given.any(axis=(0, 1)), starts)
    every = np.logical_and.reduceat(given.all(axis=(0, 1)), starts)
    beyond = np.logical_or.reduceat(outside.any(axis=0), starts)
    names = [spec.name for spec in schema.columns]
    mapped = [names[column] for column in np.flatnonzero(some)]
    imputed = [
        _missing_name(schema.columns[column], given[:, :, starts[column] :])
        for column in np.flatnonzero(~every)
    ]
    if any(symbol is not None for symbol in reading.symbols):
        mapped.insert(0, "symbol")
    elif any(spec.medians is not None for spec in schema.columns) and len(schema.symbols) > 1:
        reading.warn("no symbol was given: pooled statistics are used for prices")
    return Adapted(
        x=x.reshape(len(given), *schema.input.row_shape),
        is_list=request.is_list,
        symbols=reading.symbols,
        coverage=given.sum(axis=(1, 2)) / schema.input.flat_width,
        familiar=(given & ~outside.reshape(given.shape)).sum(axis=(1, 2)) / schema.input.flat_width,
        mode=request.mode,
        mapped=mapped,
        imputed=imputed,
        ignored=[{"name": name, "reason": why} for name, why in reading.ignored.items()],
        ood=list(reading.invalid | {names[column]: None for column in np.flatnonzero(beyond)}),
        clipped=int(outside.sum()),
        warnings=list(reading.warnings),
        outcomes=reading.outcomes,
    )


def _missing_name(spec: ColumnSpec, given: NDArray[np.bool_]) -> str:
    """How to report a column that some record lacks: its name, with the missing steps of a vector.

    Args:
        spec: The column.
        given: [records, rows, width or more] bool, the column's own values first.
    """
    if spec.kind != "vector":
        return spec.name
    missing = np.flatnonzero(~given[:, :, : spec.width].all(axis=(0, 1)))
    if len(missing) == spec.width:
        return spec.name
    edges = np.flatnonzero(np.diff(missing) > 1)
    starts = missing[np.r_[0, edges + 1]]
    ends = missing[np.r_[edges, len(missing) - 1]]
    runs = [
        f"{first}..{last}" if last > first else f"{first}"
        for first, last in zip(starts, ends, strict=True)
    ]
    return f"{spec.name}[{','.join(runs[:8])}]"
