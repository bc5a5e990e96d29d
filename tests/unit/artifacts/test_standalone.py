"""numpy alone answers as nodes and engine do, whatever the layers, the task and the combination."""

import numpy as np
import pytest

from flow_nexus_neural.artifacts.description import answer, described
from flow_nexus_neural.artifacts.standalone.activations import ACTIVATIONS
from flow_nexus_neural.artifacts.standalone.answering import decide
from flow_nexus_neural.artifacts.standalone.layers import network
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.networks.activations import ACTIVATIONS as KNOWN
from tests.unit.artifacts.building import CASES, WINDOW, model_and_examples


@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_those_of_nodes_and_engine(case):
    model, examples = model_and_examples(**CASES[case])
    found = answer(model, model.tensors, examples.rows, examples.symbols)
    unit = model.schema.target_sd
    assert np.abs(found - examples.answers).max() / unit < 1e-6
    wide = {name: tensor.astype(np.float64) for name, tensor in model.tensors.items()}
    for key, own in described(model)["networks"].items():
        logits = network(examples.scaled.astype(np.float64), own, wide)
        scale = max(1.0, np.abs(examples.logits[key]).max())
        assert np.abs(logits - examples.logits[key]).max() / scale < 2e-6, own["layers"][0]


def test_every_activation_of_the_vocabulary_is_known():
    assert set(ACTIVATIONS) == set(KNOWN)


def test_a_network_of_several_layers_takes_the_last_step_where_the_plan_does():
    layers = [
        {"type": "positional_encoding"},
        {"type": "transformer_encoder", "heads": 2, "depth": 2},
        {"type": "dense", "units": 3, "activation": "gelu"},
        {"type": "layer_normalization"},
    ]
    model, examples = model_and_examples([layers])
    assert any(layer.take_last_step for layer in model.networks["c0"].plan.layers)
    found = answer(model, model.tensors, examples.rows, examples.symbols)
    assert np.abs(found - examples.answers).max() < 1e-6


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_decisions_follow_threshold_and_class_weights(task):
    rule = DecisionRule(0.3, (0.5, 2.0) if task == "binary" else (1.0, 2.0, 4.0))
    model, _ = model_and_examples([[{"type": "flatten"}]], task=task, rule=rule, spec=WINDOW)
    p = np.array([[0.75, 0.25], [0.7, 0.3], [0.1, 0.9]])
    if task == "multiclass":
        p = np.array([[0.6, 0.3, 0.1], [0.7, 0.2, 0.1], [0.3, 0.5, 0.2]])
    classes = model.schema.classes
    assert decide(described(model), p) == [classes[index] for index in rule.decide(p)]
