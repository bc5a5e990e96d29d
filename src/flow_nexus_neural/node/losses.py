"""The training loss of each task, averaged over the rows of a batch."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from flow_nexus_neural.protocol.plan import NetworkPlan
from flow_nexus_neural.vocabulary import Task

Loss = Callable[[Tensor, Tensor], Tensor]
"""Logits [n, n_outputs] and targets [n] to a scalar."""


def _binary(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.binary_cross_entropy_with_logits(logits.squeeze(1), targets)


def _squared(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.mse_loss(outputs.squeeze(1), targets)


LOSSES: dict[Task, Loss] = {
    "binary": _binary,
    "multiclass": functional.cross_entropy,
    "regression": _squared,
}


def loss_of(plan: NetworkPlan, class_weight: Sequence[float]) -> Loss:
    """The loss of a network's task, with the loss of a row multiplied by the weight of its class.

    The mean is over the rows, not over their weights: a row has the same say in whatever batch and on
    whatever node it is, and a mean of nodes by their rows is that of the whole data set. Keras defines
    `class_weight` so; torch's cross entropy divides by the sum of the batch's weights instead.

    Args:
        plan: Of the network.
        class_weight: One weight per class; empty for the plain loss.

    Raises:
        ValueError: If the weights are not one per class.
    """
    if not class_weight:
        return LOSSES[plan.task]
    n_classes = {"binary": 2, "multiclass": plan.n_outputs}.get(plan.task, 0)
    if len(class_weight) != n_classes:
        raise ValueError(f"{len(class_weight)} class weights for {n_classes} classes")
    weights = torch.tensor(class_weight, dtype=torch.float32)

    def binary(logits: Tensor, targets: Tensor) -> Tensor:
        of_rows = weights[targets.long()]
        return functional.binary_cross_entropy_with_logits(logits.squeeze(1), targets, of_rows)

    def multiclass(logits: Tensor, targets: Tensor) -> Tensor:
        total = functional.cross_entropy(logits, targets, weights, reduction="sum")
        return total / len(targets)

    return binary if plan.task == "binary" else multiclass
