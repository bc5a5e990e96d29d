"""What a step lowers: the loss of a task, each row by the weight of its class."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.losses import LOSSES, loss_of
from flow_nexus_neural.protocol.messages import Failed, Trained
from tests.unit.node.building import FLAT, ask, never, plan_of, service_with, train_request

DENSE = [{"type": "dense", "units": 5, "activation": "tanh"}]
BINARY = plan_of(DENSE, FLAT)
MULTICLASS = plan_of(DENSE, FLAT, task="multiclass", n_outputs=3)
REGRESSION = plan_of(DENSE, FLAT, task="regression")


def batch(plan, rows=7):
    draw = torch.Generator().manual_seed(4)
    logits = torch.randn(rows, plan.n_outputs, generator=draw)
    y = torch.arange(rows) % max(2, plan.n_outputs)
    return logits, y if plan.task == "multiclass" else y.float()


@pytest.mark.parametrize(("plan", "weights"), [(BINARY, (0.5, 4.0)), (MULTICLASS, (0.5, 4.0, 2.0))])
def test_the_weighted_loss_is_the_mean_over_rows_of_weight_times_loss(plan, weights):
    logits, y = batch(plan)
    of_rows = [float(LOSSES[plan.task](logits[i : i + 1], y[i : i + 1])) for i in range(len(y))]
    by_hand = np.mean([weights[int(label)] * one for label, one in zip(y, of_rows, strict=True)])
    assert float(loss_of(plan, weights)(logits, y)) == pytest.approx(by_hand, rel=1e-6)


@pytest.mark.parametrize("plan", [BINARY, MULTICLASS], ids=["binary", "multiclass"])
def test_weights_of_one_give_the_bytes_of_none(plan):
    found = []
    for weights in ((), (1.0,) * max(2, plan.n_outputs)):
        service, _, published, _, _ = service_with(plan, count=30)
        reply, _ = ask(service, train_request(class_weight=weights))
        assert isinstance(reply, Trained)
        found.append((reply.digest, reply.loss, reply.steps, published["params"].tobytes()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("plan", "weights", "told"),
    [
        (BINARY, (1.0,), "1 class weights for 2 classes"),
        (BINARY, (1.0, 2.0, 3.0), "3 class weights for 2 classes"),
        (MULTICLASS, (1.0, 2.0), "2 class weights for 3 classes"),
        (REGRESSION, (1.0, 2.0), "2 class weights for 0 classes"),
    ],
)
def test_weights_that_are_not_one_per_class_are_refused_before_the_first_step(plan, weights, told):
    service, _, published, _, _ = service_with(plan)
    reply, _ = service.handle(train_request(class_weight=weights), {}, never)
    assert isinstance(reply, Failed)
    assert told in reply.message
    assert np.isnan(published["params"]).all()


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan"), float("inf"), 1e9])
def test_a_node_takes_no_weight_that_a_caller_could_not_give(weight):
    with pytest.raises(ValueError, match="class_weight"):
        train_request(class_weight=(1.0, weight))
