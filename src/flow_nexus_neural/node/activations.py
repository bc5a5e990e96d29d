"""Activation functions by their Keras names and with Keras' constants."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from flow_nexus_neural.node.arguments import Arguments

Activation = Callable[[Tensor], Tensor]

LEAKY_SLOPE = 0.2
"""Keras' slope for the activation named `leaky_relu` (torch's default is .01)."""


def _linear(x: Tensor) -> Tensor:
    return x


def _leaky_relu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, LEAKY_SLOPE)


def _softmax(x: Tensor) -> Tensor:
    return torch.softmax(x, dim=-1)


ACTIVATIONS: dict[str, Activation] = {
    "linear": _linear,
    "relu": torch.relu,
    "relu6": functional.relu6,
    "leaky_relu": _leaky_relu,
    "elu": functional.elu,
    "selu": torch.selu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "mish": functional.mish,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "softmax": _softmax,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "exponential": torch.exp,
}


def activation_of(arguments: Arguments, name: str = "activation") -> Activation:
    """Return the activation function that an argument names.

    Raises:
        ValueError: If the argument is missing or names no activation.
    """
    return ACTIVATIONS[arguments.choice(name, tuple(ACTIVATIONS))]
