"""Autonomy in this version: it watches a cluster and says what it would do; it does nothing."""

from flow_nexus_neural.coordination.autonomy import (
    Observation,
    SlotObservation,
    effective_level,
    plan,
)
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DaaReport

EVENTS_SHOWN = 20


async def attend(cluster: LiveCluster) -> None:
    """Look at a cluster after every change until it is terminated.

    A task of its own: what is planned here can act on the cluster like any client, without re-entering the
    operation whose change it saw.
    """
    while cluster.state.terminated_at is None:
        seen = cluster.changes.count
        observe(cluster)
        await cluster.changes.wait_beyond(seen)


def observe(cluster: LiveCluster) -> None:
    """Look at a cluster now and log what has become advisable; only its autonomy log changes."""
    log = cluster.state.autonomy
    failed = [slot.name for slot in cluster.slots if slot.state == "failed"]
    log.see_failed(failed, cluster.clock())
    actions, memory = plan(_observation(cluster), log.memory)
    log.record(actions, memory, cluster.context.timestamp())


def report(cluster: LiveCluster, *, events: bool) -> DaaReport:
    """What status says; the last events only when asked for."""
    log = cluster.state.autonomy
    return DaaReport(
        enabled=cluster.spec.daa_enabled,
        level_effective=effective_level(_observation(cluster)),
        recommended=log.recommended,
        events=list(log.events)[-EVENTS_SHOWN:] if events else [],
    )


def _observation(cluster: LiveCluster) -> Observation:
    since = cluster.state.autonomy.failed_since_s
    training = cluster.state.latest_training if cluster.run is not None else None
    return Observation(
        at_s=cluster.clock(),
        daa_enabled=cluster.spec.daa_enabled,
        slots=[
            SlotObservation(
                slot=slot.name,
                state=slot.state,
                autonomy=slot.spec.autonomy,
                failed_since_s=since.get(slot.name),
            )
            for slot in cluster.slots
        ],
        select_losses=[point.val_loss for point in training.history] if training else [],
        min_workers=1 if training else 0,
        healthy_workers=len(cluster.slots.healthy("worker")),
    )
