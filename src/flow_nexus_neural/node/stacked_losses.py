"""The losses of `node.losses` over a stack of clients, with their derivatives by the logits.

Shapes: C clients, n rows, k outputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from flow_nexus_neural.node.stacked_layers import Flow
from flow_nexus_neural.protocol.messages import Train
from flow_nexus_neural.protocol.plan import NetworkPlan

StackedLoss = Callable[[Flow, Tensor, Tensor], Tensor]
"""Logits [C, n, k], targets [C, n] and each row's share of its client's mean [C, n] to the losses of rows
[C, n]; sets the slope of the logits."""


def loss_of(plan: NetworkPlan, request: Train) -> StackedLoss:
    """The loss of a network's task, each row's times the weight of its class.

    Raises:
        ValueError: If the weights are not one per class.
    """
    weights = request.class_weight
    n_classes = {"binary": 2, "multiclass": plan.n_outputs}.get(plan.task, 0)
    if weights and len(weights) != n_classes:
        raise ValueError(f"{len(weights)} class weights for {n_classes} classes")
    of_class = torch.tensor(weights, dtype=torch.float32) if weights else None

    def squared(flow: Flow, y: Tensor, share: Tensor) -> Tensor:
        apart = flow.values.squeeze(-1) - y
        _slope(flow).squeeze(-1).copy_(apart).mul_(2.0 * share)
        return apart.square_()

    def binary(flow: Flow, y: Tensor, share: Tensor) -> Tensor:
        z = flow.values.squeeze(-1)
        of_rows = None if of_class is None else of_class[y.long()]
        slope = torch.sigmoid(z).sub_(y)
        if of_rows is not None:
            slope.mul_(of_rows)
        _slope(flow).squeeze(-1).copy_(slope).mul_(share)
        return functional.binary_cross_entropy_with_logits(z, y, of_rows, reduction="none")

    def multiclass(flow: Flow, y: Tensor, share: Tensor) -> Tensor:
        of_rows = share if of_class is None else share * of_class[y]
        logs = torch.log_softmax(flow.values, dim=-1)
        slope = _slope(flow)
        torch.exp(logs, out=slope).mul_(of_rows[..., None])
        slope.scatter_add_(-1, y[..., None], -of_rows[..., None])
        losses = -logs.gather(-1, y[..., None]).squeeze(-1)
        return losses if of_class is None else losses * of_class[y]

    return {"binary": binary, "multiclass": multiclass, "regression": squared}[plan.task]


def _slope(flow: Flow) -> Tensor:
    if flow.slope is None:
        raise ValueError("a network without tensors cannot be trained")
    return flow.slope
