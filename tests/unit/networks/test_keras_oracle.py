"""Our networks against Keras 3: parameter counts, forward, gradients, running statistics, optimisers."""

from math import prod

import numpy as np
import pytest
import torch

from flow_nexus_neural.errors import InvalidArchitecture
from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.networks.layers import LAYER_TYPES
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure, plan_network
from flow_nexus_neural.node.initializers import initial_tensor, initial_weights
from flow_nexus_neural.node.losses import LOSSES
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.optimizers import ADAGRAD_INITIAL
from flow_nexus_neural.node.trainer import Shard, Workspace, train
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.messages import Pass, Train
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import InputSpec, TensorSpec
from tests.unit.networks.keras_twin import BUILDERS, Twin, keras

VECTOR = InputSpec(vector_length=9, n_scalars=2)
WINDOW = InputSpec(vector_length=0, n_scalars=4, window=11)
ROWS = 6

ACTIVATIONS = (
    "linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "mish", "tanh",
    "sigmoid", "hard_sigmoid", "softmax", "softplus", "softsign", "exponential",
)  # fmt: skip


def planned(raw, rows=VECTOR, task="binary", n_outputs=1):
    layers = parse_layers(raw).layers
    check_structure(layers)
    return plan_network(
        layers, input=rows, task=task, n_outputs=n_outputs, max_parameters=1_000_000
    ).plan


def drawn_weights(plan, seed=0):
    """Initial weights with every tensor moved, so that no bias, scale or statistic is trivial."""
    draw = np.random.default_rng(seed)
    params, buffers = initial_weights(plan, seed)
    params = params + draw.uniform(-0.2, 0.2, params.shape).astype(np.float32)
    return params, buffers + draw.uniform(0.1, 0.4, buffers.shape).astype(np.float32)


def drawn_batch(plan, seed=0, rows=ROWS):
    draw = np.random.default_rng(seed)
    x = draw.standard_normal((rows, *plan.input.row_shape)).astype(np.float32)
    if plan.task == "multiclass":
        return x, draw.integers(0, plan.n_outputs, rows)
    y = draw.integers(0, 2, rows) if plan.task == "binary" else draw.standard_normal(rows)
    return x, y.astype(np.float32)


def ours_and_keras(plan, seed=0):
    params, buffers = drawn_weights(plan, seed)
    weights = Weights(plan, trainable=True)
    weights.load(params, buffers)
    twin = Twin(plan)
    twin.load(params, buffers)
    return Network(plan), weights, twin


def assert_close(mine, oracle, tolerance=1e-5):
    """Within `tolerance` of the largest value, but of 1 at least."""
    scale = max(1.0, float(np.abs(oracle).max(initial=0.0)))
    np.testing.assert_allclose(mine, oracle, rtol=0, atol=tolerance * scale)


def assert_same_function_and_gradient(plan, seed=0):
    network, weights, twin = ours_and_keras(plan, seed)
    assert plan.n_params == sum(prod(v.shape) for v in twin.model.trainable_variables)
    assert plan.n_params + plan.n_buffers == twin.model.count_params()
    x, y = drawn_batch(plan, seed)
    with torch.inference_mode():
        logits = network.logits(torch.from_numpy(x), weights)
    assert_close(logits.numpy(), twin.logits(x).detach().numpy())
    weights.grads.zero_()
    noise = torch.Generator().manual_seed(0)
    loss = LOSSES[plan.task](
        network.logits(torch.from_numpy(x), weights, noise), torch.from_numpy(y)
    )
    torch.autograd.backward(loss)
    keras_loss, keras_grads = twin.gradients(x, y)
    assert_close(loss.item(), keras_loss)
    assert_close(weights.grads.numpy(), keras_grads)
    assert np.abs(keras_grads).max() > 1e-6
    assert_close(weights.buffers.numpy(), twin.flat(plan.buffers))


def dense(units=3, **args):
    return {"type": "dense", "units": units, **args}


SEQUENCE_LAYERS = [
    {"type": "lstm", "units": 5},
    {"type": "lstm", "units": 5, "return_sequences": True, "go_backwards": True},
    {"type": "lstm", "units": 3, "activation": "relu", "recurrent_activation": "hard_sigmoid"},
    {"type": "gru", "units": 5, "return_sequences": True},
    {"type": "gru", "units": 4, "go_backwards": True},
    {"type": "gru", "units": 3, "activation": "softsign"},
    {"type": "simple_rnn", "units": 5, "return_sequences": True},
    {"type": "simple_rnn", "units": 5, "activation": "relu", "go_backwards": True},
    {"type": "simple_rnn", "units": 5, "activation": "elu"},
    {"type": "bidirectional", "layer": {"type": "lstm", "units": 3, "return_sequences": True}},
    {"type": "bidirectional", "layer": {"type": "gru", "units": 3}, "merge_mode": "sum"},
    {
        "type": "bidirectional",
        "layer": {"type": "gru", "units": 3, "return_sequences": True},
        "merge_mode": "mul",
    },
    {"type": "bidirectional", "layer": {"type": "lstm", "units": 3}, "merge_mode": "ave"},
    {"type": "attention", "heads": 2, "key_dim": 3},
    {"type": "attention", "heads": 3, "key_dim": 5, "causal": True},
    {"type": "transformer_encoder", "heads": 1, "depth": 2, "dropout": 0},
    {"type": "positional_encoding"},
    {"type": "conv1d", "filters": 5, "kernel_size": 3, "activation": "relu"},
    {"type": "conv1d", "filters": 5, "kernel_size": 4, "padding": "same"},
    {"type": "conv1d", "filters": 5, "kernel_size": 4, "padding": "same", "strides": 3},
    {"type": "conv1d", "filters": 5, "kernel_size": 3, "strides": 2},
    {"type": "conv1d", "filters": 5, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
    {"type": "graph_conv", "units": 5, "hops": 2},
    {"type": "max_pooling1d"},
    {"type": "max_pooling1d", "pool_size": 3, "strides": 2},
    {"type": "average_pooling1d", "pool_size": 2},
    {"type": "global_average_pooling1d"},
    {"type": "global_max_pooling1d"},
    {"type": "flatten"},
    {"type": "batch_normalization", "momentum": 0.9},
    {"type": "layer_normalization", "epsilon": 0.01},
    {"type": "leaky_relu"},
    {"type": "leaky_relu", "negative_slope": 0.05},
    {"type": "elu"},
    {"type": "dense", "units": 3, "use_bias": False},
    {"type": "spatial_dropout1d", "rate": 0},
    {"type": "dropout", "rate": 0},
    {"type": "gaussian_noise", "stddev": 0},
]


def named(layer):
    return "-".join(str(value) for value in layer.values() if not isinstance(value, dict))


@pytest.mark.parametrize("layer", SEQUENCE_LAYERS, ids=named)
def test_each_layer_of_a_sequence_network_equals_keras(layer):
    conv = {"type": "conv1d", "filters": 4, "kernel_size": 2}
    assert_same_function_and_gradient(planned([conv, layer, dense()]))


def test_the_oracle_covers_the_whole_vocabulary():
    assert set(BUILDERS) == set(LAYER_TYPES) - {"input"}
    tried = {parse_layers([layer]).layers[0].type for layer in SEQUENCE_LAYERS}
    assert tried == set(BUILDERS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_each_activation_equals_keras(name):
    plan = planned(
        [dense(4, activation=name), {"type": "activation", "activation": name}, dense(2)]
    )
    assert_same_function_and_gradient(plan)


@pytest.mark.parametrize(
    ("task", "n_outputs", "last"),
    [
        ("binary", 1, dense(1, activation="sigmoid")),
        ("multiclass", 4, dense(4, activation="softmax")),
        ("regression", 1, dense(1)),
        ("multiclass", 4, dense(7, activation="relu")),
    ],
)
def test_the_loss_of_each_task_equals_keras(task, n_outputs, last):
    plan = planned([dense(5, activation="tanh"), last], task=task, n_outputs=n_outputs)
    assert_same_function_and_gradient(plan)


def test_frozen_layers_equal_keras_and_a_frozen_batch_norm_uses_its_statistics():
    frozen = {"trainable": False}
    plan = planned([dense(4, **frozen), {"type": "batch_normalization", **frozen}, dense(3)])
    assert_same_function_and_gradient(plan)


def test_the_last_layers_run_on_the_last_step_only_and_equal_the_textbook_order():
    raw = [
        {"type": "lstm", "units": 6, "return_sequences": True},
        {"type": "attention", "heads": 2, "key_dim": 4},
        {"type": "layer_normalization"},
        dense(5, activation="relu"),
        dense(1, activation="sigmoid"),
    ]
    plan = planned(raw)
    assert plan.layers[1].last_query_only
    assert plan.layers[2].take_last_step
    assert_same_function_and_gradient(plan)


def drawn_list(seed):
    """A random list of layers that the planner accepts."""
    draw = np.random.default_rng(seed)
    raw = []
    for _ in range(draw.integers(1, 6)):
        candidate = SEQUENCE_LAYERS[draw.integers(len(SEQUENCE_LAYERS))]
        if draw.random() < 0.25:
            activation = ACTIVATIONS[draw.integers(len(ACTIVATIONS) - 1)]  # exponential may explode
            candidate = dense(int(draw.integers(2, 7)), activation=activation)
        if candidate["type"] == "batch_normalization" and raw:
            continue  # gradients through a batch norm cancel: compared layer by layer above
        try:
            planned([*raw, candidate])
        except InvalidArchitecture:
            continue
        raw.append(candidate)
    return raw or [dense()]


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_equal_keras(seed):
    rows = (VECTOR, WINDOW)[seed % 2]
    task, n_outputs = (("binary", 1), ("multiclass", 3), ("regression", 1))[seed % 3]
    assert_same_function_and_gradient(planned(drawn_list(seed), rows, task, n_outputs), seed)


@pytest.mark.parametrize("architecture", ["transformer", "cnn", "rnn", "gnn"])
def test_default_networks_equal_keras(architecture):
    raw = default_layers(architecture, "base", "worker", 0)
    silent = {"dropout": {"rate": 0}, "transformer_encoder": {"dropout": 0}}
    assert_same_function_and_gradient(
        planned([layer | silent.get(layer["type"], {}) for layer in raw])
    )


OPTIMIZERS = {
    "sgd": keras.optimizers.SGD,
    "adam": keras.optimizers.Adam,
    "rmsprop": keras.optimizers.RMSprop,
    "adagrad": keras.optimizers.Adagrad,
}
RATES = {"sgd": 0.05, "adam": 0.01, "rmsprop": 0.002, "adagrad": 0.05}


def fifty_steps(plan, optimizer, x, y):
    """Ten passes of our trainer from the plan's initial weights: its progress and final weights."""
    network = Network(plan)
    workspace = Workspace(network)
    params, buffers = initial_weights(plan, 3)
    start = ADAGRAD_INITIAL if optimizer == "adagrad" else 0.0
    moments = {name: np.full(plan.n_params, start, np.float32) for name in MOMENTS[optimizer]}
    workspace.load({"params": params, "buffers": buffers, **moments}, optimizer)
    request = Train(
        network="n",
        base="b",
        opt_step=0,
        shard="s",
        publish="p",
        optimizer=optimizer,
        learning_rate=RATES[optimizer],
        batch_size=32,
        passes=tuple(Pass(order_seed=number) for number in range(10)),
        dropout_seed=0,
    )
    progress = train(network, workspace, Shard(x, y), request, lambda duration_ms: None)
    return progress, workspace.weights


def fifty_keras_steps(plan, optimizer, x, y):
    """The same with Keras' model, loss and optimiser: the loss before each step, and the twin."""
    twin = Twin(plan)
    twin.load(*initial_weights(plan, 3))
    descent = OPTIMIZERS[optimizer](RATES[optimizer])
    losses = []
    for number in range(10):
        order = np.random.Generator(np.random.PCG64(number)).permutation(len(x))
        for first in range(0, len(x), 32):
            batch = order[first : first + 32]
            losses.append(twin.step(descent, x[batch], y[batch]))
    return losses, twin


@pytest.mark.parametrize(
    ("optimizer", "loss_tolerance", "weights_tolerance"),
    [
        ("sgd", 1e-6, 1e-5),
        ("adagrad", 1e-6, 1e-5),
        ("adam", 1e-4, 1e-2),  # torch and Keras place epsilon differently
        ("rmsprop", 1e-3, 1e-1),
    ],
)
def test_fifty_steps_of_each_optimiser_follow_keras(optimizer, loss_tolerance, weights_tolerance):
    raw = [
        {"type": "lstm", "units": 6},
        {"type": "batch_normalization"},
        dense(5, activation="tanh"),
    ]
    plan = planned(raw)
    x, y = drawn_batch(plan, 5, rows=160)
    progress, weights = fifty_steps(plan, optimizer, x, y)
    losses, twin = fifty_keras_steps(plan, optimizer, x, y)
    assert progress.steps == len(losses) == 50
    assert progress.loss == pytest.approx(np.mean(losses), abs=loss_tolerance)
    start, _ = initial_weights(plan, 3)
    theirs = twin.flat(plan.trainable)
    travelled = np.linalg.norm(theirs - start)
    assert travelled > 0.3
    assert np.linalg.norm(weights.params.numpy() - theirs) < weights_tolerance * travelled
    assert_close(weights.buffers.numpy(), twin.flat(plan.buffers), weights_tolerance)


@pytest.mark.parametrize("shape", [(40, 30), (5, 16, 24), (24, 4, 8)])
def test_glorot_kernels_are_drawn_from_keras_distribution(shape):
    spec = TensorSpec(name="layers.0.kernel", shape=shape, init="glorot_uniform")
    ours = np.concatenate([initial_tensor(spec, seed).ravel() for seed in range(8)])
    theirs = np.concatenate(
        [
            keras.initializers.GlorotUniform(seed)(shape).detach().numpy().ravel()
            for seed in range(8)
        ]
    )
    assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.01)
    assert ours.std() == pytest.approx(theirs.std(), rel=0.03)
    assert abs(ours.mean()) < 3 * ours.std() / np.sqrt(ours.size)


@pytest.mark.parametrize("shape", [(8, 32), (32, 8), (8, 8)])
def test_orthogonal_kernels_are_orthogonal_as_in_keras(shape):
    spec = TensorSpec(name="layers.0.recurrent_kernel", shape=shape, init="orthogonal")
    ours = initial_tensor(spec, 1)
    theirs = keras.initializers.Orthogonal(seed=1)(shape).detach().numpy()
    for matrix in (ours, theirs):
        short = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(short, np.eye(min(shape)), atol=1e-5)


def test_fresh_keras_layers_have_the_biases_that_ours_start_with():
    lstm = keras.layers.LSTM(4)
    lstm.build((None, 3, 2))
    spec = TensorSpec(name="layers.0.bias", shape=(16,), init="lstm_bias")
    np.testing.assert_array_equal(initial_tensor(spec, 0), lstm.weights[2].value.detach().numpy())
