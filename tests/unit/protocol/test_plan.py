"""What a network costs, roughly: weights times the steps at which they are used."""

import pytest

from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.plan import InputSpec

CONVOLUTION = {"type": "conv1d", "filters": 8, "kernel_size": 3, "padding": "same"}


def products(*layers, steps=100):
    parsed = parse_layers(layers)
    rows = InputSpec(vector_length=steps, n_scalars=0)
    planned = plan_network(
        parsed.layers, input=rows, task="binary", n_outputs=1, max_parameters=10**6
    )
    return planned.plan.products


def test_a_weight_is_used_once_a_row_in_a_dense_layer_and_once_a_step_in_a_sequence():
    assert products({"type": "dense", "units": 8}) == 100 * 8 + 8 + 8 + 1
    pooled = {"type": "global_average_pooling1d"}
    once, twice = products(CONVOLUTION, pooled), products(CONVOLUTION, CONVOLUTION, pooled)
    assert twice - once == 100 * (3 * 8 * 8 + 8)


@pytest.mark.parametrize("layer", [{"type": "lstm", "units": 8}, CONVOLUTION])
def test_a_longer_sequence_costs_as_much_more(layer):
    assert products(layer, steps=1000) == pytest.approx(10 * products(layer), rel=0.01)


def test_where_steps_are_compared_with_each_other_it_costs_more_than_that():
    layer = {"type": "attention", "num_heads": 1, "key_dim": 2}
    assert products(CONVOLUTION, layer, steps=1000) > 50 * products(CONVOLUTION, layer)
