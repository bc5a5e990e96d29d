"""Clients that are trained in a stack get what each gets alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.stacked import (
    Client,
    can_be_stacked,
    can_share_a_stack,
    clients_per_stack,
    train_stacked,
)
from flow_nexus_neural.node.trainer import Shard, Workspace, train
from flow_nexus_neural.protocol.messages import Pass
from tests.unit.node.building import FLAT, plan_of, rows, train_request, weights_of

EQUAL = {"rtol": 0, "atol": 1e-6}
DENSE = [{"type": "dense", "units": 7, "activation": "relu"}, {"type": "dense", "units": 4}]
DROPPED = [DENSE[0], {"type": "dropout", "rate": 0.4}, DENSE[1]]


def _quiet(_step_ms, _numbers):
    return None


def _client(plan, number, count, request, seed=5):
    rng = np.random.default_rng([seed, number])
    x = rows(count, plan.input, 100 * seed + number)
    classes = rng.integers(0, max(plan.n_outputs, 2), count)
    y = classes if plan.task == "multiclass" else classes.astype(np.float32)
    weights = weights_of(plan, number + 1).arrays()
    base = {**weights}
    for name in ("m", "v"):
        base[name] = np.abs(rng.normal(size=plan.n_params)).astype(np.float32) * 0.01
    return Client(base, Shard(x, y), request)


def _cohort(plan, counts, **changes):
    return [
        _client(
            plan,
            number,
            count,
            train_request(
                learning_rate=1e-3,
                dropout_seed=50 + number,
                passes=(Pass(order_seed=number), Pass(order_seed=90 + number)),
                opt_step=4,
                **changes,
            ),
        )
        for number, count in enumerate(counts)
    ]


def _alone(plan, client):
    network = Network(plan)
    workspace = Workspace(network)
    workspace.load(dict(client.base), client.request.optimizer)
    progress = train(network, workspace, client.shard, client.request, lambda _: None)
    return progress, workspace.state(client.request.optimizer)


def _require_equal(plan, clients):
    for client, outcome in zip(clients, train_stacked(plan, clients, _quiet), strict=True):
        progress, state = _alone(plan, client)
        assert outcome.progress.steps == progress.steps
        assert outcome.progress.opt_step == progress.opt_step
        if progress.loss is None:
            assert outcome.progress.loss is None
        else:
            assert outcome.progress.loss == pytest.approx(progress.loss, abs=1e-6)
        for name, vector in outcome.state.items():
            np.testing.assert_allclose(vector, state[name], **EQUAL, err_msg=name)


@settings(max_examples=12, deadline=None)
@given(
    layers=st.sampled_from([DENSE, DROPPED, [{"type": "dropout", "rate": 0.2}, DENSE[0]]]),
    task=st.sampled_from(["binary", "multiclass", "regression"]),
    counts=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    optimizer=st.sampled_from(["adam", "sgd", "rmsprop", "adagrad"]),
    feature_dropout=st.sampled_from([0.0, 0.3]),
)
def test_weights_moments_and_losses_are_those_of_each_client_alone(
    layers, task, counts, optimizer, feature_dropout
):
    plan = plan_of(layers, FLAT, task)
    changes = {"optimizer": optimizer, "feature_dropout": feature_dropout}
    _require_equal(plan, _cohort(plan, counts, **changes))


@pytest.mark.parametrize("name", ["linear", "tanh", "sigmoid", "leaky_relu", "gelu", "softmax"])
def test_every_activation_has_its_derivative(name):
    layers = [{"type": "dense", "units": 5, "activation": name}]
    if name == "leaky_relu":
        layers += [{"type": "leaky_relu"}, {"type": "activation", "activation": "elu"}]
    plan = plan_of(layers, FLAT, "regression")
    _require_equal(plan, _cohort(plan, [20, 13, 20]))


@pytest.mark.parametrize(
    ("task", "weights"), [("binary", (0.5, 2.0)), ("multiclass", (0.2, 1.0, 3.0))]
)
def test_a_row_counts_as_much_as_its_class(task, weights):
    plan = plan_of(DENSE, FLAT, task)
    _require_equal(plan, _cohort(plan, [20, 9], class_weight=weights))


def test_class_weights_that_are_not_one_a_class_are_refused():
    plan = plan_of(DENSE, FLAT, "multiclass")
    with pytest.raises(ValueError, match="2 class weights for 3 classes"):
        train_stacked(plan, _cohort(plan, [9, 9], class_weight=(1.0, 2.0)), _quiet)


def test_parts_of_a_pass_are_trained_as_they_are_asked_for():
    plan = plan_of(DENSE, FLAT)
    clients = _cohort(plan, [40, 40])
    part = clients[1].request.model_copy(
        update={"passes": (Pass(order_seed=3, start=1, stop=3), Pass(order_seed=4, stop=1))}
    )
    _require_equal(plan, [clients[0], Client(clients[1].base, clients[1].shard, part)])


def test_more_clients_than_one_stack_takes_are_trained_in_several(monkeypatch):
    plan = plan_of(DENSE, FLAT)
    monkeypatch.setattr("flow_nexus_neural.node.stacked.STACK_BYTES", 1)
    assert clients_per_stack(plan.n_params, 2) == 2
    clients = _cohort(plan, [20, 9, 20, 33, 4])
    _require_equal(plan, clients)
    assert [one.stacked for one in train_stacked(plan, clients, _quiet)] == [2, 2, 2, 2, 1]


def test_equal_clients_give_equal_bytes():
    plan = plan_of(DROPPED, FLAT)
    one, other = (train_stacked(plan, _cohort(plan, [20, 33, 4]), _quiet) for _ in range(2))
    for mine, theirs in zip(one, other, strict=True):
        assert all(np.array_equal(v, theirs.state[name]) for name, v in mine.state.items())


def test_a_client_that_diverges_harms_no_other():
    plan = plan_of(DENSE, FLAT, "regression")
    clients = _cohort(plan, [20, 20, 20])
    clients[1].shard.x[:] = np.float32(3e38)
    outcomes = train_stacked(plan, clients, _quiet)
    assert outcomes[1].progress.loss is None
    for number in (0, 2):
        _, state = _alone(plan, clients[number])
        np.testing.assert_allclose(outcomes[number].state["params"], state["params"], **EQUAL)


def test_each_step_is_told_with_those_who_made_it():
    plan = plan_of(DENSE, FLAT)
    told = []
    train_stacked(plan, _cohort(plan, [8, 24, 16]), lambda ms, who: told.append((ms >= 0, who)))
    who = [[0, 1, 2]] * 2 + [[1, 2]] * 2 + [[1]] * 2
    assert told == [(True, one) for one in who]


def test_nothing_is_drawn_from_the_global_generator():
    import torch

    before = torch.random.get_rng_state()
    plan = plan_of(DROPPED, FLAT)
    train_stacked(plan, _cohort(plan, [8, 8]), _quiet)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "layers",
    [
        [*DENSE, {"type": "batch_normalization"}],
        [*DENSE, {"type": "layer_normalization"}],
        [{"type": "lstm", "units": 3}],
        [{**DENSE[0], "trainable": False}, DENSE[1]],
    ],
)
def test_other_networks_are_not_stacked(layers):
    assert can_be_stacked(plan_of(DENSE, FLAT), train_request())
    plan = plan_of(layers, FLAT)
    assert not can_be_stacked(plan, train_request())
    with pytest.raises(ValueError, match="cannot be trained in a stack"):
        train_stacked(plan, _cohort(plan, [8, 8]), _quiet)


@pytest.mark.parametrize(
    "change", [{"proximal_mu": 0.1}, {"temperature": 2.0}, {"kept": True}, {"control": "c"}]
)
def test_other_trainings_are_not_stacked(change):
    assert not can_be_stacked(plan_of(DENSE, FLAT), train_request(**change))


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 0.5}, {"batch_size": 9}, {"optimizer": "sgd"}, {"opt_step": 1}],
)
def test_only_trainings_that_differ_in_rows_order_and_draws_share_a_stack(change):
    one = train_request()
    assert can_share_a_stack(one, train_request(dropout_seed=1, passes=(Pass(order_seed=2),)))
    assert not can_share_a_stack(one, train_request(**change))
