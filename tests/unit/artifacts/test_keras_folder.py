"""Keras loads the exported model and computes what the nodes do."""

import numpy as np
import pytest

from flow_nexus_neural.artifacts import keras_folder, keras_program
from flow_nexus_neural.artifacts.keras_folder import KerasFolder
from flow_nexus_neural.errors import NotAvailable, StoreCorrupt
from tests.unit.artifacts.building import CASES, DENSE, EVERY_LAYER, VECTOR, model_and_examples

# Of Keras with torch: its variables do not know an argument of newer numpy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def here(monkeypatch):
    """Keras in this process, where other tests have it already: a process of its own takes seconds."""
    from tests.unit.networks import keras_twin  # noqa: F401 - chooses the backend before Keras is imported

    def run(action, folder):
        getattr(keras_program, action)(folder)

    monkeypatch.setattr(keras_folder, "_run", run)


@pytest.mark.usefixtures("here")
def test_keras_gives_the_logits_of_the_nodes_for_every_layer():
    model, examples = model_and_examples(**CASES["every layer"])
    made = KerasFolder().render(model)
    assert set(made.files) == {"model.keras", "answering.json", "manifest.json"}
    again = KerasFolder().recompute(model, made.files, examples)
    assert again.of_logits
    assert len(again.answers) == len(EVERY_LAYER) * len(examples.rows)
    assert np.abs(again.answers - again.expected).max() < 1e-5


@pytest.mark.usefixtures("here")
def test_a_vector_column_becomes_the_first_channel_in_keras_too():
    model, examples = model_and_examples([[{"type": "lstm", "units": 3}], DENSE], spec=VECTOR)
    again = KerasFolder().recompute(model, KerasFolder().render(model).files, examples)
    assert np.abs(again.answers - again.expected).max() < 1e-5


def test_the_last_words_of_a_process_that_fails_are_told(tmp_path, monkeypatch):
    program = tmp_path / "program.py"
    program.write_text("import sys\nsys.exit('no such backend')\n")
    monkeypatch.setattr(keras_folder, "PROGRAM", program)
    with pytest.raises(StoreCorrupt, match="Keras cannot build the model: no such backend"):
        keras_folder._run("build", tmp_path)


def test_without_keras_the_error_names_the_command(monkeypatch):
    monkeypatch.setattr(keras_folder, "find_spec", lambda name: None)
    model, _ = model_and_examples([[{"type": "flatten"}]])
    with pytest.raises(NotAvailable, match=r"flow-nexus-neural\[keras\]"):
        KerasFolder().render(model)
