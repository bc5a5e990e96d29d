"""Pooling over the steps of a sequence, [n, t, c]: per window, or over all steps."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


def _window(layer: PlannedLayer) -> tuple[int, int]:
    """Pool size and strides; strides default to the pool size, as in Keras."""
    arguments = Arguments.of(layer)
    pool_size = arguments.integer("pool_size")
    strides = pool_size if arguments.values.get("strides") is None else arguments.integer("strides")
    return pool_size, strides


@computes("max_pooling1d")
@dataclass(frozen=True, slots=True)
class MaxPooling(Layer):
    """Largest value of each window of steps; an incomplete last window is dropped."""

    pool_size: int
    strides: int

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(*_window(layer))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        pooled = functional.max_pool1d(x.transpose(1, 2), self.pool_size, self.strides)
        return pooled.transpose(1, 2)


@computes("average_pooling1d")
@dataclass(frozen=True, slots=True)
class AveragePooling(Layer):
    """Mean of each window of steps; an incomplete last window is dropped."""

    pool_size: int
    strides: int

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(*_window(layer))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        pooled = functional.avg_pool1d(x.transpose(1, 2), self.pool_size, self.strides)
        return pooled.transpose(1, 2)


@computes("global_average_pooling1d")
@dataclass(frozen=True, slots=True)
class GlobalAveragePooling(Layer):
    """Mean over all steps: [n, t, c] -> [n, c]."""

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls()

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return x.mean(1)


@computes("global_max_pooling1d")
@dataclass(frozen=True, slots=True)
class GlobalMaxPooling(Layer):
    """Maximum over all steps: [n, t, c] -> [n, c]."""

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls()

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return x.amax(1)
