"""What autonomy sees of a cluster at one moment; nothing is changed."""

from flow_nexus_neural.coordination.autonomy.observation import (
    Observation,
    SlotObservation,
    TrainingObservation,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import serving_slots


def observation(cluster: LiveCluster) -> Observation:
    """The cluster as the planner sees it now."""
    log = cluster.state.autonomy
    return Observation(
        at_s=cluster.clock(),
        daa_enabled=cluster.spec.daa_enabled,
        slots=[_slot(cluster, slot) for slot in cluster.slots],
        training=_training(cluster),
        unlinked=_unlinked(cluster),
        max_nodes=cluster.context.settings.max_nodes,
        finished=tuple(log.finished),
    )


def _slot(cluster: LiveCluster, slot: Slot) -> SlotObservation:
    return SlotObservation(
        slot=slot.name,
        state=slot.state,
        autonomy=slot.spec.autonomy,
        failed_since_s=cluster.state.autonomy.failed_since_s.get(slot.name),
        returning=slot.returning or slot.restarting.locked(),
        digest_matches=_digest_matches(cluster, slot),
    )


def _digest_matches(cluster: LiveCluster, slot: Slot) -> bool | None:
    """Whether it holds the weights in force; None where it should hold none, or is being given others."""
    committed = cluster.committed
    if committed is None or not slot.healthy or cluster.state.installing is not None:
        return None
    if slot.spec.role != "worker" or committed.network_of(slot.name) is None:
        return None
    return slot in serving_slots(cluster)


def _unlinked(cluster: LiveCluster) -> list[str]:
    """Slots that are linked and have no process."""
    links = cluster.state.links
    if links is None:
        return []
    return [slot.name for slot in cluster.slots if slot.name in links.members and not slot.handle]


def _training(cluster: LiveCluster) -> TrainingObservation | None:
    run = cluster.run
    if run is None:
        return None
    return TrainingObservation(
        select_losses=[point.val_loss for point in run.training.history],
        min_workers=1,
        healthy_workers=len(cluster.slots.healthy("worker")),
    )
