"""Forms of JSON that other tools write, brought to the forms that are read here, without copying their cells.

pandas' `to_json` in each of its orients, LEAF, lists under the numbers of their items, and the replies of
programming interfaces, which wrap a list of records.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from flow_nexus_neural.data.column_builder import BLOCK_CELLS, RawBlock
from flow_nexus_neural.data.json_text import json_kind
from flow_nexus_neural.errors import InvalidDataset
from flow_nexus_neural.vocabulary import MIN_ROWS

ROW_NUMBERS_BELOW: Final = 100_000_000
"""Whole numbers below this, all different, are an index that counts rows; above, they may be times."""
INDEX: Final = "index"
TIMES: Final = "timestamp"
_INDEX_DROPPED: Final = "the index of the frame only numbers its rows and is left out"
_SPLIT: Final = frozenset({"columns", "data", "index", "index_names", "column_names"})
_MOST_DIGITS: Final = len(str(ROW_NUMBERS_BELOW))
_INNER_KEYS_LOOKED_AT: Final = 1_000


@dataclass(frozen=True)
class ColumnsByRow:
    """Columns as objects from a row's label to its value: what pandas writes by default."""

    columns: Mapping[str, Mapping[str, object]]
    labels: Sequence[str]

    def blocks(self) -> Iterator[RawBlock]:
        """The columns in blocks of rows; a value that an object lacks is missing."""
        height = max(1, BLOCK_CELLS // max(1, len(self.columns)))
        for start in range(0, len(self.labels), height):
            part = self.labels[start : start + height]
            yield {
                name: [column.get(label) for label in part] for name, column in self.columns.items()
            }


@dataclass(frozen=True)
class Form:
    """What a document holds.

    Attributes:
        value: One of the forms that are read, or `ColumnsByRow`.
        target: The label column that the form implies.
        without: Columns to leave out of the table.
        index: Name and values of a column to add to it: the labels of its rows.
        notes: What was left out, for the caller.
    """

    value: object
    target: str | None = None
    without: tuple[str, ...] = ()
    index: tuple[str, Sequence[object]] | None = None
    notes: tuple[str, ...] = ()


def known_form(value: object, subject: str) -> Form:
    """Bring a document to a form that is read here; anything else is returned as it is.

    Raises:
        InvalidDataset: If it has such a form, but its parts do not fit each other.
    """
    if isinstance(value, list):
        return _list_of_rows(value, subject)
    return _of_object(value, subject) if isinstance(value, dict) and value else Form(value)


def _of_object(value: Mapping[str, object], subject: str) -> Form:
    has_data = isinstance(value.get("data"), list)
    if isinstance(value.get("users"), list) and isinstance(value.get("user_data"), dict):
        return Form({"clients": _users_of_leaf(value, subject)})
    if has_data and isinstance(value.get("schema"), dict):
        return _with_schema(value)
    if has_data and "columns" in value and value.keys() <= _SPLIT:
        return _split(value, subject)
    objects = {key: inner for key, inner in value.items() if isinstance(inner, dict)}
    if len(objects) == len(value) and list(value) != ["clients"]:
        return _by_label(objects)
    if _are_numbered_rows(value):
        return _list_of_rows(list(value.values()), subject)
    return _wrapped_records(value)


def _users_of_leaf(value: Mapping[str, object], subject: str) -> dict[str, object]:
    """The clients of LEAF, in its own order."""
    users, data, counts = value["users"], value["user_data"], value.get("num_samples")
    if not isinstance(users, list) or not isinstance(data, dict):  # for the type checker
        return {}
    absent = [str(user)[:40] for user in users if str(user) not in data][:8]
    if absent:
        raise InvalidDataset(
            f"{subject}: user_data lacks users {', '.join(absent)}",
            hint="list in users only those that user_data holds",
        )
    clients: dict[str, object] = {str(user): data[str(user)] for user in users}
    for user, count in zip(clients, counts if isinstance(counts, list) else (), strict=False):
        own = clients[user]
        labels = own.get("y") if isinstance(own, dict) else None
        if isinstance(labels, list) and isinstance(count, int) and len(labels) != count:
            raise InvalidDataset(
                f"{subject}: user '{user[:40]}' has {len(labels)} labels, num_samples says {count}",
                hint="write the file anew, or leave num_samples out",
            )
    return clients


def _with_schema(value: Mapping[str, object]) -> Form:
    """What pandas writes in the orient "table": records with a schema that names the index."""
    schema, records = value["schema"], value["data"]
    keys = schema.get("primaryKey") if isinstance(schema, dict) else None
    fields = schema.get("fields") if isinstance(schema, dict) else None
    numbers = {
        field.get("name")
        for field in (fields if isinstance(fields, list) else ())
        if isinstance(field, dict) and field.get("type") == "integer"
    }
    dropped = [
        key
        for key in (keys if isinstance(keys, list) else ())
        if key in numbers and isinstance(key, str) and (key == INDEX or key.startswith("level_"))
    ]
    return Form(records, without=tuple(dropped), notes=(_INDEX_DROPPED,) if dropped else ())


def _split(value: Mapping[str, object], subject: str) -> Form:
    """What pandas writes in the orients "split" and "tight"."""
    names, rows, labels = value["columns"], value["data"], value.get("index")
    if not isinstance(names, list) or not isinstance(rows, list):
        return Form(value)
    if not isinstance(labels, list):
        return Form({"columns": names, "rows": rows})
    if len(labels) != len(rows):
        raise InvalidDataset(
            f"{subject}: index has {len(labels)} entries, data {len(rows)} rows",
            hint="write the file anew, or leave index out",
        )
    return _with_index({"columns": names, "rows": rows}, labels, names)


def _by_label(value: Mapping[str, Mapping[str, object]]) -> Form:
    """An object of objects: pandas' orients "columns" and "index"."""
    outer, inner = list(value), _keys_of(value)
    if _outer_are_rows(outer, inner):
        return _with_index(list(value.values()), outer, inner)
    return _with_index(ColumnsByRow(value, inner), inner, outer)


def _keys_of(value: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The keys of all inner objects, in their order; usually those of the first."""
    first = next(iter(value.values()))
    if all(member.keys() == first.keys() for member in value.values()):
        return list(first)  # no dictionary of them all: there may be a million
    keys: dict[str, None] = {}
    for member in value.values():
        keys.update(dict.fromkeys(member))
    return list(keys)


def _with_index(value: object, labels: Sequence[object], names: Sequence[object]) -> Form:
    """The form with the labels of its rows as a column, unless they only number the rows."""
    name = _name_of_index(labels, names)
    if name is None:
        return Form(value, notes=(_INDEX_DROPPED,))
    return Form(value, index=(name, labels))


def _outer_are_rows(outer: Sequence[str], inner: Sequence[str]) -> bool:
    """Whether the outer keys are labels of rows, and the inner ones names of columns."""
    for looks_like_a_label in (str.isdigit, _is_date):
        as_rows = [
            all(looks_like_a_label(key) for key in keys[:_INNER_KEYS_LOOKED_AT])
            for keys in (outer, inner)
        ]
        if as_rows[0] != as_rows[1]:
            return as_rows[0]
    return len(outer) > len(inner)


def _name_of_index(labels: Sequence[object], names: Sequence[object]) -> str | None:
    """The name of a column for the labels of rows; None if they only number the rows."""
    if _are_row_numbers(labels):
        return None
    texts = [label for label in labels if isinstance(label, str)]
    name = TIMES if texts and len(texts) == len(labels) and all(map(_is_date, texts)) else INDEX
    while name in names:
        name = f"{name}_of_row"
    return name


def _are_row_numbers(labels: Sequence[object]) -> bool:
    """Whether labels are small whole numbers, all different."""
    numbers = np.empty(len(labels), dtype=np.int64)
    for place, label in enumerate(labels):
        whole = isinstance(label, int) or (
            isinstance(label, str) and len(label) <= _MOST_DIGITS and label.isdecimal()
        )
        number = int(label) if whole and isinstance(label, int | str) else -1
        if not 0 <= number < ROW_NUMBERS_BELOW:
            return False
        numbers[place] = number
    return len(np.unique(numbers)) == len(numbers)


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return "-" in text


def _are_numbered_rows(value: Mapping[str, object]) -> bool:
    """Whether an object holds short lists under 0, 1, 2, ...: rows, of which there are more than columns."""
    if len(value) < MIN_ROWS or not all(isinstance(row, list) for row in value.values()):
        return False
    first = next(iter(value.values()))
    width = len(first) if isinstance(first, list) else 0
    return len(value) > width and list(value) == list(map(str, range(len(value))))


def _list_of_rows(value: list[object], subject: str) -> Form:
    """A list of lists: rows without names whose last values are the target, or with names in the first."""
    if not value or not isinstance(value[0], list):
        return Form(value)
    first = value[0]
    odd = next((index for index, row in enumerate(value) if not isinstance(row, list)), None)
    if odd is not None:
        raise InvalidDataset(
            f"{subject}: row {odd} is {json_kind(value[odd])}, row 0 is a list",
            hint="give every row as a list of its values",
        )
    if len(first) < 2 or any(isinstance(cell, list | dict) for cell in first):
        raise InvalidDataset(
            f"{subject} is a list of lists that are no rows of two or more values",
            hint='give rows of values with the target last, or {"X": ..., "y": ...}',
        )
    second = value[1] if len(value) > 1 else []
    texts = [
        isinstance(row, list) and all(isinstance(cell, str) for cell in row)
        for row in (first, second)
    ]
    if texts == [True, False]:
        return Form({"columns": first, "rows": value[1:]})
    names = [*(f"f{index}" for index in range(len(first) - 1)), "target"]
    return Form(
        {"columns": names, "rows": value},
        target="target",
        notes=("rows without names: the last value of each is the target",),
    )


def _wrapped_records(value: Mapping[str, object]) -> Form:
    """Records beside a few words about them, as programming interfaces reply."""
    records = [key for key, member in value.items() if _are_records(member)]
    others = [key for key in value if key not in records]
    about = all(not isinstance(value[key], list) for key in others)
    known = {"clients", "columns", "rows", "X", "y", "labels", "target", "targets", "feature_names"}
    if len(records) != 1 or not about or known & set(others):
        return Form(value)
    if not others:
        return Form(value[records[0]])
    told = ", ".join(f"'{key[:40]}'" for key in others[:8])
    return Form(value[records[0]], notes=(f"only '{records[0][:40]}' is read, not {told}",))


def _are_records(member: object) -> bool:
    return isinstance(member, list) and bool(member) and isinstance(member[0], dict)
