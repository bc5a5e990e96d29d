"""What an export says of itself is held against its own parts before anything is made of it."""

import copy
import json

import numpy as np
import pytest

from flow_nexus_neural.artifacts.folder_content import folder_content
from flow_nexus_neural.artifacts.manifest import with_manifest
from flow_nexus_neural.artifacts.safetensors_folder import SafetensorsFolder
from flow_nexus_neural.engine.operations.export import exported_model
from flow_nexus_neural.engine.operations.imported_version import imported_model
from flow_nexus_neural.errors import NeuralError
from tests.unit.engine.building import (
    bundle,
    cluster_state,
    committed,
    live,
    network,
    plan,
    slot,
    state,
)


@pytest.fixture(scope="module")
def files():
    weights = state(plan())
    group = network("c0", ["worker-0"], state=weights)
    group = group.with_state(weights)
    version = committed([group], bundle({"worker-0": 1.0}))
    of = cluster_state()
    of.slots.add(slot("worker-0"))
    model = exported_model(live(of), version)
    from dataclasses import replace

    model = replace(model, cluster_id="dnc_0123456789ab")
    return SafetensorsFolder().render(model).files


def read(files, change=lambda config: None):
    config = json.loads(files["config.json"])
    change(config)
    kept = {name: content for name, content in files.items() if name != "manifest.json"}
    kept["config.json"] = json.dumps(config).encode()
    return imported_model(folder_content(with_manifest(kept), None), None, 10**6)


def test_it_is_version_one_of_a_cluster_that_was_declared_alike(files):
    model = read(files)
    assert (model.version.version, model.version.bundle.version) == (1, 1)
    assert list(model.specs) == ["worker-0"]
    made = model.version.networks["c0"]
    assert made.digest == made.digest_of(made.state)
    assert np.isfinite(made.state.params).all()
    assert made.blob is None


def at(*path, value):
    def change(config):
        place = config
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = copy.deepcopy(value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        at("source", "cluster_id", value="../../x"),
        at("source", "version", value=0),
        at("cluster", "consensus", value="mine"),
        at("nodes", "worker-0", "role", value="validator"),
        at("nodes", "worker-0", "autonomy", value=7),
        at("nodes", "worker-0", "layers", value=[{"type": "lambda"}]),
        at("nodes", value={}),
        at("nodes", value={"../x-0": {"role": "worker"}}),
        at("stored", "bundle", "slot_weights", value={"worker-1": 1.0}),
        at("stored", "bundle", "class_weight", value=[1.0, 2.0, 3.0]),
        at(
            "stored",
            "bundle",
            "calibrators",
            value={"mean": {"kind": "x", "scale": -1, "offset": 0}},
        ),
        at(
            "stored", "bundle", "conformal", value={"mean": {"n": 3, "ranks": [9], "scores": [1.0]}}
        ),
        at("stored", "networks", "c0", "slots", value=["worker-0", "worker-0"]),
        at("stored", "networks", "c0", "key", value="c1"),
        at("stored", "networks", "c0", "optimizer", value="magic"),
        at("stored", "networks", "c0", "plan", value={}),
        at("stored", "networks", "c0", "plan", "task", value="regression"),
        at("stored", "networks", "c0", "digest", value="0" * 64),
        at("stored", "data_schema", "columns", value=[]),
        at("stored", "data_schema", "task", value="multiclass"),
        at("stored", value=None),
    ],
)
def test_what_does_not_fit_together_is_refused_by_name(files, change):
    with pytest.raises(NeuralError) as failure:
        read(files, change)
    assert failure.value.code in ("invalid_dataset", "invalid_architecture", "invalid_arguments")
    assert failure.value.hint


NAN = float("nan")


@pytest.mark.parametrize(
    "change",
    [
        at("stored", "accuracy", value=NAN),
        at("stored", "accuracy", value=1e308),
        at("stored", "accuracy", value=-1),
        at("stored", "loss", value=-1),
        at("stored", "loss", value=1e308),
        at("stored", "bundle", "residual_median", value=NAN),
        at("stored", "data_schema", "columns", 0, "mean", value=[NAN]),
        at("stored", "data_schema", "columns", 0, "sd", value=[-1.0]),
        at("stored", "data_schema", "columns", 0, "sd", value=[1.0, 1.0]),
        at("stored", "data_schema", "classes", value=None),
        at("stored", "data_schema", "classes", value=["in", "in"]),
        at("stored", "data_schema", "classes", value=["a", "b", "c"]),
        at("cluster", "daa_enabled", value="maybe"),
    ],
)
def test_numbers_and_classes_without_a_meaning_are_refused(files, change):
    with pytest.raises(NeuralError) as failure:
        read(files, change)
    assert failure.value.code == "invalid_dataset"


def test_a_number_too_large_for_a_float_is_refused(files):
    kept = {name: content for name, content in files.items() if name != "manifest.json"}
    config = kept["config.json"].replace(b'"autonomy": 0', b'"autonomy": 1e999', 1)
    assert config != kept["config.json"]
    with pytest.raises(NeuralError, match="no JSON of finite numbers"):
        folder_content(with_manifest({**kept, "config.json": config}), None)


@pytest.mark.parametrize(
    ("n", "ranks"), [(2**70, [1, 2]), (2**70, [1, 2**70]), (3, [1, 2]), (2, [2, 2]), (0, [])]
)
def test_intervals_whose_ranks_do_not_answer_every_level_are_refused(files, n, ranks):
    scores = {"n": n, "ranks": ranks, "scores": [0.5] * len(ranks)}
    with pytest.raises(NeuralError, match="intervals of mean have no meaning"):
        read(files, at("stored", "bundle", "conformal", value={"mean": scores}))


def test_the_switches_of_the_cluster_are_those_of_the_export_or_not_known(files):
    assert read(files).declared.daa_enabled is not None
    assert read(files).declared.wasm_optimization is not None
    off = read(files, at("cluster", "daa_enabled", value=False)).declared
    assert off.daa_enabled is False

    def older(config):
        del config["cluster"]["daa_enabled"], config["cluster"]["wasm_optimization"]

    assert read(files, older).declared.daa_enabled is None
