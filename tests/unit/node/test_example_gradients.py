"""Gradients of single rows: the same as one by one, clipped together over all parameters."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node import example_gradients
from flow_nexus_neural.node.example_gradients import ExampleGradients, add_clipped
from flow_nexus_neural.node.losses import loss_of
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights
from tests.unit.node.building import FLAT, SEQUENCE, plan_of, rows, weights_of

NETWORKS = {
    "dense": ([{"type": "dense", "units": 6, "activation": "tanh"}], FLAT, "multiclass"),
    "normalised": (
        [{"type": "dense", "units": 6}, {"type": "layer_normalization"}],
        FLAT,
        "regression",
    ),
    "convolution": (
        [
            {"type": "conv1d", "filters": 4, "kernel_size": 3, "activation": "relu"},
            {"type": "max_pooling1d", "pool_size": 2},
            {"type": "flatten"},
        ],
        SEQUENCE,
        "binary",
    ),
    "graph": (
        [{"type": "graph_conv", "units": 4}, {"type": "global_average_pooling1d"}],
        SEQUENCE,
        "binary",
    ),
    "attention": (
        [
            {"type": "positional_encoding"},
            {"type": "multi_head_attention", "num_heads": 2, "key_dim": 3, "dropout": 0.0},
        ],
        SEQUENCE,
        "binary",
    ),
    "encoder": (
        [
            {"type": "dense", "units": 4},
            {"type": "transformer_encoder", "num_heads": 2, "dropout": 0.0},
        ],
        SEQUENCE,
        "multiclass",
    ),
    "every_step": (
        [
            {"type": "multi_head_attention", "num_heads": 2, "key_dim": 3, "dropout": 0.0},
            {"type": "global_average_pooling1d"},
        ],
        SEQUENCE,
        "binary",
    ),
    "lstm": ([{"type": "lstm", "units": 4}], SEQUENCE, "binary"),
    "dropout": (
        [{"type": "dense", "units": 6}, {"type": "dropout", "rate": 0.5}],
        FLAT,
        "binary",
    ),
}
AT_ONCE = {"dense", "normalised", "convolution", "graph", "attention", "encoder"}


def given(name, n=7):
    layers, spec, task = NETWORKS[name]
    plan = plan_of(layers, spec, task)
    weights = Weights(plan, trainable=True)
    start = weights_of(plan)
    weights.load(start.params.numpy(), start.buffers.numpy())
    x = torch.from_numpy(rows(n, spec))
    y = np.arange(n) % 2
    targets = y if task == "multiclass" else y.astype(np.float32)
    return Network(plan), weights, x, torch.from_numpy(targets)


def one_by_one(network, weights, x, y, noise):
    """[n, n_params] by the way that trains without privacy, and the losses."""
    loss_function, found, losses = loss_of(network.plan, ()), [], []
    for k in range(len(x)):
        weights.grads.zero_()
        loss = loss_function(network.logits(x[k : k + 1], weights, noise), y[k : k + 1])
        loss.backward()
        found.append(weights.grads.clone().double())
        losses.append(loss.item())
    return torch.stack(found), losses


@pytest.mark.parametrize("name", NETWORKS)
def test_the_sum_is_that_of_gradients_one_by_one_each_clipped_as_a_whole(name, monkeypatch):
    network, weights, x, y = given(name)
    single, losses = one_by_one(network, weights, x, y, torch.Generator().manual_seed(4))
    norms = single.norm(dim=1)
    clip = float(norms.median())
    assert (norms > clip).any()
    expected = (single * (clip / norms).clamp(max=1.0)[:, None]).sum(0)
    monkeypatch.setattr(example_gradients, "CHUNK_VALUES", 3 * network.plan.n_params)
    made = ExampleGradients(network, weights, loss_of(network.plan, ()))
    total, loss = made.clipped_sum(x, y, clip, torch.Generator().manual_seed(4))
    assert made._chunk == (3 if name in AT_ONCE else 1)
    assert float((total - expected).norm()) < 1e-6 * float(expected.norm())
    assert loss == pytest.approx(sum(losses), rel=1e-5)


def test_no_row_gives_no_gradient_and_one_that_is_not_finite_counts_as_zero():
    network, weights, x, y = given("dense")
    made = ExampleGradients(network, weights, loss_of(network.plan, ()))
    total, loss = made.clipped_sum(x[:0], y[:0], 1.0, None)
    assert (float(total.abs().max()), loss) == (0.0, 0.0)
    without, _ = made.clipped_sum(x[1:], y[1:], 1.0, None)
    x[0] = float("nan")
    with_bad, _ = made.clipped_sum(x, y, 1.0, None)
    assert torch.equal(with_bad, without)


def test_a_zero_gradient_stays_zero_and_a_huge_one_has_the_clip_norm():
    into = [torch.zeros(3), torch.zeros(2, 2)]
    add_clipped([torch.zeros(1, 3), torch.zeros(1, 2, 2)], 0.5, into)
    assert all(float(one.abs().max()) == 0.0 for one in into)
    add_clipped([torch.full((1, 3), 1e30), torch.full((1, 2, 2), -1e30)], 0.5, into)
    assert float(torch.cat([one.flatten() for one in into]).norm()) == pytest.approx(0.5)


def test_networks_with_running_statistics_are_refused():
    plan = plan_of([{"type": "dense", "units": 3}, {"type": "batch_normalization"}], FLAT)
    with pytest.raises(ValueError, match="running statistics"):
        ExampleGradients(Network(plan), Weights(plan, trainable=True), loss_of(plan, ()))


def test_where_torch_cannot_batch_weights_rows_are_taken_one_by_one(monkeypatch):
    example_gradients.rows_at_once_is_sound.cache_clear()
    monkeypatch.setattr(example_gradients, "over_rows", lambda one, n: lambda *a: one(*a)[n:])
    network, weights, _, _ = given("dense")
    assert ExampleGradients(network, weights, loss_of(network.plan, ()))._chunk == 1
    example_gradients.rows_at_once_is_sound.cache_clear()
