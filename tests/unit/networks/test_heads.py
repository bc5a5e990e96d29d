"""Which layer gives the logits."""

import pytest

from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from tests.unit.networks.building import CRYPTO, SEED, dense, plan_of, planned


@pytest.mark.parametrize(
    ("task", "n_outputs", "units", "activation", "implied"),
    [
        ("binary", 1, 1, "sigmoid", False),
        ("binary", 1, 1, "linear", False),
        ("binary", 1, 1, "tanh", True),
        ("binary", 1, 2, "softmax", True),
        ("multiclass", 3, 3, "softmax", False),
        ("multiclass", 3, 3, "linear", False),
        ("multiclass", 3, 3, "sigmoid", True),
        ("multiclass", 3, 4, "softmax", True),
        ("regression", 1, 1, "linear", False),
        ("regression", 1, 1, "sigmoid", False),
        ("regression", 1, 1, "relu", True),
        ("regression", 1, 8, "relu", True),
    ],
)
def test_the_last_layer_is_the_head_when_width_and_activation_fit_the_task(
    task, n_outputs, units, activation, implied
):
    plan = plan_of([dense(5, "relu"), dense(units, activation)], task=task, n_outputs=n_outputs)
    assert plan.implied_head is implied
    assert plan.layers[-1].args["activation"] == "linear"
    assert plan.layers[-1].out_shape == (n_outputs,)
    assert len(plan.layers) == (3 if implied else 2)
    if implied:
        assert plan.layers[1].args["activation"] == activation


def test_a_separate_final_activation_is_part_of_the_head():
    plan = plan_of([dense(1), {"type": "activation", "activation": "sigmoid"}])
    assert not plan.implied_head
    assert plan.layers[-1].args == {"activation": "linear"}


def test_the_canonical_layers_keep_the_activation_that_the_plan_moves_into_the_loss():
    parsed = parse_layers(SEED["worker"])
    plan_network(parsed.layers, input=CRYPTO, task="binary", n_outputs=1, max_parameters=10_000_000)
    assert parsed.layers[-1].to_json()["activation"] == "sigmoid"


def test_a_final_sigmoid_on_a_number_becomes_linear_with_a_warning():
    warnings = planned([dense(1, "sigmoid")], task="regression").warnings
    assert warnings == ["layers[0] dense activation sigmoid became linear: the target is a number"]


def test_an_output_layer_of_another_task_is_warned_about():
    (warning,) = planned([dense(2, "softmax")]).warnings
    assert "layers[0] dense (softmax, width 2) does not fit a binary target" in warning
