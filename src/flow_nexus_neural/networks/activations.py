"""Names of the activation functions, as Keras defines them."""

from typing import Final

from pydantic import JsonValue

from flow_nexus_neural.errors import InvalidArchitecture

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


def check_softmax(activation: JsonValue, width: int | None, where: str) -> None:
    """Refuse a softmax over one value.

    Args:
        activation: Canonical name of the function.
        width: Number of values it normalises; None if not known yet.
        where: The layer's name in errors.

    Raises:
        InvalidArchitecture: If the output would be constant.
    """
    if activation == "softmax" and width == 1:
        raise InvalidArchitecture(
            f"{where} softmax over 1 value is always 1 and cannot learn",
            hint="Use sigmoid for two classes, linear for a number, or one unit per class",
        )
