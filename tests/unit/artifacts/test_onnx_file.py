"""ONNX Runtime answers by the exported graph as nodes and engine do."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.artifacts.description import answer, described
from flow_nexus_neural.artifacts.onnx_file import OnnxFile
from flow_nexus_neural.artifacts.standalone.answering import decide
from flow_nexus_neural.errors import NotAvailable, StoreCorrupt
from tests.unit.artifacts.building import (
    CASES,
    DENSE,
    EVERY_LAYER,
    FLAT,
    WINDOW,
    model_and_examples,
)

onnxruntime = pytest.importorskip("onnxruntime")

ODD = [layer for layer in EVERY_LAYER if layer.get("activation") == "selu" and "units" in layer]
"""A recurrent layer whose activation the ONNX operator does not know."""


@pytest.mark.parametrize("case", CASES)
def test_the_answers_are_those_of_nodes_and_engine(case):
    more = dict(CASES[case])
    more["networks"] = [own for own in more["networks"] if own[0] not in ODD]
    model, examples = model_and_examples(**more)
    made = OnnxFile().render(model)
    again = OnnxFile().recompute(model, made.files, examples)
    unit = model.schema.target_sd
    assert np.abs(again.answers - again.expected).max() / unit < 1e-5
    assert len(again.answers) >= len(examples.rows) + 1  # a batch of one, too
    if model.schema.classes is not None:
        session = onnxruntime.InferenceSession(made.files["model.onnx"])
        feeds = {"rows": examples.rows}
        if model.needs_symbols:
            places = {"BTC": 0, "ETH": 1}
            feeds["symbol"] = np.array([places.get(s, -1) for s in examples.symbols])
        (chosen,) = session.run(["decision"], feeds)
        assert chosen.tolist() == examples.decisions.tolist()
        expected = decide(described(model), examples.answers)
        assert [model.schema.classes[index] for index in chosen] == expected


@pytest.mark.parametrize("case", ["two classes, weighed", "several classes"])
def test_a_file_that_decides_otherwise_than_the_cluster_is_no_export(case):
    """Its probabilities are right, and what is made of them is not."""
    model, examples = model_and_examples(**CASES[case])
    changed = {"threshold": 0.0 if examples.decisions[0] == 0 else 1.0}
    if case == "several classes":
        changed = {
            "class_weight": tuple(1.0 + 1e6 * (examples.decisions[0] != k) for k in range(3))
        }
    files = OnnxFile().render(replace(model, rule=replace(model.rule, **changed))).files
    with pytest.raises(StoreCorrupt, match=r"decides class \d of row \d, the cluster class \d"):
        OnnxFile().recompute(model, files, examples)


def test_two_classes_between_which_the_cluster_itself_can_hardly_choose_may_be_either():
    model, examples = model_and_examples([DENSE], spec=FLAT)
    p = examples.answers[:, 1]
    close = replace(model, rule=replace(model.rule, threshold=float(p[0]) + 1e-7))
    files = OnnxFile().render(close).files
    own = replace(examples, decisions=1 - close.rule.decide(examples.answers))
    with pytest.raises(StoreCorrupt, match=r"of row [123]"):
        OnnxFile().recompute(close, files, own)
    own.decisions[1:] = close.rule.decide(examples.answers)[1:]
    assert OnnxFile().recompute(close, files, own).answers is not None


@pytest.mark.parametrize("layer", EVERY_LAYER, ids=str)
def test_every_layer_alone_gives_the_logits_of_the_node(layer):
    if layer in ODD:
        model, _ = model_and_examples([[layer]])
        with pytest.raises(NotAvailable, match="does not know the activation selu"):
            OnnxFile().render(model)
        return
    model, examples = model_and_examples([[layer]], task="regression")
    again = OnnxFile().recompute(model, OnnxFile().render(model).files, examples)
    assert np.abs(again.answers - again.expected).max() / model.schema.target_sd < 1e-5


def test_windows_of_other_lengths_are_answered_where_the_layers_allow_it():
    layers = [
        {"type": "bidirectional", "layer": {"type": "lstm", "units": 3, "return_sequences": True}},
        {"type": "gru", "units": 3, "go_backwards": True, "return_sequences": True},
        {"type": "attention", "heads": 2, "key_dim": 2},
    ]
    model, examples = model_and_examples([layers])
    made = OnnxFile().render(model)
    session = onnxruntime.InferenceSession(made.files["model.onnx"])
    for steps in (2, 6, 11):
        rows = np.tile(examples.rows, (1, 3, 1))[:, :steps]
        (found,) = session.run(["probabilities"], {"rows": rows})
        expected = answer(model, model.tensors, rows, examples.symbols)
        assert np.abs(found - expected).max() < 1e-5
    assert OnnxFile().recompute(model, made.files, examples).by.endswith("2 batch sizes, 2 lengths")
    fixed, examples = model_and_examples([[{"type": "flatten"}]], spec=WINDOW)
    made = OnnxFile().render(fixed)
    assert "the length of a row is fixed: [6, 4]" in made.not_included
    assert OnnxFile().recompute(fixed, made.files, examples).by.endswith("2 batch sizes, 1 length")


def test_what_the_runtime_cannot_read_is_no_export():
    model, examples = model_and_examples([[{"type": "flatten"}]])
    with pytest.raises(StoreCorrupt, match="cannot run the file"):
        OnnxFile().recompute(model, {"model.onnx": b"no graph"}, examples)


def test_without_the_package_the_error_names_the_command(monkeypatch):
    model, _ = model_and_examples([[{"type": "flatten"}]])
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(NotAvailable, match=r"flow-nexus-neural\[onnx\]"):
        OnnxFile().render(model)
