"""What a layer is inside a node, and the layers that treat every position alike.

A layer is a frozen object without weights: it computes from an input, its tensors by part name, and a
source of noise. One network can so be run with any number of weight settings (the copy being trained, the
copy that serves, a candidate under evaluation) that share nothing.

Shapes: n rows, t steps, c channels.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, Self

import torch
from torch import Tensor
from torch.nn import functional

from flow_nexus_neural.node.activations import Activation, activation_of
from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.protocol.plan import PlannedLayer

Parts = Mapping[str, Tensor]
"""A layer's tensors by the last part of their names, for example `kernel`."""

Noise = torch.Generator | None
"""What dropout is drawn from while training; None whenever the network is only evaluated.

A generator of its own, so that requests served between two steps cannot change what is drawn.
"""


class Layer(Protocol):
    """Computes a layer's output, [n, ...out_shape], from its input, [n, ...in_shape]."""

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer; training behaviour if `noise` is given."""
        ...


def drop(x: Tensor, rate: float, noise: Noise, shape: tuple[int, ...] | None = None) -> Tensor:
    """Zero elements with probability `rate` and scale the rest by 1 / (1 - rate).

    Args:
        x: Any shape.
        rate: Probability, in [0, 1).
        noise: Without it `x` is returned as it is.
        shape: Shape of the mask, broadcast against `x`; that of `x` by default.

    Source: Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting",
    JMLR 15 (2014), section 4; departure: scaled while training (inverted dropout), as all libraries do.
    """
    if noise is None or rate == 0.0:
        return x
    mask = torch.rand(x.shape if shape is None else shape, generator=noise) >= rate
    return x * mask.to(x.dtype).mul_(1.0 / (1.0 - rate))


@dataclass(frozen=True, slots=True)
class Dense:
    """`activation(x W + b)` on the last axis: [n, (t,) c] -> [n, (t,) units]."""

    activation: Activation

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(activation_of(Arguments.of(layer)))

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - deterministic
        """Run the layer."""
        return self.activation(functional.linear(x, parts["kernel"].t(), parts.get("bias")))


@dataclass(frozen=True, slots=True)
class ActivationLayer:
    """An activation on its own."""

    activation: Activation

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(activation_of(Arguments.of(layer)))

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - no weights
        """Run the layer."""
        return self.activation(x)


@dataclass(frozen=True, slots=True)
class LeakyRelu:
    """`x` above 0, `slope * x` below."""

    slope: float

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("negative_slope"))

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - no weights
        """Run the layer."""
        return functional.leaky_relu(x, self.slope)


@dataclass(frozen=True, slots=True)
class Dropout:
    """Element-wise dropout; nothing outside training."""

    rate: float

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("rate", below=1.0))

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - no weights
        """Run the layer."""
        return drop(x, self.rate, noise)


@dataclass(frozen=True, slots=True)
class SpatialDropout:
    """Drops whole channels of a sequence: one draw for all steps of a channel."""

    rate: float

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("rate", below=1.0))

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - no weights
        """Run the layer on [n, t, c]."""
        return drop(x, self.rate, noise, (x.shape[0], 1, x.shape[2]))


@dataclass(frozen=True, slots=True)
class GaussianNoise:
    """Adds normal noise of mean 0; nothing outside training."""

    stddev: float

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("stddev"))

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - no weights
        """Run the layer."""
        if noise is None:
            return x
        return x + torch.randn(x.shape, generator=noise) * self.stddev


@dataclass(frozen=True, slots=True)
class Flatten:
    """[n, t, c] -> [n, t * c], steps first."""

    @classmethod
    def planned(cls, layer: PlannedLayer) -> Self:  # noqa: ARG003 - no arguments
        """Build from a plan."""
        return cls()

    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:  # noqa: ARG002 - no weights
        """Run the layer."""
        return x.flatten(1)
