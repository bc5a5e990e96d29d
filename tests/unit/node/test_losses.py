"""What a step lowers: the loss of a task, each row by the weight of its class."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.losses import LOSSES, distilled, loss_of
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


DISTILLED = (
    ("binary", [[0.3], [-1.0]], [1.0, 0.0], [[2.0], [-1.0]]),
    ("multiclass", [[0.3, 0.0, 1.0], [1.0, 2.0, 0.5]], [2, 0], [[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]]),
)


@pytest.mark.parametrize(("task", "logits", "y", "teacher"), DISTILLED)
def test_a_student_learns_half_from_labels_and_half_from_its_teachers_softened_probabilities(
    task, logits, y, teacher
):
    plan = SimpleNamespace(task=task, n_outputs=len(logits[0]))
    labels = torch.tensor(y)
    found = distilled(plan, 2.0)(torch.tensor(logits), labels, torch.tensor(teacher))
    full = [
        np.array(x) if task == "multiclass" else np.hstack([np.zeros((2, 1)), x])
        for x in (logits, teacher)
    ]
    log_q, log_p = (x / 2 - np.log(np.exp(x / 2).sum(axis=1, keepdims=True)) for x in full)
    kl = (np.exp(log_p) * (log_p - log_q)).sum(axis=1).mean()
    hard = full[0] - np.log(np.exp(full[0]).sum(axis=1, keepdims=True))
    ce = -hard[np.arange(2), np.array(y, int)].mean()
    assert float(found) == pytest.approx(0.5 * 4 * kl + 0.5 * ce, rel=1e-5)


def test_a_student_of_values_is_between_labels_and_teacher():
    plan = SimpleNamespace(task="regression", n_outputs=1)
    x = torch.tensor([[1.0]])
    found = distilled(plan, 2.0)(x, torch.tensor([3.0]), torch.tensor([[2.0]]))
    assert float(found) == pytest.approx(0.5 * 1 + 0.5 * 4)


def test_a_node_learns_from_a_teacher_only_where_the_shard_has_a_whole_and_finite_one():
    service, _, published, x, y = service_with(BINARY)
    teacher = np.ones((len(x), 1), np.float32)
    broken = teacher.copy()
    broken[3] = np.nan
    for arrays in ({}, {"teacher": teacher[1:]}, {"teacher": broken}):
        service.attach("shard", {"x": x, "y": y, **arrays}, writable=False)
        reply, _ = service.handle(train_request(temperature=2.0), {}, never)
        assert isinstance(reply, Failed)
        assert np.isnan(published["params"]).all()
    service.attach("shard", {"x": x, "y": y, "teacher": teacher}, writable=False)
    taught, _ = ask(service, train_request(temperature=2.0))
    alone, _ = ask(service, train_request())
    assert taught.digest != alone.digest


@pytest.mark.parametrize("temperature", [0.0, 0.5, -1.0, float("nan"), 1e9])
def test_a_temperature_below_one_or_without_end_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature"):
        train_request(temperature=temperature)
