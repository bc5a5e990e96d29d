"""Convolution, pooling and graph convolution against loops in numpy."""

import numpy as np
import pytest
import torch

from flow_nexus_neural.node.layers.convolution import band_adjacency
from tests.unit.node.building import layer_and_parts

STEPS, CHANNELS = 9, 3
X = np.random.default_rng(0).normal(size=(4, STEPS, CHANNELS))


def convolve(x, kernel, bias, strides, dilation, padding):
    padded = np.pad(x, ((0, 0), padding, (0, 0)))
    reach = (len(kernel) - 1) * dilation
    starts = range(0, padded.shape[1] - reach, strides)
    steps = [
        sum(padded[:, start + k * dilation] @ kernel[k] for k in range(len(kernel))) + bias
        for start in starts
    ]
    return np.stack(steps, 1)


@pytest.mark.parametrize("kernel_size", [1, 2, 4])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2)])
@pytest.mark.parametrize("padding", ["valid", "same", "causal"])
def test_conv1d_correlates_over_time(kernel_size, strides, dilation, padding):
    spec = {
        "type": "conv1d",
        "filters": 5,
        "kernel_size": kernel_size,
        "strides": strides,
        "dilation_rate": dilation,
        "padding": padding,
        "activation": "tanh",
    }
    layer, parts = layer_and_parts(spec, (STEPS, CHANNELS))
    reach = (kernel_size - 1) * dilation
    before, after = 0, 0
    if padding == "causal":
        before = reach
    if padding == "same":
        out_steps = int(np.ceil(STEPS / strides))
        total = max((out_steps - 1) * strides + reach + 1 - STEPS, 0)
        before, after = total // 2, total - total // 2
    kernel, bias = parts["kernel"].numpy(), parts["bias"].numpy()
    expected = np.tanh(convolve(X, kernel, bias, strides, dilation, (before, after)))
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "reduce"), [("max_pooling1d", np.max), ("average_pooling1d", np.mean)]
)
@pytest.mark.parametrize("strides", [None, 1, 3])
def test_pooling_reduces_windows_and_drops_an_incomplete_one(kind, reduce, strides):
    spec = {"type": kind, "pool_size": 2} | ({} if strides is None else {"strides": strides})
    layer, parts = layer_and_parts(spec, (STEPS, CHANNELS))
    step = strides or 2
    windows = [reduce(X[:, s : s + 2], axis=1) for s in range(0, STEPS - 1, step)]
    expected = np.stack(windows, 1)
    np.testing.assert_allclose(layer(torch.from_numpy(X), parts, None), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "reduce"), [("global_average_pooling1d", np.mean), ("global_max_pooling1d", np.max)]
)
def test_global_pooling_reduces_all_steps(kind, reduce):
    layer, parts = layer_and_parts({"type": kind}, (STEPS, CHANNELS))
    found = layer(torch.from_numpy(X), parts, None)
    np.testing.assert_allclose(found, reduce(X, axis=1), atol=1e-12)


@pytest.mark.parametrize("hops", [1, 3, 20])
def test_the_band_graph_is_normalised_by_both_degrees(hops):
    joined = np.array([[abs(i - j) <= hops for j in range(STEPS)] for i in range(STEPS)], float)
    degree = joined.sum(1)
    expected = joined / np.sqrt(degree[:, None] * degree[None, :])
    np.testing.assert_allclose(band_adjacency(STEPS, hops), expected, atol=1e-6)


@pytest.mark.parametrize("units", [2, 8])
def test_graph_conv_mixes_neighbours_and_projects(units):
    spec = {"type": "graph_conv", "units": units, "hops": 2, "activation": "elu"}
    layer, parts = layer_and_parts(spec, (STEPS, CHANNELS), dtype=torch.float32)
    mixed = band_adjacency(STEPS, 2).numpy() @ X @ parts["kernel"].numpy() + parts["bias"].numpy()
    expected = np.where(mixed > 0, mixed, np.expm1(mixed))
    found = layer(torch.from_numpy(X).float(), parts, None)
    np.testing.assert_allclose(found, expected, atol=1e-5)
