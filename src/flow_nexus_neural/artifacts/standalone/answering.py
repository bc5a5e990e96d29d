"""From rows in the data's own units to the answer that the cluster gives: scaling, networks, combination."""

from typing import Any

import numpy as np

from flow_nexus_neural.artifacts.standalone.activations import Array, sigmoid, softmax
from flow_nexus_neural.artifacts.standalone.layers import network

CLIP, EPSILON = 6.0, 1e-6


def standard(values: Array, mean: Array, sd: Array) -> Array:
    """Values as standard deviations from the mean; 0 where the training had one value only."""
    scaled: Array = (values - mean) / np.where(sd > 0, sd, 1.0) * (sd > 0)
    return scaled


def scale(model: dict[str, Any], rows: Array, symbols: list[str | None]) -> Array:
    """Rows [n, ...] as the networks take them: float32 values within 6 deviations, missing ones (NaN) 0."""
    width = sum(len(column["mean"]) for column in model["columns"])
    flat = np.asarray(rows, dtype=np.float64).reshape(-1, width)
    of = [symbol for symbol in symbols for _ in range(len(flat) // max(len(rows), 1))]
    parts, start = [], 0
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for column in model["columns"]:
            mean, sd = np.array(column["mean"]), np.array(column["sd"])
            values = flat[:, start : start + len(mean)]
            start += len(mean)
            if column["medians"] is None:
                parts.append(standard(values, mean, sd))
                continue
            logs = np.log(np.where(values > 0, values, np.nan))
            bases = np.array([[column["medians"].get(symbol, np.nan)] for symbol in of])
            pooled = np.array(column["pooled"] or (0.0, 0.0))
            own = standard(logs - np.log(bases), mean, sd)
            alike = standard(logs, pooled[:1], pooled[1:])
            parts.append(np.where(np.isfinite(bases), own, alike))
    scaled = np.nan_to_num(np.clip(np.concatenate(parts, axis=1), -CLIP, CLIP), nan=0.0)
    return scaled.reshape(rows.shape).astype(np.float32).astype(np.float64)


def log_probabilities(logits: Array) -> Array:
    """[..., classes] from logits; one logit means two classes."""
    if logits.shape[-1] == 1:
        return np.concatenate([-np.logaddexp(0.0, logits), -np.logaddexp(0.0, -logits)], axis=-1)
    shifted = logits - logits.max(axis=-1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return logs


def trimmed(answers: Array, f: int) -> Array:
    """Mean over the first axis without the f lowest and the f highest of each element."""
    kept = np.sort(answers, axis=0)[f : len(answers) - f]
    mean: Array = kept.mean(axis=0)
    return mean


def combine(model: dict[str, Any], logits: Array) -> Array:
    """[n, classes] probabilities, or [n, 1] values, from the networks' logits [slots, n, outputs].

    It is aggregation `mean`: the mean of probabilities or values; with f liars the trimmed mean of logits.
    """
    f = model["liars"]
    if model["task"] == "regression":
        values = logits * model["target_sd"] + model["target_mean"]
        return trimmed(values, f)
    if model["class_weight"]:
        logs = np.log(np.array(model["class_weight"]))
        logits = logits - (logs[1:] - logs[:1] if logits.shape[-1] == 1 else logs)
    if f:
        robust = trimmed(logits if logits.shape[-1] == 1 else log_probabilities(logits), f)
        mean = np.exp(log_probabilities(robust))
    else:
        mean = np.exp(log_probabilities(logits)).mean(axis=0)
    return calibrated(model, mean)


def calibrated(model: dict[str, Any], p: Array) -> Array:
    """Probabilities [n, classes] after calibration; of two classes within 1e-6 and 1 - 1e-6."""
    two = p.shape[-1] == 2
    if two:
        one = np.clip(p[:, 1:], EPSILON, 1.0 - EPSILON)
        p = np.concatenate([1.0 - one, one], axis=1)
    if model["calibrator"] is not None:
        factor, offset = model["calibrator"]
        logs = np.log(np.clip(p, 1e-12, None))
        if not two:
            return softmax(logs * factor + offset)
        one = np.clip(
            sigmoid((logs[:, 1:] - logs[:, :1]) * factor + offset), EPSILON, 1.0 - EPSILON
        )
        p = np.concatenate([1.0 - one, one], axis=1)
    return p


def answers(
    model: dict[str, Any], tensors: dict[str, Array], rows: Array, symbols: list[str | None]
) -> Array:
    """[n, classes] probabilities, or [n, 1] values, of raw rows [n, ...] in stored order; NaN is missing."""
    x = scale(model, rows, symbols)
    own = {key: network(x, one, tensors) for key, one in model["networks"].items()}
    return combine(model, np.stack([own[key] for key in model["slots"]]))


def decide(model: dict[str, Any], p: Array) -> list[Any]:
    """The answer of each row: a class by the model's threshold or class weights, or a value."""
    if model["task"] == "regression":
        return [float(value) for value in p[:, 0]]
    if p.shape[1] == 2:
        chosen = (p[:, 1] >= model["threshold"] - 1e-12).astype(int)
    else:
        weights = np.array(model["class_weight"] or [1.0] * p.shape[1])
        scores = p * (weights / weights.max())
        chosen = (scores >= scores.max(axis=1, keepdims=True) - 1e-12).argmax(axis=1)
    return [model["classes"][index] for index in chosen]
