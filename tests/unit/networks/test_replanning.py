"""A plan from elsewhere is accepted exactly if the planner makes it of its layers."""

import pytest

from flow_nexus_neural.errors import InvalidArchitecture, LimitExceeded
from flow_nexus_neural.networks.replanning import layers_of, require_sound
from tests.unit.artifacts.building import EVERY_LAYER, FLAT, VECTOR, WINDOW
from tests.unit.node.building import plan_of

LISTS = [
    *[[layer] for layer in EVERY_LAYER],
    [{"type": "input", "shape": [6, 4]}, {"type": "dense", "units": 1, "activation": "sigmoid"}],
    [{"type": "dense", "units": 3, "trainable": False}, {"type": "dense", "units": 2}],
    [
        {"type": "lstm", "units": 3, "return_sequences": True},
        {"type": "attention", "heads": 2, "key_dim": 2},
    ],
]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_plan_of_the_planner_is_accepted(task):
    for layers in LISTS:
        require_sound(plan_of(layers, WINDOW, task), 10**6)
    require_sound(plan_of([{"type": "gru", "units": 2}], VECTOR, task), 10**6)
    require_sound(plan_of([{"type": "dense", "units": 2}], FLAT, task), 10**6)


def test_an_input_layer_in_front_keeps_the_names_of_the_tensors():
    plan = plan_of([{"type": "input", "shape": [4]}, {"type": "dense", "units": 2}], FLAT)
    assert [layer["type"] for layer in layers_of(plan)] == ["input", "dense"]


def test_what_the_planner_would_not_make_is_refused():
    plan = plan_of([{"type": "dense", "units": 3}], FLAT)
    dense, head = plan.layers
    shapes = dense.model_copy(update={"out_shape": (4,)})
    for layers in (
        (shapes, head),
        (dense, head, head.model_copy(update={"tensors": ()})),
        (dense,),
    ):
        with pytest.raises(InvalidArchitecture):
            require_sound(plan.model_copy(update={"layers": layers}), 10**6)
    strange = dense.model_copy(update={"type": "lambda"})
    with pytest.raises(InvalidArchitecture, match="'lambda' of the export is unknown"):
        require_sound(plan.model_copy(update={"layers": (strange, head)}), 10**6)
    with pytest.raises(LimitExceeded):
        require_sound(plan, 5)
