"""What the planner accepts, a node can run; what it refuses, it refuses in its own words."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.errors import InvalidArchitecture, LimitExceeded
from flow_nexus_neural.networks.layers import VOCABULARY
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure, plan_network
from flow_nexus_neural.node.initializers import initial_weights
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.plan import InputSpec, NetworkPlan
from tests.unit.networks.strategies import written_layers

torch.set_num_threads(1)

inputs = st.builds(
    lambda vector, scalars, window: InputSpec(
        vector_length=0 if window else vector, n_scalars=max(scalars, 1), window=window
    ),
    st.integers(0, 12),
    st.integers(0, 4),
    st.none() | st.integers(1, 12),
)
tasks = st.sampled_from([("binary", 1), ("regression", 1), ("multiclass", 2), ("multiclass", 5)])
layer_lists = st.lists(
    st.sampled_from(list(VOCABULARY.values())).flatmap(written_layers), min_size=1, max_size=6
)


def planned(raw, rows, task, n_outputs):
    """The plan of a list, or None when it is refused."""
    try:
        layers = parse_layers([{**layer, "name": None} for layer in raw]).layers
        plan = plan_network(
            layers, input=rows, task=task, n_outputs=n_outputs, max_parameters=100_000
        ).plan
    except (InvalidArchitecture, LimitExceeded) as refused:
        return refused
    check_structure(layers)  # never stricter than the plan
    return plan


@settings(derandomize=True, max_examples=300, deadline=None)
@given(layer_lists, inputs, tasks)
def test_every_plan_runs_with_the_shapes_it_states(raw, rows, task):
    plan = planned(raw, rows, *task)
    if not isinstance(plan, NetworkPlan):
        assert plan.message.startswith(("layers", "network has"))
        assert plan.hint
        return
    weights = Weights(plan)
    weights.load(*initial_weights(plan, 0))
    network = Network(plan)
    with torch.inference_mode():
        logits = network.logits(torch.ones(3, *rows.row_shape), weights)
        assert logits.shape == (3, plan.n_outputs)
        for stated, layer, parts in zip(plan.layers, network._layers, weights.layers, strict=True):
            in_shape = stated.in_shape[-1:] if stated.take_last_step else stated.in_shape
            out_shape = (1, stated.out_shape[1]) if stated.last_query_only else stated.out_shape
            assert layer(torch.ones(3, *in_shape), parts, None).shape == (3, *out_shape)
    shapes = [layer.in_shape for layer in plan.layers] + [plan.layers[-1].out_shape]
    assert shapes[0] == (rows.sequence_shape if plan.view == "sequence" else (rows.flat_width,))
    assert [layer.out_shape for layer in plan.layers] == shapes[1:]
    assert sum(layer.take_last_step for layer in plan.layers) <= 1
    assert NetworkPlan.model_validate_json(plan.model_dump_json()) == plan
