"""Batch and layer normalisation with Keras' constants and running statistics."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional
from typing_extensions import override

from flow_nexus_neural.node.arguments import Arguments
from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.registry import computes
from flow_nexus_neural.protocol.plan import PlannedLayer


@computes("batch_normalization")
@dataclass(frozen=True, slots=True)
class BatchNormalization(Layer):
    """Normalises each channel by batch statistics while training, by running statistics otherwise.

    Source: Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithms 1 and 2. Departures, as in Keras:
    the running variance is the biased one, and a frozen layer uses its running statistics in training too.

    Attributes:
        frozen: None of its tensors is trained.
    """

    momentum: float
    epsilon: float
    frozen: bool

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        arguments = Arguments.of(layer)
        return cls(
            arguments.number("momentum", below=1.0),
            arguments.number("epsilon"),
            frozen=not any(tensor.trainable for tensor in layer.tensors),
        )

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer; a training batch updates `moving_mean` and `moving_variance` in place.

        Raises:
            ValueError: If a training batch has only one value per channel.
        """
        values = x.reshape(-1, x.shape[-1])  # [n * t, c]
        gamma, beta = parts["gamma"], parts["beta"]
        mean, variance = parts["moving_mean"], parts["moving_variance"]
        if noise is None or self.frozen:
            normal = functional.batch_norm(values, mean, variance, gamma, beta, eps=self.epsilon)
            return normal.view(x.shape)
        # With momentum 1 torch writes the batch's own mean and unbiased variance into these two.
        batch_mean, batch_variance = torch.zeros_like(mean), torch.zeros_like(variance)
        normal = functional.batch_norm(
            values,
            batch_mean,
            batch_variance,
            gamma,
            beta,
            training=True,
            momentum=1.0,
            eps=self.epsilon,
        )
        with torch.no_grad():
            count = values.shape[
                0
            ]  # (count - 1) / count turns the unbiased variance into Keras' biased one
            mean.lerp_(batch_mean, 1.0 - self.momentum)
            variance.lerp_(batch_variance * ((count - 1) / count), 1.0 - self.momentum)
        return normal.view(x.shape)


@computes("layer_normalization")
@dataclass(frozen=True, slots=True)
class LayerNormalization(Layer):
    """Normalises the last axis of each position separately.

    Source: Ba, Kiros and Hinton, "Layer Normalization", arXiv:1607.06450, equation 4.
    """

    epsilon: float

    @classmethod
    @override
    def planned(cls, layer: PlannedLayer) -> Self:
        """Build from a plan."""
        return cls(Arguments.of(layer).number("epsilon"))

    @override
    def __call__(self, x: Tensor, parts: Parts, noise: Noise) -> Tensor:
        """Run the layer."""
        return layer_norm(x, parts["gamma"], parts["beta"], self.epsilon)


def layer_norm(x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float) -> Tensor:
    """`(x - mean) / sqrt(var + epsilon) * gamma + beta` over the last axis."""
    return functional.layer_norm(x, (x.shape[-1],), gamma, beta, epsilon)
