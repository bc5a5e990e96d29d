"""Recurrent layers against step-by-step references in numpy, in Keras' gate order."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.activations import ACTIVATIONS
from flow_nexus_neural.node.layers.recurrent import (
    native_gru,
    native_lstm,
    stepwise_gru,
    stepwise_lstm,
)
from tests.unit.node.building import layer_and_parts

STEPS, CHANNELS, UNITS = 7, 3, 4
X = np.random.default_rng(0).normal(size=(5, STEPS, CHANNELS))


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


FUNCTIONS = {
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "relu": lambda x: np.maximum(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
}


def lstm(x, parts, activation, gate, prefix=""):
    kernel, recurrent, bias = _weights(parts, prefix)
    hidden = carry = np.zeros((len(x), len(recurrent)))
    steps = []
    for t in range(x.shape[1]):
        i, f, c, o = np.split(x[:, t] @ kernel + hidden @ recurrent + bias, 4, axis=1)
        carry = gate(f) * carry + gate(i) * activation(c)
        hidden = gate(o) * activation(carry)
        steps.append(hidden)
    return np.stack(steps, 1)


def gru(x, parts, activation, gate, prefix=""):
    kernel, recurrent, bias = _weights(parts, prefix)
    hidden = np.zeros((len(x), len(recurrent)))
    steps = []
    for t in range(x.shape[1]):
        xz, xr, xh = np.split(x[:, t] @ kernel + bias[0], 3, axis=1)
        hz, hr, hh = np.split(hidden @ recurrent + bias[1], 3, axis=1)
        z, r = gate(xz + hz), gate(xr + hr)
        hidden = z * hidden + (1 - z) * activation(xh + r * hh)
        steps.append(hidden)
    return np.stack(steps, 1)


def simple_rnn(x, parts, activation, gate, prefix=""):
    kernel, recurrent, bias = _weights(parts, prefix)
    hidden = np.zeros((len(x), len(recurrent)))
    steps = []
    for t in range(x.shape[1]):
        hidden = activation(x[:, t] @ kernel + hidden @ recurrent + bias)
        steps.append(hidden)
    return np.stack(steps, 1)


def _weights(parts, prefix):
    return [parts[f"{prefix}{name}"].numpy() for name in ("kernel", "recurrent_kernel", "bias")]


REFERENCES = {"lstm": lstm, "gru": gru, "simple_rnn": simple_rnn}
VARIANTS = [("tanh", "sigmoid"), ("relu", "sigmoid"), ("softsign", "hard_sigmoid")]


def _spec(cell, activation="tanh", gate="sigmoid", **more):
    gates = {} if cell == "simple_rnn" else {"recurrent_activation": gate}
    return {"type": cell, "units": UNITS, "activation": activation, **gates, **more}


@pytest.mark.parametrize("cell", REFERENCES)
@pytest.mark.parametrize(("activation", "gate"), VARIANTS)
def test_a_recurrent_layer_follows_its_equations(cell, activation, gate):
    spec = _spec(cell, activation, gate, return_sequences=True)
    layer, parts = layer_and_parts(spec, (STEPS, CHANNELS))
    expected = REFERENCES[cell](X, parts, FUNCTIONS[activation], FUNCTIONS[gate])
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, atol=1e-12)


@pytest.mark.parametrize("cell", REFERENCES)
def test_float32_agrees_with_the_reference_too(cell):
    # The kernel that serves and trains in float32 is another one than that of float64.
    layer, parts = layer_and_parts(_spec(cell), (STEPS, CHANNELS), dtype=torch.float32)
    doubles = {name: tensor.double() for name, tensor in parts.items()}
    expected = REFERENCES[cell](X, doubles, np.tanh, _sigmoid)[:, -1]
    found = layer(torch.from_numpy(X).float(), parts, None)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("cell", REFERENCES)
def test_without_return_sequences_only_the_last_step_is_returned(cell):
    layer, parts = layer_and_parts(_spec(cell), (STEPS, CHANNELS))
    expected = REFERENCES[cell](X, parts, np.tanh, _sigmoid)[:, -1]
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, atol=1e-12)


@pytest.mark.parametrize("cell", REFERENCES)
def test_go_backwards_returns_the_steps_in_the_order_they_were_processed(cell):
    spec = _spec(cell, go_backwards=True, return_sequences=True)
    layer, parts = layer_and_parts(spec, (STEPS, CHANNELS))
    expected = REFERENCES[cell](X[:, ::-1], parts, np.tanh, _sigmoid)
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, atol=1e-12)


MERGES = {
    "concat": lambda a, b: np.concatenate((a, b), -1),
    "sum": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "ave": lambda a, b: (a + b) / 2,
}


@pytest.mark.parametrize("merge", MERGES)
@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("sequences", [True, False])
def test_bidirectional_joins_both_directions_position_by_position(merge, cell, sequences):
    inner = _spec(cell, return_sequences=sequences)
    spec = {"type": "bidirectional", "layer": inner, "merge_mode": merge}
    layer, parts = layer_and_parts(spec, (STEPS, CHANNELS))
    run = REFERENCES[cell]
    ahead = run(X, parts, np.tanh, _sigmoid, "forward.")
    behind = run(X[:, ::-1], parts, np.tanh, _sigmoid, "backward.")
    if sequences:
        behind = behind[:, ::-1]
    else:
        ahead, behind = ahead[:, -1], behind[:, -1]
    expected = MERGES[merge](ahead, behind)
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, atol=1e-12)


def test_input_dropout_uses_one_mask_for_all_steps_of_a_row():
    layer, parts = layer_and_parts(_spec("lstm", dropout=0.5), (STEPS, CHANNELS))
    mask = torch.rand((5, 1, CHANNELS), generator=torch.Generator().manual_seed(9)) >= 0.5
    assert 0 < int(mask.sum()) < mask.numel()
    expected = lstm(X * mask.numpy() * 2.0, parts, np.tanh, _sigmoid)[:, -1]
    found = layer(torch.from_numpy(X), parts, torch.Generator().manual_seed(9))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("cell", "native", "stepwise"),
    [("lstm", native_lstm, stepwise_lstm), ("gru", native_gru, stepwise_gru)],
)
def test_the_fast_kernel_has_the_gradients_of_the_written_out_recurrence(cell, native, stepwise):
    _, parts = layer_and_parts(_spec(cell), (STEPS, CHANNELS), dtype=torch.float32)
    written = stepwise(ACTIVATIONS["tanh"], ACTIVATIONS["sigmoid"])
    x = torch.from_numpy(X).float()
    upstream = torch.randn(5, STEPS, UNITS, generator=torch.Generator().manual_seed(2))
    gradients = []
    for run in (native, written):
        leaves = [
            x.clone().requires_grad_(),
            *(part.clone().requires_grad_() for part in parts.values()),
        ]
        outputs = run(*leaves)
        gradients.append(torch.autograd.grad(outputs, leaves, upstream))
    for fast, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-4, atol=1e-5)
