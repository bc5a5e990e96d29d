"""Vectors of every worker of a network group, in one file: what each holds, or its control variate."""

from collections.abc import Mapping

import numpy as np

from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup, Vector
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.errors import StoreCorrupt

OWN_STATES = "own states"
"""Kind, in the journal, of a file with what each worker holds under gossip."""
CONTROLS = "controls"
"""The same for SCAFFOLD's control variates."""

_CONTROL = "control"
_LOST = "restore the state directory from a copy, or train the cluster again"


def write_states(
    files: CheckpointFiles, owner: Mapping[str, str], states: Mapping[str, ModelState]
) -> tuple[str, int]:
    """Store the state of each worker. Blocking.

    Args:
        files: Where to.
        owner: Cluster, training and network group, for the header of the file.
        states: By slot; the optimiser's steps are those of the group and are stored with its version.

    Raises:
        StoreUnavailable: The disk refuses; nothing is left.
    """
    return _write(files, owner, {slot: state.arrays for slot, state in states.items()})


def read_states(files: CheckpointFiles, sha: str, network: NetworkGroup) -> dict[str, ModelState]:
    """What each worker of a group holds, verified. Blocking.

    Args:
        files: Where from.
        sha: Name of the file.
        network: With its committed state, which has the same shapes and the steps.

    Raises:
        StoreCorrupt: The file is missing, altered, or does not fit the network.
    """
    like = network.state
    if like is None:
        raise StoreCorrupt(f"network {network.key} has no state", hint=_LOST)
    shapes = {name: array.shape for name, array in like.arrays.items()}
    return {
        slot: ModelState(
            arrays["params"],
            arrays["buffers"],
            {name: arrays[name] for name in like.moments},
            like.opt_step,
        )
        for slot, arrays in _read(files, sha, shapes).items()
    }


def write_controls(
    files: CheckpointFiles, owner: Mapping[str, str], controls: Mapping[str, Vector]
) -> tuple[str, int]:
    """Store the control variate of each worker. Blocking; arguments and errors as `write_states`."""
    return _write(files, owner, {slot: {_CONTROL: vector} for slot, vector in controls.items()})


def read_controls(files: CheckpointFiles, sha: str, network: NetworkGroup) -> dict[str, Vector]:
    """The control variate of each worker of a group. Blocking; arguments and errors as `read_states`."""
    shapes = {_CONTROL: (network.plan.n_params,)}
    return {slot: arrays[_CONTROL] for slot, arrays in _read(files, sha, shapes).items()}


def _write(
    files: CheckpointFiles, owner: Mapping[str, str], vectors: Mapping[str, Mapping[str, Vector]]
) -> tuple[str, int]:
    tensors = {
        f"{slot}.{name}": array
        for slot, arrays in vectors.items()
        for name, array in arrays.items()
    }
    return files.write(tensors, {**owner, "slots": list(vectors)})


def _read(
    files: CheckpointFiles, sha: str, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[str, Vector]]:
    tensors, metadata = files.read_with_metadata(sha)
    try:
        found = {
            str(slot): {name: tensors[f"{slot}.{name}"] for name in shapes}
            for slot in metadata["slots"]
        }
    except (KeyError, TypeError) as failure:
        raise StoreCorrupt(f"file {sha[:12]} holds no vectors of workers", hint=_LOST) from failure
    for slot, arrays in found.items():
        for name, array in arrays.items():
            if array.shape != shapes[name] or array.dtype != np.float32:
                raise StoreCorrupt(f"file {sha[:12]}: {name} of {slot} does not fit", hint=_LOST)
    return found
