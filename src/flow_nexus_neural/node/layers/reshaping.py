"""Layers that change the shape of their input and not its values."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor
from typing_extensions import override

from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


@computes("flatten")
@dataclass(frozen=True, slots=True)
class Flatten(Layer):
    """[n, t, c] -> [n, t * c], steps first."""

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls()

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return x.flatten(1)
