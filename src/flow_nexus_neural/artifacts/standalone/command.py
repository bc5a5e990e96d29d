"""Reads records and prints answers: what an exported `predictor.py` does when it is called."""

import base64
import json
import sys
from typing import Any

import numpy as np

from flow_nexus_neural.artifacts.standalone.activations import Array
from flow_nexus_neural.artifacts.standalone.answering import answers, decide


def cells(column: dict[str, Any], value: Any) -> list[float]:
    """The numbers of one column of a record; NaN where it says nothing."""
    width = len(column["mean"])
    if value is None:
        return [np.nan] * width
    if column["levels"] is not None:
        return [float(str(value).strip() == level) for level in column["levels"]]
    given = list(value)[-width:] if isinstance(value, list | tuple) else [value]
    numbers = [np.nan if one is None else float(one) for one in given]
    return [np.nan] * (width - len(numbers)) + numbers


def rows_of(model: dict[str, Any], records: list[Any]) -> Array:
    """[n, *row_shape] of records: lists in stored order, dicts by column name, or {"window": [rows]}."""
    shape = model["row_shape"]
    width = sum(len(column["mean"]) for column in model["columns"])
    steps = int(np.prod(shape)) // width
    rows = np.full((len(records), steps, width), np.nan)
    for number, record in enumerate(records):
        window = record.get("window") if isinstance(record, dict) else None
        given = window if window is not None else [record]
        if not isinstance(record, dict) and np.ndim(record) == 2:
            given = list(record)
        if not isinstance(record, dict) and np.ndim(record) == 1 and len(record) == steps * width:
            rows[number] = np.reshape(np.array(record, dtype=np.float64), (steps, width))
            continue
        for place, row in zip(
            range(steps - len(given[-steps:]), steps), given[-steps:], strict=True
        ):
            if isinstance(row, dict):
                named = [cells(column, row.get(column["name"])) for column in model["columns"]]
                rows[number, place] = [value for own in named for value in own]
            else:
                rows[number, place] = [np.nan if one is None else float(one) for one in row]
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
    """Read a JSON list of records from standard input and write the answers as JSON."""
    records = json.loads(sys.stdin.read(), parse_constant=float)
    json.dump(predict(model, tensors, records), sys.stdout)
    sys.stdout.write("\n")
