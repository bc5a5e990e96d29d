"""The fully connected layer."""

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


@computes("dense")
@dataclass(frozen=True, slots=True)
class Dense(Layer):
    """`activation(x W + b)` on the last axis: [n, (t,) c] -> [n, (t,) units]."""

    activation: Activation

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(activation_of(Arguments.of(layer)))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return self.activation(functional.linear(x, parts["kernel"].t(), parts.get("bias")))
