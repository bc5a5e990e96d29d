"""A committed version, stored and read back."""

import json
from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.state.network_groups import ServerState
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.persisted import StoredVersion
from flow_nexus_neural.engine.storage.version_rows import (
    SERVER_METHOD,
    load_version,
    stored_version,
)
from flow_nexus_neural.engine.versions.commit import recent_files
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import Calibrator
from tests.unit.engine.building import bundle, committed, network, plan, state


def stored_model(tmp_path):
    """A version with two networks, its files written."""
    files = CheckpointFiles(tmp_path)
    networks = []
    for key, slots, seed in (("c0", ("worker-0", "worker-1"), 1), ("c1", ("worker-2",), 2)):
        made = network(key, slots, state=state(plan(), seed), version=4, rows={slots[0]: 31})
        blob, _ = files.write(made.tensors(made.state), {})
        moments, _ = files.write(made.state.moments, {})
        digest = made.digest_of(made.state)
        networks.append(replace(made, blob=blob, moments_blob=moments, digest=digest))
    of_bundle = bundle(
        {"worker-0": 0.5, "worker-1": 0.3, "worker-2": 0.2},
        digests={c.key: c.digest for c in networks},
        calibrators={"mean": Calibrator("platt", 1.25, -0.5)},
        error_correlation=0.3,
    )
    recent = recent_files(None, {c.key: c for c in networks}, 5)
    best = {c.key: c.blob for c in networks}
    return files, committed(networks, of_bundle, recent=recent, best=best)


def through_json(model):
    return json.loads(json.dumps(stored_version(model).model_dump(mode="json")))


def load(stored, files):
    return load_version(StoredVersion.model_validate(stored), files)


def test_a_version_reads_back_as_it_was(tmp_path):
    files, model = stored_model(tmp_path)
    again = load(through_json(model), files)
    assert stored_version(again) == stored_version(model)
    assert again.bundle == model.bundle
    assert again.sha == model.sha
    for key, one in model.networks.items():
        other = again.networks[key]
        assert other.state.opt_step == 7
        for name, array in one.state.arrays.items():
            assert np.array_equal(array, other.state.arrays[name])
        assert replace(other, state=None) == replace(one, state=None)
    assert again.blobs == model.blobs
    assert len(model.blobs) == 4


def test_altered_missing_or_foreign_checkpoints_are_not_served(tmp_path):
    files, model = stored_model(tmp_path)
    stored = through_json(model)
    foreign = through_json(model)
    foreign["networks"]["c0"]["blob"] = model.networks["c1"].blob
    with pytest.raises(StoreCorrupt, match="the journal says"):
        load(foreign, files)
    moments = through_json(model)
    moments["networks"]["c0"]["blob"] = model.networks["c0"].moments_blob
    with pytest.raises(StoreCorrupt, match="does not hold the tensors"):
        load(moments, files)
    file = files.path(model.networks["c0"].blob)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    with pytest.raises(StoreCorrupt, match="has changed"):
        load(stored, files)
    file.unlink()
    with pytest.raises(StoreCorrupt, match="cannot be read"):
        load(stored, files)


def with_server_state(tmp_path, vectors=None, header=None):
    """A version whose first network has moments of a federated method in a file."""
    files, model = stored_model(tmp_path)
    one = model.networks["c0"]
    size = one.plan.n_params
    made = {"server_m": np.full(size, 0.5, "f4"), "server_v": np.full(size, 1e-6, "f4")}
    written = made if vectors is None else vectors
    blob, _ = files.write(written, {SERVER_METHOD: "fedadam"} if header is None else header)
    server = ServerState("fedadam", made, {"worker-0": made["server_m"]})
    one = replace(one, server_blob=blob, state=replace(one.state, server=server))
    return files, replace(model, networks={**model.networks, "c0": one})


def test_what_a_federated_method_keeps_reads_back_with_its_method(tmp_path):
    files, model = with_server_state(tmp_path)
    again = load(through_json(model), files).networks
    assert again["c0"].state.server.method == "fedadam"
    for name, vector in model.networks["c0"].state.server.vectors.items():
        assert np.array_equal(again["c0"].state.server.vectors[name], vector)
    assert again["c0"].state.server.controls == {}, "control variates are not stored"
    assert again["c1"].state.server is None
    assert model.networks["c0"].server_blob in model.blobs


@pytest.mark.parametrize(
    ("vectors", "header"),
    [
        ({"server_m": np.zeros(2, "f4")}, None),
        ({"server_m": np.zeros(3, "f8")}, None),
        (None, {"cohort": "c0"}),
    ],
)
def test_a_file_that_does_not_fit_is_refused(tmp_path, vectors, header):
    files, model = with_server_state(tmp_path, vectors, header)
    with pytest.raises(StoreCorrupt, match="does not hold"):
        load(through_json(model), files)
