"""A cluster whose newest version is damaged goes on with the newest one that is whole.

It is put in force under a new number, as a version that a caller restores; the ledger says which files were
damaged, and they are kept aside in `damaged/`. A training that ran has lost what it rested on, and ends.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.cluster import ClusterState
from flow_nexus_neural.engine.state.version import CommittedVersion, KeptVersion
from flow_nexus_neural.engine.storage.checkpoints import DAMAGED, CheckpointFiles
from flow_nexus_neural.engine.training.end_record import record_end
from flow_nexus_neural.engine.versions.rollback import commit_former, load_former
from flow_nexus_neural.errors import StoreCorrupt

log = logging.getLogger(__name__)

DAMAGED_FILES = "damaged_files"
"""Field of the ledger entry of a roll back that damage made necessary."""


@dataclass(frozen=True)
class FallBack:
    """The newest version that is whole, of a cluster whose version in force is not.

    Attributes:
        former: It, with its weights.
        line: What the cluster keeps of it in one line.
        damaged: Names of files of the version in force that cannot be read.
    """

    former: CommittedVersion
    line: KeptVersion
    damaged: tuple[str, ...]


async def find_whole(context: EngineContext, state: ClusterState) -> FallBack | None:
    """The newest version that is whole and that members can serve; None where there is none.

    Under raft there is none either: what is in force is for a majority of voters to decide.

    Args:
        context: Of the engine.
        state: The cluster, read without the weights of its version in force.
    """
    present = state.committed
    if present is None or not _may_fall_back(state):
        return None
    damaged = await context.offload(_damaged, context.checkpoints, present)
    for line in reversed(present.kept):
        if line.blobs & {*damaged}:
            continue
        try:
            stored = await context.store.kept_version(state.cluster_id, line.version)
            former = await context.offload(load_former, context.checkpoints, stored, line)
        except StoreCorrupt:
            continue
        if damaged and state.with_current_members(former).members:
            return FallBack(former, line, damaged)
    return None


def ways_back(state: ClusterState) -> tuple[frozenset[str], ...]:
    """Sets of files, each enough for a cluster to answer again; an empty one where it has no version."""
    present = state.committed
    if present is None:
        return (frozenset(),)
    kept = present.kept if _may_fall_back(state) else ()
    return (present.present_files, *(frozenset(line.blobs) for line in kept))


def _may_fall_back(state: ClusterState) -> bool:
    """Under raft a majority of voters decides what is in force, and nobody else."""
    return state.spec.consensus != "raft"


async def fall_back(cluster: LiveCluster, found: FallBack) -> None:
    """Put the version that was found in force, before anybody can ask for another one.

    Raises:
        StoreUnavailable: It could not be made durable; the next start tries again.
    """
    context, state = cluster.context, cluster.state
    present = state.committed
    if present is None:  # then there was nothing to fall back from
        return
    await context.offload(_keep_aside, context.checkpoints, found.damaged)
    whole = _without(present, {*found.damaged})
    state.commit(whole)
    why: dict[str, JsonValue] = {DAMAGED_FILES: [*found.damaged]}
    await commit_former(cluster, whole, found.former, found.line, why)
    told = told_of_fall_back(present.version, found.line.version, found.damaged)
    state.note_fall_back(present.version + 1, told)
    log.error("cluster %s: %s", cluster.cluster_id, told)
    training = state.latest_training
    if training is not None and training.status == "running":
        error = f"interrupted: the server ended, and it cannot go on: {told}"
        training.end("failed", error, context.timestamp())
        await record_end(cluster, training)


def fall_back_of(chain: Sequence[Mapping[str, JsonValue]], version: int) -> str | None:
    """What is to be said of a version in force that took the place of a damaged one; None of any other."""
    for entry in reversed(chain):
        files = entry.get(DAMAGED_FILES)
        if isinstance(files, list) and entry.get("model_version") == version:
            names = tuple(str(name) for name in files)
            return told_of_fall_back(entry.get("replaced"), entry.get("restored"), names)
    return None


def told_of_fall_back(lost: JsonValue, restored: JsonValue, damaged: tuple[str, ...]) -> str:
    """What is said in status and in the log."""
    files = ", ".join(f"{name[:12]}.." for name in damaged[:4])
    same = lost == restored
    what = "the optimiser's state of version" if same else "version"
    return (
        f"{what} {lost} is lost, for its file {files} was damaged and is kept aside in {DAMAGED}/:"
        f" version {restored} was put in force again"
    )


def _damaged(files: CheckpointFiles, present: CommittedVersion) -> tuple[str, ...]:
    """Files that the version in force needs and that are missing or altered. Blocking."""
    found = []
    for name in sorted(present.present_files):
        try:
            files.read(name)
        except StoreCorrupt:
            found.append(name)
    return tuple(found)


def _keep_aside(files: CheckpointFiles, damaged: Sequence[str]) -> None:
    for name in damaged:
        files.keep_aside(name)


def _without(present: CommittedVersion, damaged: set[str]) -> CommittedVersion:
    """A version that names no damaged file besides its own."""
    recent = {
        key: tuple(name for name in names if name not in damaged)
        for key, names in present.recent.items()
    }
    return replace(
        present,
        recent=recent,
        best={key: name for key, name in present.best.items() if name not in damaged},
        kept=tuple(line for line in present.kept if not line.blobs & damaged),
    )
