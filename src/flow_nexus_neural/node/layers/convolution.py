"""Convolution and graph convolution over the steps of a sequence, [n, t, c]."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from flow_nexus_neural.node.activations import Activation, activation_of
from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


@computes("conv1d")
@dataclass(frozen=True, slots=True)
class Conv1D(Layer):
    """Cross-correlation over the steps: [n, t, c] -> [n, t', filters]; kernel [k, c, filters]."""

    strides: int
    dilation: int
    padding: tuple[int, int]
    activation: Activation

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        arguments = Arguments.of(layer)
        strides, dilation = arguments.integer("strides"), arguments.integer("dilation_rate")
        reach = (arguments.integer("kernel_size") - 1) * dilation
        padding = arguments.choice("padding", ("valid", "same", "causal"))
        steps = layer.in_shape[0]
        amounts = {
            "valid": (0, 0),
            "same": _same_padding(steps, reach, strides),
            "causal": (reach, 0),
        }
        return cls(strides, dilation, amounts[padding], activation_of(arguments))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        channels_first = x.transpose(1, 2)  # [n, c, t]
        if self.padding != (0, 0):
            channels_first = functional.pad(channels_first, self.padding)
        convolved = functional.conv1d(
            channels_first,
            parts["kernel"].permute(2, 1, 0),  # [filters, c, k]
            parts.get("bias"),
            stride=self.strides,
            dilation=self.dilation,
        )
        return self.activation(convolved.transpose(1, 2))


def _same_padding(steps: int, reach: int, strides: int) -> tuple[int, int]:
    """Zeros before and after, so that the output has ceil(steps / strides) steps; an odd zero goes after."""
    total = max((-(-steps // strides) - 1) * strides + reach + 1 - steps, 0)
    return total // 2, total - total // 2


@computes("graph_conv")
@dataclass(frozen=True, slots=True, eq=False)
class GraphConvolution(Layer):
    """`activation(A H W + b)` over the graph in which steps i and j are joined if |i - j| <= hops.

    Source: Kipf and Welling, "Semi-Supervised Classification with Graph Convolutional Networks", ICLR 2017,
    equation 2: A is the adjacency with self loops, normalised symmetrically by its degrees.
    """

    adjacency: Tensor
    activation: Activation

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        arguments = Arguments.of(layer)
        adjacency = band_adjacency(layer.in_shape[0], arguments.integer("hops"))
        return cls(adjacency, activation_of(arguments))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        kernel, bias = parts["kernel"], parts["bias"]
        # (A H) W = A (H W): multiply by the adjacency on the side with fewer channels.
        if kernel.shape[0] < kernel.shape[1]:
            return self.activation(functional.linear(self.adjacency @ x, kernel.t(), bias))
        return self.activation(self.adjacency @ (x @ kernel) + bias)


def band_adjacency(steps: int, hops: int) -> Tensor:
    """[steps, steps]: D^-1/2 (A + I) D^-1/2 of the band graph."""
    position = torch.arange(steps)
    joined = ((position[:, None] - position[None, :]).abs() <= hops).to(torch.float32)
    scale = joined.sum(1).rsqrt()
    return scale[:, None] * joined * scale[None, :]
