"""The training loss of each task, averaged over the rows of a batch."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional

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
