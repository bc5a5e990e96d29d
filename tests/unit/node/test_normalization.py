"""Normalisation layers with Keras' statistics."""

import numpy as np
import pytest
import torch

from tests.unit.node.building import layer_and_parts

X = np.random.default_rng(0).normal(2.0, 3.0, size=(6, 4))
NOISE = torch.Generator().manual_seed(0)


def _batch_norm(in_shape, **more):
    layer, parts = layer_and_parts({"type": "batch_normalization"}, in_shape, **more)
    parts["moving_variance"].abs_().add_(0.1)
    return layer, parts


def _apply(x, mean, variance, parts):
    gamma, beta = parts["gamma"].numpy(), parts["beta"].numpy()
    return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta


@pytest.mark.parametrize("shape", [(6, 4), (3, 2, 4)])
def test_training_normalises_by_the_batch_and_moves_the_biased_statistics(shape):
    layer, parts = _batch_norm(shape[1:])
    old = {name: parts[name].clone().numpy() for name in ("moving_mean", "moving_variance")}
    found = layer(torch.from_numpy(X.reshape(shape)), parts, NOISE)
    mean, variance = X.mean(0), X.var(0)  # biased
    np.testing.assert_allclose(found, _apply(X, mean, variance, parts).reshape(shape), atol=1e-10)
    for name, batch in (("moving_mean", mean), ("moving_variance", variance)):
        expected = 0.99 * old[name] + 0.01 * batch
        np.testing.assert_allclose(parts[name], expected, atol=1e-10)


def test_serving_normalises_by_the_running_statistics_and_leaves_them():
    layer, parts = _batch_norm((4,))
    mean, variance = parts["moving_mean"].clone().numpy(), parts["moving_variance"].clone().numpy()
    found = layer(torch.from_numpy(X), parts, None)
    np.testing.assert_allclose(found, _apply(X, mean, variance, parts), atol=1e-10)
    np.testing.assert_array_equal(parts["moving_mean"], mean)
    np.testing.assert_array_equal(parts["moving_variance"], variance)


def test_a_frozen_batch_norm_serves_even_while_training():
    layer, parts = _batch_norm((4,), trainable=False)
    x = torch.from_numpy(X)
    before = parts["moving_mean"].clone()
    assert torch.equal(layer(x, parts, NOISE), layer(x, parts, None))
    assert torch.equal(parts["moving_mean"], before)


def test_layer_norm_normalises_every_position_on_its_own():
    layer, parts = layer_and_parts({"type": "layer_normalization"}, (2, 4))
    x = X.reshape(3, 2, 4)
    centred = x - x.mean(-1, keepdims=True)
    normal = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-3)
    expected = normal * parts["gamma"].numpy() + parts["beta"].numpy()
    np.testing.assert_allclose(layer(torch.from_numpy(x), parts, None), expected, atol=1e-10)
