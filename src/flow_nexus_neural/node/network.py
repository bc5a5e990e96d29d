"""A network built from a plan: computes logits from rows and weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flow_nexus_neural.node.inputs import flat_view, sequence_view
from flow_nexus_neural.node.layer import Layer, Noise, Parts
from flow_nexus_neural.node.layers import LAYERS
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.plan import NetworkPlan, PlannedLayer

CHUNK_ROWS = 1024
"""Rows of a flat network per forward pass."""

CHUNK_STEPS = 3200
"""Rows times steps of a sequence network per forward pass: short requests wait for one pass at most."""


class Network:
    """Computes logits. Holds no weights, so it can run with several sets of weights in turn."""

    def __init__(self, plan: NetworkPlan) -> None:
        """Build every layer.

        Raises:
            ValueError: If a layer's type is unknown or its arguments are not valid.
        """
        self.plan = plan
        self._layers = tuple(_built(layer) for layer in plan.layers)

    @property
    def chunk_rows(self) -> int:
        """Rows per forward pass of an inference.

        A function of the plan alone: another chunk size could change the rounding of the results.
        """
        if self.plan.view == "flat":
            return CHUNK_ROWS
        return max(CHUNK_STEPS // self.plan.input.sequence_shape[0], 1)

    def logits(self, rows: Tensor, weights: Weights, noise: Noise = None) -> Tensor:
        """Run the network.

        Args:
            rows: [n, *row_shape] float32.
            weights: Weights of the same plan; running statistics are updated if `noise` is given.
            noise: Generator for dropout; None outside training.

        Returns:
            [n, n_outputs] float32.
        """
        return self.through(self.entered(rows), weights.layers, noise)

    @property
    def row_by_row(self) -> bool:
        """Whether some layer needs a pass of its own for the gradient of each row."""
        return any(layer.row_by_row for layer in self._layers)

    def entered(self, rows: Tensor) -> Tensor:
        """Rows [n, *row_shape] as the first layer takes them."""
        return flat_view(rows) if self.plan.view == "flat" else sequence_view(rows, self.plan.input)

    def through(self, x: Tensor, tensors: Sequence[Parts], noise: Noise) -> Tensor:
        """What the layers make of rows that have entered, with these tensors of each layer."""
        for planned, layer, parts in zip(self.plan.layers, self._layers, tensors, strict=True):
            if planned.take_last_step and x.dim() == 3:
                x = x[:, -1]
            x = layer(x, parts, noise)
        return x

    def check(self, weights: Weights) -> None:
        """Run the network on one row of zeros.

        Raises:
            ValueError: If the output is not [1, n_outputs].
            RuntimeError: If shapes inside the network do not fit.
            KeyError: If a layer lacks a tensor.
        """
        with torch.inference_mode():
            logits = self.logits(torch.zeros(1, *self.plan.input.row_shape), weights)
        if logits.shape != (1, self.plan.n_outputs):
            raise ValueError(
                f"the plan's last layer gives {tuple(logits.shape)} for one row,"
                f" its task needs (1, {self.plan.n_outputs})"
            )


def _built(layer: PlannedLayer) -> Layer:
    layer_class = LAYERS.get(layer.type)
    if layer_class is None:
        known = ", ".join(sorted(LAYERS))
        raise ValueError(f"layer type {layer.type!r} is unknown; known are {known}")
    return layer_class.planned(layer)
