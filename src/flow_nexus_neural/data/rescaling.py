"""Scales the parts of a fold by the fold's own training rows."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.normalise import CLIP, RELATIVE_ZERO
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema

BLOCK_ROWS = 8192


def rescaled(schema: DataSchema, parts: Mapping[str, Rows]) -> tuple[DataSchema, dict[str, Rows]]:
    """Rows that were scaled by other rows, scaled by those of the part `train` instead.

    Inputs are standardised per value, or per channel where rows have steps, and clipped again; so are the
    values of a regression, whose schema gets the new mean and deviation. What cannot be undone stays: a
    missing value has the place of the former mean, a category its former levels, a price its symbol's median.

    Args:
        schema: Of the rows.
        parts: The rows by part, `train` among them.
    """
    train = parts["train"]
    mean, sd = _moments(train.x.reshape(-1, train.x.shape[-1]))
    shift, factor = 0.0, 1.0
    if schema.task == "regression":
        (shift,), (factor,) = _moments(train.y[:, None])
        of_target = {
            "target_mean": float(schema.target_mean + shift * schema.target_sd),
            "target_sd": float(schema.target_sd * factor),
        }
        schema = schema.model_copy(update=of_target)
    made = {}
    for name, rows in parts.items():
        x = rows.x - mean.astype(np.float32)
        x /= sd.astype(np.float32)
        np.clip(x, -CLIP, CLIP, out=x)
        if schema.task == "regression":
            last = None if rows.last is None else _standard(rows.last, shift, factor)
            made[name] = replace(rows, x=x, y=_standard(rows.y, shift, factor), last=last)
        else:
            made[name] = replace(rows, x=x)
    return schema, made


def _moments(
    values: NDArray[np.float32] | NDArray[np.int64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """[width] mean and deviation of values [n, width]; a deviation that is as good as 0 counts as 1."""
    mean = values.mean(axis=0, dtype=np.float64)
    squares = np.zeros_like(mean)
    for start in range(0, len(values), BLOCK_ROWS):  # a float64 copy of all rows may not fit
        squares += ((values[start : start + BLOCK_ROWS] - mean) ** 2).sum(axis=0)
    sd = np.sqrt(squares / len(values))
    constant = sd <= RELATIVE_ZERO * np.maximum(1.0, np.abs(mean))
    return mean, np.where(constant, 1.0, sd)


def _standard(
    values: NDArray[np.float32] | NDArray[np.int64], mean: float, sd: float
) -> NDArray[np.float32]:
    scaled: NDArray[np.float32] = ((values - mean) / sd).astype(np.float32)
    return scaled
