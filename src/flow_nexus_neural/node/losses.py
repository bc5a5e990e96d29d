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


SOFT = 0.5
"""Share of the teacher in what a student learns; the rest is the labels'."""


def distilled(plan: NetworkPlan, temperature: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss of a student: of logits [n, n_outputs], targets [n] and a teacher's logits [n, n_outputs].

    It is .5 T^2 KL(teacher || student), both at temperature T, and .5 of the task's own loss. For regression
    the first half is the squared distance from the teacher, whatever T is.

    Args:
        plan: Of the network.
        temperature: T >= 1.

    Source: Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2.
    """
    hard, t = LOSSES[plan.task], temperature

    def binary(logits: Tensor, teacher: Tensor) -> Tensor:
        p = torch.sigmoid(teacher / t)
        cross = functional.binary_cross_entropy_with_logits(logits / t, p)
        own = functional.binary_cross_entropy_with_logits(teacher / t, p)
        return t * t * (cross - own)

    def multiclass(logits: Tensor, teacher: Tensor) -> Tensor:
        log_q, log_p = (functional.log_softmax(x / t, dim=1) for x in (logits, teacher))
        return t * t * functional.kl_div(log_q, log_p, reduction="batchmean", log_target=True)

    of_teacher: dict[Task, Loss] = {
        "binary": binary,
        "multiclass": multiclass,
        "regression": functional.mse_loss,
    }
    soft = of_teacher[plan.task]

    def loss(logits: Tensor, targets: Tensor, teacher: Tensor) -> Tensor:
        return SOFT * soft(logits, teacher) + (1 - SOFT) * hard(logits, targets)

    return loss


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
