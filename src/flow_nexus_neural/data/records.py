"""Recognises the form of prediction input: a record, a list of records, numbers in order, or windows."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from flow_nexus_neural.data.json_text import json_kind
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.errors import InvalidRecord

MAX_RECORDS = 1_000
MAX_TEXT_BYTES = 2_000_000
MAX_WINDOW_ROWS = 65_536
RECORD_FORMS = (
    "send an object, a list of objects, or a list of numbers in the order of the model's inputs;"
    " every number finite, null where unknown"
)

Row = Mapping[str, object] | list[object]


@dataclass(frozen=True)
class Records:
    """Prediction input, divided into records and rows.

    Attributes:
        rows: Per record its rows, oldest first; one row unless it is a window.
        is_list: Whether the input is a list, so that the reply has a list of predictions.
        mode: `single`, `batch` or `window`.
    """

    rows: list[list[Row]]
    is_list: bool
    mode: str


def parse_records(schema: DataSchema, value: object) -> Records:
    """Recognise the form of the input and divide it into records.

    Raises:
        InvalidRecord: If it is not JSON, too long, or has none of the forms.
    """
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, Mapping):
        if _has_window(schema, value):
            return Records([_window(schema, value)], is_list=False, mode="window")
        return Records([[value]], is_list=False, mode="single")
    if not isinstance(value, list):
        raise InvalidRecord(f"input is {json_kind(value)}, not a record", hint=RECORD_FORMS)
    if not value:
        raise InvalidRecord("input is an empty list", hint=RECORD_FORMS)
    if not isinstance(value[0], (list, Mapping)):
        return Records([[value]], is_list=False, mode="single")
    if _is_one_window(schema, value):
        return Records([value], is_list=False, mode="window")
    if len(value) > MAX_RECORDS:
        raise InvalidRecord(
            f"{len(value)} records; at most {MAX_RECORDS} fit one call", hint="split the list"
        )
    records = [_record(schema, item, index) for index, item in enumerate(value)]
    windows = any(len(rows) > 1 for rows in records)
    return Records(records, is_list=True, mode="window" if windows else "batch")


def _from_text(text: str) -> object:
    if len(text) > MAX_TEXT_BYTES:
        raise InvalidRecord(
            f"input has {len(text)} characters; at most {MAX_TEXT_BYTES} are read",
            hint="send fewer records",
        )
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as failure:
        raise InvalidRecord(
            f"input is not valid JSON: {failure}"[:200], hint=RECORD_FORMS
        ) from None


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _is_one_window(schema: DataSchema, value: list[object]) -> bool:
    """Whether a list of lists is one window, given step by step, rather than a list of records."""
    steps, channels = schema.input.window, schema.input.n_scalars
    if steps is None or channels == schema.input.flat_width:
        return False
    return all(isinstance(row, list) and len(row) == channels for row in value)


def _record(schema: DataSchema, item: object, index: int) -> list[Row]:
    if isinstance(item, Mapping):
        return _window(schema, item) if _has_window(schema, item) else [item]
    if isinstance(item, list):
        if schema.input.window is not None and item and isinstance(item[0], (list, Mapping)):
            return _window(schema, {"window": item})
        return [item]
    raise InvalidRecord(f"record {index} is {json_kind(item)}", hint=RECORD_FORMS)


def _has_window(schema: DataSchema, record: Mapping[str, object]) -> bool:
    is_feature = any(spec.name.lower() == "window" for spec in schema.columns)
    return isinstance(record.get("window"), list) and not is_feature


def _window(schema: DataSchema, record: Mapping[str, object]) -> list[Row]:
    if schema.input.window is None:
        raise InvalidRecord(
            "input has a window, but the model was trained on single rows", hint=RECORD_FORMS
        )
    rows = record["window"]
    if not isinstance(rows, list) or not rows or len(rows) > MAX_WINDOW_ROWS:
        raise InvalidRecord("a window is an empty or very long list", hint="give its rows")
    shared = {name: value for name, value in record.items() if name != "window"}
    found: list[Row] = []
    for row in rows:
        if isinstance(row, Mapping):
            found.append({**shared, **row})
        elif isinstance(row, list):
            found.append(row)
        else:
            raise InvalidRecord(f"a row of a window is {json_kind(row)}", hint=RECORD_FORMS)
    return found
