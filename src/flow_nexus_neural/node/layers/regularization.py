"""Layers that add noise while training and return their input unchanged otherwise."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from typing_extensions import override

from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts, drop
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


@computes("dropout")
@dataclass(frozen=True, slots=True)
class Dropout(Layer):
    """Element-wise dropout; the identity outside training."""

    rate: float

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("rate", below=1.0))

    @property
    @override
    def row_by_row(self) -> bool:
        """It draws a mask of each row."""
        return self.rate > 0.0

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return drop(x, self.rate, noise)


@computes("spatial_dropout1d")
@dataclass(frozen=True, slots=True)
class SpatialDropout(Layer):
    """Drops whole channels of a sequence: all steps of a channel share one draw."""

    rate: float

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("rate", below=1.0))

    @property
    @override
    def row_by_row(self) -> bool:
        """It draws a mask of each row."""
        return self.rate > 0.0

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer on [n, t, c]."""
        return drop(x, self.rate, noise, (x.shape[0], 1, x.shape[2]))


@computes("gaussian_noise")
@dataclass(frozen=True, slots=True)
class GaussianNoise(Layer):
    """Adds normal noise of mean 0; the identity outside training."""

    stddev: float

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("stddev"))

    @property
    @override
    def row_by_row(self) -> bool:
        """It draws noise of each row."""
        return self.stddev > 0.0

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        if noise is None:
            return x
        return x + torch.randn(x.shape, generator=noise) * self.stddev
