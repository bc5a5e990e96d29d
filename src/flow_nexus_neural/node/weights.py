"""The weights of a network: two flat vectors and named views into them.

So loading is one copy per vector, an optimiser works on whole vectors, and autograd accumulates gradients in
a third flat vector. Two `Weights` of one plan share no memory.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flow_nexus_neural.node.layer import Parts
from flow_nexus_neural.protocol.digest import weights_digest
from flow_nexus_neural.protocol.plan import NetworkPlan, PlannedLayer, TensorSpec


class Weights:
    """Values for the tensors of one plan.

    Attributes:
        params: [n_params] float32, the trainable tensors in the plan's order.
        buffers: [n_buffers] float32, the others.
        grads: [n_params] float32 if trainable, else empty; `backward` adds to it, zero it before.
        layers: Per layer of the plan, its tensors by part name, as views.
    """

    def __init__(self, plan: NetworkPlan, *, trainable: bool = False) -> None:
        self._plan = plan
        self.params = torch.zeros(plan.n_params)
        self.buffers = torch.zeros(plan.n_buffers)
        self.grads = torch.zeros(plan.n_params if trainable else 0)
        views = views_of(self.params, plan.trainable) | views_of(self.buffers, plan.buffers)
        if trainable:
            grads = views_of(self.grads, plan.trainable)
            for name, grad in grads.items():
                views[name].requires_grad_()
                views[name].grad = grad
        self.layers: tuple[Parts, ...] = tuple(parts_of(layer, views) for layer in plan.layers)

    def load(self, params: NDArray[Any], buffers: NDArray[Any]) -> None:
        """Copy both vectors into this object's memory.

        Raises:
            ValueError: If one is not exactly as long as the plan says.
        """
        # Copied by numpy: torch warns about read-only arrays, and mapped regions are read-only.
        for mine, given in ((self.params.numpy(), params), (self.buffers.numpy(), buffers)):
            if mine.shape != given.shape:
                raise ValueError(f"a vector of {given.shape} does not fit a plan's {mine.shape}")
            np.copyto(mine, given)

    def arrays(self) -> dict[str, NDArray[np.float32]]:
        """Views of `params` and `buffers`."""
        return {"params": self.params.numpy(), "buffers": self.buffers.numpy()}

    def digest(self) -> str:
        """Digest of the weights, equal to the one that the engine computes."""
        return weights_digest(self._plan, self.params.numpy(), self.buffers.numpy())


def views_of(vector: Tensor, specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """Views of a flat vector by tensor name, without gradients."""
    views: dict[str, Tensor] = {}
    start = 0
    for spec in specs:
        # .data gives each view its own version counter. With a shared one autograd would take the update of
        # one running mean for an in-place change of every frozen kernel, and refuse to run backward.
        views[spec.name] = vector[start : start + spec.size].view(spec.shape).data
        start += spec.size
    return views


def parts_of(layer: PlannedLayer, views: Parts) -> Parts:
    """The tensors of one layer by part name, of all tensors by their whole names."""
    prefix = "head." if layer.index is None else f"layers.{layer.index}."
    for spec in layer.tensors:
        if not spec.name.startswith(prefix):
            raise ValueError(f"tensor {spec.name} of a plan is not named {prefix}<part>")
    return {spec.name.removeprefix(prefix): views[spec.name] for spec in layer.tensors}
