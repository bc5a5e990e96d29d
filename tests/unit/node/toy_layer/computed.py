"""A layer of someone else's: `scale`, as it would stand in `node/layers/`."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor
from typing_extensions import override

from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.layers import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


@computes("scale")
@dataclass(frozen=True, slots=True)
class Scale(Layer):
    """Copies, each times its gain."""

    copies: int
    factor: float

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        arguments = Arguments.of(layer)
        return cls(arguments.integer("copies"), arguments.number("factor"))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return x.repeat(*[1] * (x.dim() - 1), self.copies) * parts["gain"] * self.factor
