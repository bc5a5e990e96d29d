"""Taking a node out of its cluster for good."""

from dataclasses import dataclass, field

import anyio

from flow_nexus_neural.engine.live import LiveCluster, RunningTraining
from flow_nexus_neural.engine.raft.gate import voters_of
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import ConsensusUnavailable, InvalidArguments, TrainingRunning


@dataclass(frozen=True)
class Removal:
    """What a removal did.

    Attributes:
        already: It had been removed before.
        stopped: Whether a process was stopped.
    """

    slot: Slot
    already: bool
    stopped: bool
    warnings: list[str] = field(default_factory=list)


async def remove_node(cluster: LiveCluster, node: str) -> Removal:
    """Remove a node on the caller's request, between trainings; calling it again gives the same answer.

    Raises:
        NodeNotFound: Neither a node id nor a slot name of this cluster.
        TrainingRunning: A training runs or is prepared; nothing changed.
        InvalidArguments: The node is being started by another call; nothing changed.
        StoreUnavailable: It is removed and that could not be recorded; the same call records it.
    """
    async with cluster.changing:
        cluster.state.refuse_ended()
        removed = [s for s in cluster.slots.with_retired() if s.state == "retired"]
        for slot in removed:
            if node in (slot.node_id, slot.name):
                already = slot.removal_recorded
                await _record(cluster, slot)
                return Removal(slot, already=already, stopped=False)
        slot = cluster.slots.find(node)
        if cluster.is_training:
            raise TrainingRunning(
                f"node {slot.name} cannot be removed while cluster {cluster.cluster_id} trains",
                hint='wait with neural_cluster_status (wait_seconds, until "done"), or stop the training'
                " with neural_cluster_terminate (training_id), then call this again",
            )
        async with slot.restarting:
            if slot.state in ("declared", "starting", "syncing"):
                raise InvalidArguments(
                    f"node {slot.name} is being started by another call",
                    hint="call this again when that neural_node_deploy has returned",
                )
            warnings = [*await _give_up_vote(cluster, slot), *_warnings(cluster, slot)]
            stopped = await retire(cluster, slot)
    return Removal(slot, already=False, stopped=stopped, warnings=warnings)


async def _give_up_vote(cluster: LiveCluster, slot: Slot) -> list[str]:
    """Let the voters go on without a slot while it still counts; what to say where they cannot."""
    group = voters_of(cluster)
    if group is None:
        return []
    try:
        await group.leave(slot)
    except ConsensusUnavailable as failure:
        return [f"{slot.name} is still counted as a voter that is lost: {failure.message}"]
    return []


async def retire(cluster: LiveCluster, slot: Slot) -> bool:
    """Take a slot out of everything and stop its process; returns whether there was one.

    Raises:
        StoreUnavailable: It could not be recorded. The process is stopped all the same.
    """
    handle, run = slot.handle, cluster.run
    node_id = slot.node_id
    owned_rows = run is not None and slot.name in run.shards and run.shards[slot.name].size > 0
    cluster.state.retire_slot(slot)
    slot.detach()
    if run is not None and owned_rows:
        run.at_next_boundary(lambda: _deal_anew(cluster, run))
    cluster.changed()
    try:
        await _record(cluster, slot)
    finally:
        with anyio.CancelScope(shield=True):
            if handle is not None:
                await handle.stop()
            await cluster.wiring.leave(slot, node_id)
        cluster.changed()
    return handle is not None


async def _record(cluster: LiveCluster, slot: Slot) -> None:
    if not slot.removal_recorded:
        await cluster.ledger.record_membership(slot, "left")
        slot.note_removal_recorded()


def _warnings(cluster: LiveCluster, slot: Slot) -> list[str]:
    """What the caller should know of the cluster without this slot."""
    warnings = []
    version, links = cluster.committed, cluster.state.links
    if version is not None and version.network_of(slot.name) is not None:
        left = version.without_slot(slot.name)
        if not left.members:
            warnings.append(
                f"no node serves model version {version.version} any more: a training of the same layers on"
                " the same kind of data goes on from it"
            )
        elif left.evaluation is None and version.evaluation is not None:
            warnings.append(
                "the other nodes answer differently without this one: accuracy, loss and calibration are"
                " unknown until the next training"
            )
    if links is not None and slot.name in links.members and len(links.members) > 1:
        warnings.append(
            f"the links of {slot.name} are gone; neural_cluster_connect links the others anew"
        )
    return warnings


async def _deal_anew(cluster: LiveCluster, run: RunningTraining) -> None:
    """Give the rows of a removed slot to the workers that are left."""
    left = [s for s in cluster.slots.healthy("worker") if run.network_of(s.name) is not None]
    if left:
        await run.reshard(left)
