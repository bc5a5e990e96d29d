"""What workers hold is stored in one file and read back to the byte, or refused by name."""

import numpy as np
import pytest

from flow_nexus_neural.engine.state.network_groups import ModelState
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.worker_vectors import (
    read_controls,
    read_states,
    write_controls,
    write_states,
)
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.engine.building import network as group

OWNER = {"cluster_id": "c", "training_id": "t", "cohort": "c0"}


def state_of(network, value):
    plan = network.plan
    vector = np.full(plan.n_params, value, dtype=np.float32)
    moments = {"m": vector / 2, "v": vector / 4}
    return ModelState(vector, np.full(plan.n_buffers, value, dtype=np.float32), moments, 9)


def test_states_come_back_to_the_byte_with_the_steps_of_their_network(tmp_path):
    files, network = CheckpointFiles(tmp_path), group()
    common = network.with_state(state_of(network, 0.5))
    held = {"worker-1": state_of(network, 0.1), "worker-0": state_of(network, 0.3)}
    sha, nbytes = write_states(files, OWNER, held)
    assert files.path(sha).stat().st_size == nbytes
    found = read_states(files, sha, common)
    assert list(found) == ["worker-1", "worker-0"]
    for slot, state in found.items():
        assert state.opt_step == 9
        for name, array in state.arrays.items():
            assert array.tobytes() == held[slot].arrays[name].tobytes()


def test_control_variates_come_back_to_the_byte(tmp_path):
    files, network = CheckpointFiles(tmp_path), group()
    controls = {"worker-0": state_of(network, 0.7).params}
    sha, _ = write_controls(files, OWNER, controls)
    found = read_controls(files, sha, network)
    assert found["worker-0"].tobytes() == controls["worker-0"].tobytes()


def test_a_file_of_another_network_or_of_another_kind_is_refused(tmp_path):
    files, network = CheckpointFiles(tmp_path), group()
    sha, _ = write_controls(files, OWNER, {"worker-0": np.zeros(4, dtype=np.float32)})
    with pytest.raises(StoreCorrupt, match="control of worker-0 does not fit"):
        read_controls(files, sha, network)
    with pytest.raises(StoreCorrupt, match="no vectors of workers"):
        read_states(files, sha, network.with_state(state_of(network, 1.0)))
    with pytest.raises(StoreCorrupt, match="has no state"):
        read_states(files, sha, network)
    plain, _ = files.write({"x": np.zeros(1, dtype=np.float32)}, {})
    with pytest.raises(StoreCorrupt, match="no vectors of workers"):
        read_controls(files, plain, network)
