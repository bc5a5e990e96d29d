"""Conversions between logits and probabilities, without overflow."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Float64s = NDArray[np.float64]

EPSILON = 1e-6
"""Probabilities are clipped to [EPSILON, 1 - EPSILON] before a logarithm is taken."""


def sigmoid(logits: Floats) -> Float64s:
    """1 / (1 + exp(-x)), elementwise, for logits of any size."""
    x = np.asarray(logits, dtype=np.float64)
    small = np.exp(-np.abs(x))  # of a value <= 0, so that it cannot overflow
    positive: Float64s = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return positive


def logit(probabilities: Floats) -> Float64s:
    """log(p / (1 - p)), elementwise, p clipped to [1e-6, 1 - 1e-6]."""
    p = np.clip(np.asarray(probabilities, dtype=np.float64), EPSILON, 1.0 - EPSILON)
    odds: Float64s = np.log(p) - np.log1p(-p)
    return odds


def log_softmax(logits: Floats) -> Float64s:
    """Log probabilities over the last axis, for logits of any size."""
    x = np.asarray(logits, dtype=np.float64)
    shifted = x - x.max(axis=-1, keepdims=True)
    log_p: Float64s = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return log_p


def softmax(logits: Floats) -> Float64s:
    """Probabilities over the last axis."""
    p: Float64s = np.exp(log_softmax(logits))
    return p


def class_logits(probabilities: Floats) -> Float64s:
    """[..., C] probabilities to [..., O] logits: the inverse of `class_log_probabilities` up to a constant.

    Probabilities are clipped to 1e-12. Two classes give one logit, log(p1 / p0).
    """
    log_p = np.log(np.clip(np.asarray(probabilities, dtype=np.float64), 1e-12, None))
    if log_p.shape[-1] == 2:
        odds: Float64s = log_p[..., 1:] - log_p[..., :1]
        return odds
    logits: Float64s = log_p
    return logits


def class_log_probabilities(logits: Floats) -> Float64s:
    """[..., O] logits to [..., C] log probabilities: O = 1 means two classes with logits (0, x)."""
    x = np.asarray(logits, dtype=np.float64)
    if x.shape[-1] == 1:
        # Not log(sigmoid(x)), which is -inf for a large negative logit.
        log_one = -np.logaddexp(0.0, -x)
        log_zero = -np.logaddexp(0.0, x)
        pair: Float64s = np.concatenate([log_zero, log_one], axis=-1)
        return pair
    return log_softmax(x)
