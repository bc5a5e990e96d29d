"""Default networks on tasks that suit them, with a control that cannot be learnt."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.node.initializers import initial_weights
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.trainer import Shard, Workspace, train
from flow_nexus_neural.protocol.messages import Pass, Train
from flow_nexus_neural.protocol.plan import InputSpec

torch.set_num_threads(1)

CRYPTO = InputSpec(vector_length=50, n_scalars=3)
DIGIT_ROWS = InputSpec(vector_length=0, n_scalars=8, window=8)


def planned(architecture, model, rows, task, n_outputs):
    layers = parse_layers(default_layers(architecture, model, "worker", 0)).layers
    return plan_network(
        layers, input=rows, task=task, n_outputs=n_outputs, max_parameters=10_000_000
    ).plan


def trained(plan, x, y, passes, batch_size=32):
    """Progress, final weights and network after `passes` passes of Adam from fresh weights."""
    network = Network(plan)
    workspace = Workspace(network)
    params, buffers = initial_weights(plan, 1)
    zeros = np.zeros_like(params)
    workspace.load({"params": params, "buffers": buffers, "m": zeros, "v": zeros}, "adam")
    request = Train(
        network="n",
        base="b",
        opt_step=0,
        shard="s",
        publish="p",
        optimizer="adam",
        learning_rate=3e-3,
        batch_size=batch_size,
        passes=tuple(Pass(order_seed=number) for number in range(passes)),
        dropout_seed=0,
    )
    progress = train(network, workspace, Shard(x, y), request, lambda duration_ms: None)
    return progress, workspace.weights, network


def accuracy(network, weights, x, y):
    with torch.inference_mode():
        logits = network.logits(torch.from_numpy(x), weights).numpy()
    decided = logits.argmax(1) if logits.shape[1] > 1 else logits[:, 0] > 0
    return float((decided == y).mean())


def digits():
    """Pictures of digits as sequences of 8 rows of 8 pixels, 1,200 to train and 597 to test."""
    pictures = load_digits()
    order = np.random.default_rng(0).permutation(len(pictures.target))
    x = (pictures.images[order] / 8.0 - 1.0).astype(np.float32)
    y = pictures.target[order].astype(np.int64)
    return (x[:1200], y[:1200]), (x[1200:], y[1200:])


def neighbours(rows, seed):
    """Two spikes in 50 noisy steps; the question is whether they are at most 2 steps apart."""
    draw = np.random.default_rng(seed)
    x = 0.1 * draw.standard_normal((rows, 53)).astype(np.float32)
    y = draw.integers(0, 2, rows)
    first = draw.integers(0, 30, rows)
    gap = np.where(y == 1, draw.integers(1, 3, rows), draw.integers(6, 20, rows))
    x[np.arange(rows), first] += 3.0
    x[np.arange(rows), first + gap] += 3.0
    return x, y.astype(np.float32)


@pytest.mark.parametrize("architecture", ["rnn", "cnn", "transformer"])
def test_a_default_network_of_each_family_reads_digits_row_by_row(architecture):
    (x, y), (test_x, test_y) = digits()
    plan = planned(architecture, "base", DIGIT_ROWS, "multiclass", 10)
    _, weights, network = trained(plan, x, y, passes=6)
    # 0.87 to 0.95 over dropout seeds.
    assert accuracy(network, weights, test_x, test_y) > 0.86


def test_the_default_graph_network_knows_which_steps_are_neighbours():
    plan = planned("gnn", "base", CRYPTO, "binary", 1)
    _, weights, network = trained(plan, *neighbours(800, 1), passes=8)
    assert accuracy(network, weights, *neighbours(400, 2)) > 0.9


def test_shuffled_labels_teach_nothing():
    (x, y), (test_x, test_y) = digits()
    plan = planned("rnn", "base", DIGIT_ROWS, "multiclass", 10)
    shuffled = np.random.default_rng(1).permutation(y)
    _, weights, network = trained(plan, x, shuffled, passes=6)
    assert accuracy(network, weights, test_x, test_y) < 0.2


@pytest.mark.parametrize("model", ["large", "xl"])
@pytest.mark.parametrize("architecture", ["rnn", "cnn", "transformer", "gnn"])
def test_every_larger_default_moves_all_its_tensors_in_one_step(architecture, model):
    plan = planned(architecture, model, CRYPTO, "binary", 1)
    progress, weights, _ = trained(plan, *neighbours(4, 3), passes=1, batch_size=4)
    assert progress.steps == 1
    assert progress.loss is not None
    start, _ = initial_weights(plan, 1)
    moved = weights.params.numpy() != start
    position = 0
    for tensor in plan.trainable:
        share = moved[position : position + tensor.size].mean()
        # A constant added to every key changes no softmax: key biases have gradient 0, up to rounding.
        assert share > 0.3 or tensor.name.endswith("key_bias"), tensor.name
        position += tensor.size
