"""The labels of a file's rows, where it holds the column that the model predicts."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_names import PRICE_NAMES, first_named
from flow_nexus_neural.data.file_series import FileSeries
from flow_nexus_neural.data.record_numbers import finite_number
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.data.table import Column, Table, TextColumn, number_text, rows_of
from flow_nexus_neural.data.written_numbers import is_gap, with_numbers
from flow_nexus_neural.errors import InvalidRecord
from flow_nexus_neural.vocabulary import Label

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FileLabels:
    """The labels of a file's rows.

    Attributes:
        column: Where they come from.
        values: [rows] float64 class index, or value in the target's unit; NaN where unknown.
        warnings: For the caller.
    """

    column: str
    values: Floats
    warnings: list[str]


def label_column(schema: DataSchema, table: Table) -> str | None:
    """The column from which the labels of the rows can be told; None where the file has none."""
    if schema.target_name is None:
        return first_named(table.columns, PRICE_NAMES)
    return first_named(table.columns, (schema.target_name, schema.target_name.lower()))


def labels_in_file(
    schema: DataSchema, table: Table, series: FileSeries | None, shift: int
) -> FileLabels | None:
    """The labels of a file's rows; None where it does not hold them.

    Args:
        schema: Of the model.
        table: The file's rows.
        series: Their series; needed for labels of later rows.
        shift: Rows ahead from which a label is taken.
    """
    name = label_column(schema, table)
    if name is None or (shift and series is None):
        return None
    warnings: list[str] = []
    if schema.target_name is None:
        values = _directions(table.columns[name], series, shift)
    elif schema.classes is not None:
        values = _classes(schema.classes, table.columns[name], name, warnings)
    else:
        values = _numbers(table.columns[name], name, warnings)
    if values is None:
        return None
    if shift and series is not None and schema.target_name is not None:
        ahead = series.ahead(shift)
        values = np.where(ahead >= 0, values[ahead], np.nan)
    return FileLabels(name, values, warnings)


def _directions(column: Column, series: FileSeries | None, shift: int) -> Floats | None:
    """Whether the price is higher `shift` rows later."""
    if series is None or isinstance(column, TextColumn) or column.ndim != 1:
        return None
    ahead = series.ahead(shift)
    price = np.asarray(column, dtype=np.float64)
    known = (ahead >= 0) & np.isfinite(price) & np.isfinite(price[ahead])
    return np.where(known, (price[ahead] > price).astype(np.float64), np.nan)


def _classes(classes: list[Label], column: Column, name: str, warnings: list[str]) -> Floats | None:
    index = {_text(label): place for place, label in enumerate(classes)}
    if isinstance(column, TextColumn):
        texts = [level.strip() for level in column.levels]
        codes = column.codes.astype(np.int64)
    elif column.ndim == 1:
        numbers = np.asarray(column, dtype=np.float64)
        values, codes = np.unique(numbers, return_inverse=True)
        texts = ["" if np.isnan(value) else number_text(value) for value in values.tolist()]
    else:
        return None
    unknown = [text for text in texts if text and _text(text) not in index and not is_gap(text)]
    if unknown:
        warnings.append(
            f"'{name}' holds {len(unknown)} classes that the model does not know, such as"
            f" '{unknown[0][:40]}': their rows are not measured"
        )
    of_text = [float(index.get(_text(text), np.nan)) for text in texts]
    return np.array([*of_text, np.nan])[codes]


def _text(label: Label) -> str:
    """One text for a class however it is written: 1, 1.0 and `1` are one class, as true and `True` are."""
    text = str(label).strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    try:
        return number_text(float(text))
    except ValueError:
        return text


def _numbers(column: Column, name: str, warnings: list[str]) -> Floats | None:
    column = with_numbers(Table({name: column}, rows_of(column)), (), (name,)).columns[name]
    if not isinstance(column, TextColumn):
        values = np.asarray(column, dtype=np.float64)
        return np.where(np.isfinite(values), values, np.nan) if values.ndim == 1 else None
    of_text = np.full(len(column.levels) + 1, np.nan)
    odd: list[str] = []
    for code, text in enumerate(column.levels):
        try:
            of_text[code] = np.nan if is_gap(text.strip()) else finite_number(name, text)
        except InvalidRecord:
            odd.append(text)
    if odd:
        warnings.append(
            f"'{name}' holds texts that are no numbers, such as '{odd[0][:40]}': their rows are not measured"
        )
    return of_text[column.codes]
