"""Which networks need batches of two rows."""

import pytest

from flow_nexus_neural.networks.batches import smallest_batch
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.plan import InputSpec

VECTOR = InputSpec(vector_length=0, n_scalars=4)
WINDOW = InputSpec(vector_length=0, n_scalars=4, window=6)
NORM = {"type": "batch_normalization"}
CONV = {"type": "conv1d", "filters": 3, "kernel_size": 3}


@pytest.mark.parametrize(
    ("layers", "rows", "smallest"),
    [
        ([{"type": "dense", "units": 3}], VECTOR, 1),
        ([{"type": "dense", "units": 3}, NORM], VECTOR, 2),
        ([{"type": "dense", "units": 3}, {**NORM, "trainable": False}], VECTOR, 1),
        ([CONV, NORM], WINDOW, 1),
        ([CONV, {"type": "flatten"}, NORM], WINDOW, 2),
        ([{**CONV, "kernel_size": 6}, NORM], WINDOW, 2),
    ],
)
def test_a_batch_norm_that_learns_from_one_value_per_row_needs_two(layers, rows, smallest):
    plan = plan_network(
        parse_layers(layers).layers, input=rows, task="binary", n_outputs=1, max_parameters=10**6
    ).plan
    assert smallest_batch(plan) == smallest
