"""JSON forms of data: X with labels, records, columns with rows, and clients.

The same forms are read inline from a call and from a `.json` file.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.column_builder import blocks_of_records, columns_from_blocks
from flow_nexus_neural.data.json_forms import ColumnsByRow, Form, known_form
from flow_nexus_neural.data.json_text import FORMS, json_kind
from flow_nexus_neural.data.labelled_arrays import (
    INPUT_KEYS,
    LABEL_KEYS,
    columns_of_matrix,
    flattening_note,
    label_key,
    labels_column,
    one_label_per_row,
    own_parts,
)
from flow_nexus_neural.data.memory import GrowingArray, Limits, MemoryBudget
from flow_nexus_neural.data.table import (
    Column,
    Read,
    Table,
    TextColumn,
    bytes_of,
    check_rows,
    is_missing,
    number_text,
    table_from,
)
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

BLOCK_CELLS = 100_000
MAX_CLIENTS = 10_000


def table_of(value: object, subject: str, limits: Limits) -> Read:
    """Read any of the JSON forms.

    Returns:
        The table, and the name of its label column when the form has one.

    Raises:
        InvalidDataset: If the value has none of the forms, is ragged, or has no labels.
        LimitExceeded: If it is too large.
    """
    form = known_form(value, subject)
    if isinstance(form.value, ColumnsByRow):
        columns = columns_from_blocks(form.value.blocks, subject, limits)
        table, label = table_from(columns, subject), form.target
    else:
        table, label = _plain_form(form.value, subject, limits)
    return _completed(table, form, subject, limits), label or form.target


def _completed(table: Table, form: Form, subject: str, limits: Limits) -> Table:
    """The table with the labels of its rows as a column, and without columns that only number them."""
    if not (form.index or form.without or form.notes):
        return table
    index: dict[str, Column] = {}
    if form.index is not None:
        name, labels = form.index
        index = columns_from_blocks(lambda: [{name: labels}], subject, limits)
    kept = {name: column for name, column in table.columns.items() if name not in form.without}
    completed = table_from({**index, **kept}, subject, channels=table.channels)
    return replace(completed, remarks=(*table.remarks, *form.notes))


def _plain_form(value: object, subject: str, limits: Limits) -> Read:
    if isinstance(value, list):
        return _records(value, subject, limits), None
    if not isinstance(value, dict):
        raise InvalidDataset(f"{subject} is {json_kind(value)}", hint=FORMS)
    if isinstance(value.get("clients"), dict):
        _refuse_others(value, ("clients",), subject)
        return _clients(value["clients"], subject, limits)
    if isinstance(value.get("columns"), list) and isinstance(value.get("rows"), list):
        _refuse_others(value, ("columns", "rows"), subject)
        return _rows(value["columns"], value["rows"], subject, limits), None
    parts = own_parts(value)
    if parts:
        return _own_split(value, parts, subject, limits)
    return _arrays_or_columns(value, subject, limits)


def _arrays_or_columns(value: Mapping[str, object], subject: str, limits: Limits) -> Read:
    inputs = next((key for key in INPUT_KEYS if key in value), None)
    if inputs is None:
        if value and all(isinstance(column, list) for column in value.values()):
            return _column_lists(value, subject, limits), None
        keys = ", ".join(sorted(map(str, value))[:8]) or "none"
        raise InvalidDataset(f"{subject} has no inputs (keys: {keys})", hint=FORMS)
    label = next((key for key in LABEL_KEYS if key in value), "y")
    _refuse_others(value, (inputs, label, "feature_names"), subject)
    rows = value[inputs]
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        return _labelled_records(value, inputs, subject, limits)
    return _inputs_and_labels(value, inputs, subject, limits)


def _own_split(
    value: Mapping[str, object], parts: Mapping[str, tuple[str, str]], subject: str, limits: Limits
) -> Read:
    """Inputs and labels that the caller has divided into training and test rows already."""
    named = {"feature_names": value["feature_names"]} if "feature_names" in value else {}
    _refuse_others(value, [*named, *(key for keys in parts.values() for key in keys)], subject)
    joined = JoinedLimits(subject, limits)
    tables: dict[str, Table] = {}
    for part, (inputs, labels) in parts.items():
        form = {"X": value[inputs], "y": value[labels], **named}
        tables[part], _ = _plain_form(form, f"{subject}, {part}", limits)
        joined.add(tables[part])
    return stack_parts(tables, subject), "y"


def stack_parts(tables: Mapping[str, Table], subject: str) -> Table:
    """Join the tables of training, validation and test rows; the last are marked, the others are training.

    Raises:
        InvalidDataset: If their columns differ.
    """
    table = stack(list(tables.values()), list(tables), subject)
    remarks = table.remarks
    if "validation" in tables:
        remarks = (
            *remarks,
            "the validation rows given are training rows here, of which own ones are cut",
        )
    if "test" not in tables:
        return replace(table, remarks=remarks)
    in_test = np.repeat([part == "test" for part in tables], [t.rows for t in tables.values()])
    return replace(table, remarks=remarks, in_test=in_test)


def _refuse_others(value: Mapping[str, object], known: Sequence[str], subject: str) -> None:
    """Refuse keys that would not be used: misspelt ones, and labels that are given twice."""
    others = [str(key) for key in value if key not in known]
    if others:
        shown = ", ".join(f"'{key[:40]}'" for key in others[:8])
        raise InvalidDataset(
            f"{subject} holds {shown}, which has no use beside {', '.join(known)}",
            hint=f"leave it out; {FORMS}",
        )


def _records(value: list[object], subject: str, limits: Limits) -> Table:
    if not value:
        raise InvalidDataset(f"{subject} is an empty list", hint=FORMS)
    odd = next((index for index, record in enumerate(value) if not isinstance(record, dict)), None)
    if odd is not None:
        raise InvalidDataset(
            f"{subject}: item {odd} is {json_kind(value[odd])}, not a record", hint=FORMS
        )

    def records() -> Iterator[tuple[Mapping[str, object], int]]:
        return ((record, 0) for record in value if isinstance(record, dict))

    columns = columns_from_blocks(lambda: blocks_of_records(records()), subject, limits)
    return table_from(columns, subject)


def _rows(names: list[object], rows: list[object], subject: str, limits: Limits) -> Table:
    labels = [str(name) for name in names]
    if len(set(labels)) != len(labels):
        raise InvalidDataset(f"{subject} names a column twice", hint="name every column once")
    check_rows(len(rows), limits.max_rows, subject)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(labels):
            size = len(row) if isinstance(row, list) else "no"
            raise InvalidDataset(
                f"{subject}: row {index} has {size} values, there are {len(labels)} columns",
                hint="give every row one value per column",
            )

    def records() -> Iterator[tuple[Mapping[str, object], int]]:
        # Made one by one: records take several times the memory of rows.
        return ((dict(zip(labels, row, strict=True)), 0) for row in rows if isinstance(row, list))

    columns = columns_from_blocks(lambda: blocks_of_records(records()), subject, limits)
    return table_from(columns, subject)


def _column_lists(value: Mapping[str, object], subject: str, limits: Limits) -> Table:
    block = {str(name): column for name, column in value.items() if isinstance(column, list)}
    if len({len(column) for column in block.values()}) > 1:
        sizes = ", ".join(f"{name} {len(column)}" for name, column in list(block.items())[:8])
        raise InvalidDataset(
            f"{subject}: columns have different lengths ({sizes})",
            hint="every column needs one value per row",
        )
    return table_from(columns_from_blocks(lambda: [block], subject, limits), subject)


def _labelled_records(
    value: Mapping[str, object], inputs: str, subject: str, limits: Limits
) -> Read:
    records = value[inputs]
    table = _records(records if isinstance(records, list) else [], subject, limits)
    if not any(key in value for key in LABEL_KEYS):
        return table, None
    return _with_labels(table.columns, value, inputs, subject)


def _inputs_and_labels(
    value: Mapping[str, object], inputs: str, subject: str, limits: Limits
) -> Read:
    array = _array(value[inputs], inputs, subject, limits)
    names = value.get("feature_names")
    if names is not None and not isinstance(names, list):
        raise InvalidDataset(f"{subject}: feature_names is not a list", hint=FORMS)
    columns = columns_of_matrix(array, None if names is None else [str(n) for n in names], subject)
    label: str | None = None
    if limits.labels_needed or any(key in value for key in LABEL_KEYS):
        table, label = _with_labels(columns, value, inputs, subject, channels=array.ndim == 3)
    else:
        table = table_from(columns, subject, channels=array.ndim == 3)
    return replace(table, remarks=(*table.remarks, *flattening_note(array.shape))), label


def _with_labels(
    columns: dict[str, Column],
    value: Mapping[str, object],
    inputs: str,
    subject: str,
    *,
    channels: bool = False,
) -> tuple[Table, str]:
    key = label_key(value, inputs, subject)
    labels = value[key]
    if not isinstance(labels, list):
        raise InvalidDataset(f"{subject}: '{key}' is not a list", hint=FORMS)
    name = key
    while name in columns:
        name = f"{name}_label"
    labelled = {**columns, name: labels_column(one_label_per_row(labels, key, subject), subject)}
    return table_from(labelled, subject, channels=channels), name


def _array(value: object, key: str, subject: str, limits: Limits) -> NDArray[np.float64]:
    if not isinstance(value, list) or not value:
        raise InvalidDataset(f"{subject}: '{key}' is empty or not a list", hint=FORMS)
    check_rows(len(value), limits.max_rows, subject)
    width = len(value[0]) if isinstance(value[0], list) else 1
    height = max(1, BLOCK_CELLS // max(1, width))
    array = GrowingArray(MemoryBudget(subject, limits.table_bytes))
    try:
        # In blocks, since each conversion holds the interpreter lock.
        for start in range(0, len(value), height):
            array.append(np.asarray(value[start : start + height], dtype=np.float64))
        return array.finished()
    except (ValueError, TypeError, OverflowError):
        widths = {len(row) if isinstance(row, list) else 0 for row in value}
        what = (
            f"rows of different widths ({', '.join(map(str, sorted(widths)[:8]))})"
            if len(widths) > 1
            else "something else than numbers"
        )
        raise InvalidDataset(
            f"{subject}: '{key}' has {what}",
            hint="give equally long rows of numbers; use records for text columns",
        ) from None


def _clients(clients: Mapping[str, object], subject: str, limits: Limits) -> Read:
    parts: dict[str, Table] = {}
    label: str | None = None
    if len(clients) > MAX_CLIENTS:
        raise LimitExceeded(
            f"{subject} has {len(clients)} clients; the limit is {MAX_CLIENTS}",
            hint="use fewer clients",
        )
    joined = JoinedLimits(subject, limits)
    for name in sorted(clients):
        part, part_label = table_of(clients[name], f"{subject}, client '{name}'", limits)
        if part.clients:
            raise InvalidDataset(f"{subject}: client '{name}' holds clients", hint=FORMS)
        if parts and part_label != label:
            raise InvalidDataset(
                f"{subject}: client '{name}' names its labels {part_label!r}, others {label!r}",
                hint="use the same form for every client",
            )
        joined.add(part)
        parts[name], label = part, part_label
    return stack_clients(parts, subject, limits), label


class JoinedLimits:
    """Counts the parts of a table that is joined from several; for a moment it and they are there at once."""

    def __init__(self, subject: str, limits: Limits) -> None:
        self._subject = subject
        self._limits = limits
        self._rows = 0
        self._budget = MemoryBudget(subject, limits.table_bytes // 2)

    def add(self, part: Table) -> None:
        """Count a part.

        Raises:
            LimitExceeded: If the parts have too many rows or take too much memory together.
        """
        self._rows += part.rows
        check_rows(self._rows, self._limits.max_rows, self._subject)
        self._budget.take(sum(map(bytes_of, part.columns.values())))


def stack_clients(parts: Mapping[str, Table], subject: str, limits: Limits) -> Table:
    """Join the tables of all clients, in the order of their sorted names.

    Raises:
        InvalidDataset: If there are no clients or their columns differ.
        LimitExceeded: If they have too many rows together.
    """
    names = tuple(sorted(parts))
    stacked = stack(
        [parts[name] for name in names], [f"client '{name}'" for name in names], subject
    )
    check_rows(stacked.rows, limits.max_rows, subject)
    counts = [parts[name].rows for name in names]
    client_of = np.repeat(np.arange(len(names), dtype=np.int32), counts)
    return replace(stacked, clients=names, client_of=client_of)


def stack(tables: Sequence[Table], titles: Sequence[str], subject: str) -> Table:
    """Join tables of equal columns, one below the other.

    Raises:
        InvalidDataset: If there are none, or columns differ in name, kind or width.
    """
    if not tables:
        raise InvalidDataset(f"{subject} is empty", hint=FORMS)
    first = tables[0]
    for table, title in zip(tables[1:], titles[1:], strict=True):
        if set(table.columns) != set(first.columns):
            odd = sorted(set(table.columns) ^ set(first.columns))[:8]
            raise InvalidDataset(
                f"{subject}: {title} and {titles[0]} differ in columns {', '.join(odd)}",
                hint="all parts need the same columns",
            )
    columns = {
        name: _stack_column([table.columns[name] for table in tables], name, subject)
        for name in first.columns
    }
    joined = table_from(columns, subject, channels=first.channels)
    remarks = dict.fromkeys(remark for table in tables for remark in table.remarks)
    return replace(joined, remarks=tuple(remarks))


def _stack_column(parts: Sequence[Column], name: str, subject: str) -> Column:
    """Parts of one column below each other; text if any part is text.

    Raises:
        InvalidDataset: If parts hold lists of different lengths.
    """
    if not all(isinstance(part, TextColumn) for part in parts):
        parts = [_numbers_if_only_words(part) for part in parts]
    numbers = [part for part in parts if not isinstance(part, TextColumn)]
    if len(numbers) == len(parts):
        if len({part.shape[1:] for part in numbers}) > 1:
            raise InvalidDataset(
                f"{subject}: column '{name}' holds lists of different lengths",
                hint="all parts need lists of the same length",
            )
        return np.concatenate(numbers)
    levels: dict[str, int] = {}
    codes = [_codes_in(part, levels) for part in parts]
    return TextColumn(np.concatenate(codes), tuple(levels))


def _numbers_if_only_words(part: Column) -> Column:
    """Missing numbers for a part of nothing but `none` and the like, where other parts hold numbers."""
    if isinstance(part, TextColumn) and all(map(is_missing, part.levels)):
        return np.full(len(part.codes), np.nan)
    return part


def _codes_in(part: Column, levels: dict[str, int]) -> NDArray[np.int32]:
    if not isinstance(part, TextColumn):
        values = part.ravel()
        known = ~np.isnan(values)
        codes = np.full(len(values), -1, dtype=np.int32)
        codes[known] = np.arange(known.sum(), dtype=np.int32)
        return _codes_in(TextColumn(codes, tuple(map(number_text, values[known]))), levels)
    to_shared = np.asarray(
        [levels.setdefault(level, len(levels)) for level in part.levels] or [-1], dtype=np.int32
    )
    return np.where(part.codes < 0, np.int32(-1), to_shared[part.codes])
