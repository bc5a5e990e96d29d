"""Layers that treat every position alike, against their formulas in numpy."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.networks.activations import ACTIVATIONS as NAMES
from flow_nexus_neural.node.activations import ACTIVATIONS
from flow_nexus_neural.node.layer import drop
from tests.unit.node.building import layer_and_parts

X = np.linspace(-4.0, 4.0, 41).reshape(1, 41)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _softplus(x):
    return np.log1p(np.exp(x))


def _erf(x):
    return torch.erf(torch.from_numpy(x)).numpy()


SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

FORMULAS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x)),
    "gelu": lambda x: x * 0.5 * (1 + _erf(x / np.sqrt(2))),
    "silu": lambda x: x * _sigmoid(x),
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "softplus": _softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "exponential": np.exp,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_activation_of_the_vocabulary_follows_its_formula(name):
    found = ACTIVATIONS[name](torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, FORMULAS[name](X), rtol=1e-12, atol=1e-12)


def test_the_node_knows_exactly_the_activations_of_the_vocabulary():
    assert set(ACTIVATIONS) == set(NAMES) == set(FORMULAS)


@pytest.mark.parametrize("shape", [(3, 4), (3, 5, 4)])
@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_multiplies_the_last_axis(shape, use_bias):
    spec = {"type": "dense", "units": 3, "activation": "tanh", "use_bias": use_bias}
    layer, parts = layer_and_parts(spec, (4,))
    assert ("bias" in parts) == use_bias
    x = np.random.default_rng(0).normal(size=shape)
    bias = parts["bias"].numpy() if use_bias else 0
    expected = np.tanh(x @ parts["kernel"].numpy() + bias)
    np.testing.assert_allclose(layer(torch.from_numpy(x), parts, None), expected, rtol=1e-12)


def test_leaky_relu_as_a_layer_has_the_slope_it_is_given():
    layer, parts = layer_and_parts({"type": "leaky_relu", "negative_slope": 0.3}, (41,))
    expected = np.where(X > 0, X, 0.3 * X)
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, rtol=1e-12)


def test_flatten_joins_steps_and_channels_steps_first():
    layer, parts = layer_and_parts({"type": "flatten"}, (2, 3))
    x = torch.arange(12.0).view(2, 2, 3)
    assert layer(x, parts, None).tolist() == [list(range(6)), list(range(6, 12))]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "dropout", "rate": 0.5},
        {"type": "spatial_dropout1d", "rate": 0.5},
        {"type": "gaussian_noise", "stddev": 0.5},
    ],
)
def test_noise_layers_change_nothing_outside_training(spec):
    layer, parts = layer_and_parts(spec, (5, 4))
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x, parts, None), x)
    assert not torch.equal(layer(x, parts, torch.Generator().manual_seed(1)), x)


def test_dropout_zeroes_at_its_rate_and_scales_what_is_left():
    layer, parts = layer_and_parts({"type": "dropout", "rate": 0.3}, (50, 40))
    kept = layer(torch.ones(10, 50, 40), parts, torch.Generator().manual_seed(0))
    values = sorted(set(kept.flatten().tolist()))
    assert values[0] == 0.0
    assert values[1:] == pytest.approx([1 / 0.7])
    assert float((kept == 0).double().mean()) == pytest.approx(0.3, abs=0.015)


def test_spatial_dropout_drops_a_channel_for_all_steps_of_a_row():
    layer, parts = layer_and_parts({"type": "spatial_dropout1d", "rate": 0.5}, (6, 8))
    kept = layer(torch.ones(4, 6, 8), parts, torch.Generator().manual_seed(0))
    assert torch.equal(kept, kept[:, :1].expand(-1, 6, -1))
    per_row = kept[:, 0]
    assert 0 < int((per_row == 0).sum()) < per_row.numel()
    assert not torch.equal(per_row[0], per_row[1])


def test_gaussian_noise_has_the_deviation_it_is_given():
    layer, parts = layer_and_parts({"type": "gaussian_noise", "stddev": 0.25}, (100,))
    noise = layer(torch.zeros(500, 100), parts, torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(0.25, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)


def test_noise_comes_from_the_given_generator_and_never_from_the_global_one():
    x = torch.ones(64)
    before = torch.get_rng_state()
    first = drop(x, 0.5, torch.Generator().manual_seed(5))
    second = drop(x, 0.5, torch.Generator().manual_seed(5))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
