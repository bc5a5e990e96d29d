"""Activation functions by their Keras names and with Keras' constants, in float64."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SELU_SCALE = 1.0507009873554805
SELU_ALPHA = 1.6732632423543772
_ERF = np.frompyfunc(math.erf, 1, 1)


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(-x)), without overflow."""
    small = np.exp(-np.abs(x))
    share: Array = np.where(x >= 0, 1.0, small) / (1.0 + small)
    return share


def softmax(x: Array) -> Array:
    """Shares over the last axis."""
    powers = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), without overflow."""
    value: Array = np.logaddexp(0.0, x)
    return value


def leaky(x: Array, slope: float) -> Array:
    """`x` above 0, `slope * x` below."""
    value: Array = np.where(x >= 0, x, slope * x)
    return value


def elu(x: Array) -> Array:
    """`x` above 0, exp(x) - 1 below."""
    value: Array = np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))
    return value


def gelu(x: Array) -> Array:
    """`x` times the normal distribution function at `x`."""
    spread = np.asarray(_ERF(x / math.sqrt(2.0)), dtype=np.float64)
    value: Array = 0.5 * x * (1.0 + spread)
    return value


def _selu(x: Array) -> Array:
    value: Array = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(np.minimum(x, 0.0)))
    return value


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0.0),
    "relu6": lambda x: np.clip(x, 0.0, 6.0),
    "leaky_relu": lambda x: leaky(x, 0.2),
    "elu": elu,
    "selu": _selu,
    "gelu": gelu,
    "silu": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(softplus(x)),
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "softmax": softmax,
    "softplus": softplus,
    "softsign": lambda x: x / (1.0 + np.abs(x)),
    "exponential": np.exp,
}
