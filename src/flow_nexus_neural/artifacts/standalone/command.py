"""Reads records and prints answers: what an exported `predictor.py` does when it is called."""

import base64
import json
import sys
from typing import Any

import numpy as np

from flow_nexus_neural.artifacts.standalone.activations import Array
from flow_nexus_neural.artifacts.standalone.answering import answers, decide


def number(value: Any, where: str) -> float:
    """A finite number, or NaN for null. Raises `ValueError`."""
    if value is None:
        return np.nan
    if isinstance(value, bool | int | float) and np.isfinite(value):
        return float(value)
    raise ValueError(f"{where} must be a finite number or null, not {str(value)[:40]!r}")


def cells(column: dict[str, Any], value: Any, where: str) -> list[float]:
    """The numbers of one column of a record; NaN where it says nothing. Raises `ValueError`."""
    width, where = len(column["mean"]), f"{where}, {column['name']}:"
    if value is None:
        return [np.nan] * width
    if column["levels"] is not None:
        if isinstance(value, list | tuple | dict):
            raise ValueError(f"{where} must be one text, not several")
        return [float(str(value).strip() == level) for level in column["levels"]]
    if width == 1:
        return [number(value, where)]
    given = list(value)[-width:] if isinstance(value, list | tuple) else [value]
    numbers = [number(one, where) for one in given]
    return [np.nan] * (width - len(numbers)) + numbers


def row_of(model: dict[str, Any], row: Any, where: str) -> list[float]:
    """The numbers of one row: a dict by column name, or a list in stored order. Raises `ValueError`."""
    columns = model["columns"]
    if isinstance(row, dict):
        if not any(column["name"] in row for column in columns):
            known = ", ".join(column["name"] for column in columns[:8])
            raise ValueError(f"{where} has none of the model's columns, which are {known}")
        named = [cells(column, row.get(column["name"]), where) for column in columns]
        return [value for own in named for value in own]
    width = sum(len(column["mean"]) for column in columns)
    if not isinstance(row, list | tuple) or len(row) != width:
        raise ValueError(f"{where} must be a dict or a list of {width} numbers")
    return [number(one, where) for one in row]


def rows_of(model: dict[str, Any], records: list[Any]) -> Array:
    """[n, *row_shape] of records: lists in stored order, dicts by column name, or {"window": [rows]}.

    Raises:
        ValueError: A record is none of these.
    """
    if not isinstance(records, list | tuple) or not records:
        raise ValueError("records must be a list with at least one record")
    shape = model["row_shape"]
    width = sum(len(column["mean"]) for column in model["columns"])
    steps = int(np.prod(shape)) // width
    rows = np.full((len(records), steps, width), np.nan)
    for at, record in enumerate(records):
        where = f"record {at}"
        given = [record]
        if isinstance(record, dict) and isinstance(record.get("window"), list):
            given = record["window"]
        elif isinstance(record, list | tuple) and record and isinstance(record[0], list | dict):
            given = list(record)
        elif isinstance(record, list | tuple) and steps > 1 and len(record) == steps * width:
            given = [record[step * width : (step + 1) * width] for step in range(steps)]
        last = given[-steps:]
        for place, row in zip(range(steps - len(last), steps), last, strict=True):
            rows[at, place] = row_of(model, row, where)
    return rows.reshape(len(records), *shape)


def predict(
    model: dict[str, Any], tensors: dict[str, Array], records: list[Any], symbols: Any = None
) -> dict[str, Any]:
    """Answers to records: `prediction` of each, and `probabilities` by class where there are classes.

    Args:
        model: The description of the model.
        tensors: Its weights by name.
        records: See `rows_of`; the symbol of a dict is its field `symbol`.
        symbols: Of each record, where records do not say it.
    """
    if symbols is None:
        symbols = [record.get("symbol") if isinstance(record, dict) else None for record in records]
    p = answers(model, tensors, rows_of(model, records), list(symbols))
    told: dict[str, Any] = {"prediction": decide(model, p)}
    if model["task"] != "regression":
        told |= {"classes": model["classes"], "probabilities": p.tolist()}
    return told


def unpacked(packed: str, shapes: dict[str, list[int]]) -> dict[str, Array]:
    """Weights from their base64 text: float32, little endian, one tensor after the other."""
    vector = np.frombuffer(base64.b64decode(packed), dtype="<f4").astype(np.float64)
    tensors, start = {}, 0
    for name, shape in shapes.items():
        size = int(np.prod(shape))
        tensors[name] = vector[start : start + size].reshape(shape)
        start += size
    return tensors


def main(model: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Read a JSON list of records from the named file, or standard input, and write the answers as JSON."""
    if len(sys.argv) > 2:
        sys.exit(f"{sys.argv[0]}: name one file of records at most")
    try:
        with open(sys.argv[1], encoding="utf-8") if sys.argv[1:] else sys.stdin as source:
            records = json.load(source)
        told = predict(model, tensors, records)
    except (OSError, ValueError) as failure:
        sys.exit(f"{sys.argv[0]}: {failure}")
    json.dump(told, sys.stdout)
    sys.stdout.write("\n")
