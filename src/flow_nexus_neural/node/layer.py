"""Base class of the layers that a node computes.

A layer is a frozen object without weights: it computes its output from an input, its tensors by part name,
and a noise generator. So one network runs with several independent sets of weights: those in training, those
that serve, and a candidate under evaluation.

Shapes: n rows, t steps, c channels.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from flow_nexus_neural.protocol.plan import PlannedLayer

Parts = Mapping[str, Tensor]
"""A layer's tensors by the last part of their names, for example `kernel`."""

Noise = torch.Generator | None
"""Generator for dropout while training; None whenever the network is only evaluated.

Not torch's global generator: requests served between two steps must not change the numbers drawn.
"""


class Layer(ABC):
    """Computes a layer's output, [n, ...out_shape], from its input, [n, ...in_shape]."""

    __slots__ = ()

    @classmethod
    @abstractmethod
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan.

        Raises:
            ValueError: If an argument is missing from the plan or out of its bounds.
        """

    @property
    def row_by_row(self) -> bool:
        """Whether the gradient of each row needs a pass of its own: it draws, or cannot batch weights."""
        return False

    @abstractmethod
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer, in training mode if `noise` is given."""


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
