"""Names of the activation functions, as Keras defines them."""

from typing import Final

ACTIVATIONS: Final = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "softmax",
    "softplus",
    "softsign",
    "exponential",
)
"""Canonical names.

`leaky_relu` has slope 0.2 below 0 and `gelu` is the exact one, as in `keras.activations`; softmax runs over
the last axis.
"""

ACTIVATION_ALIASES: Final = {"none": "linear", "swish": "silu"}
