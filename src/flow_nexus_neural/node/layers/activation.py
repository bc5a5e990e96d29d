"""Activation functions as separate layers."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from flow_nexus_neural.node.activations import Activation, activation_of
from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


@computes("activation")
@dataclass(frozen=True, slots=True)
class ActivationLayer(Layer):
    """Applies an activation function to every element."""

    activation: Activation

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(activation_of(Arguments.of(layer)))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return self.activation(x)


@computes("leaky_relu")
@dataclass(frozen=True, slots=True)
class LeakyRelu(Layer):
    """`x` above 0, `slope * x` below."""

    slope: float

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("negative_slope"))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return functional.leaky_relu(x, self.slope)
