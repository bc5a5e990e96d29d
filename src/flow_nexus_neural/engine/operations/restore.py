"""Reading the clusters back when a server starts on a state directory that has some."""

import logging

from flow_nexus_neural.coordination.ledger import head
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.cluster import ClusterState
from flow_nexus_neural.engine.storage.cluster_rows import (
    cluster_spec,
    restore_state,
    slot_of,
    training_of,
    training_row,
)
from flow_nexus_neural.engine.storage.rows import ClusterRow, Stored
from flow_nexus_neural.errors import StoreCorrupt

log = logging.getLogger(__name__)


async def restore(context: EngineContext) -> tuple[list[ClusterState], dict[str, str]]:
    """Read everything that is stored.

    Slots whose processes ended with the former server are `recovering`; they start on first use. A training
    that was running is reported as stopped at its last committed round. A cluster that cannot be read is left
    out, named, and costs no other cluster.

    Returns:
        The clusters, and for those that cannot be read the reason, by id.

    Raises:
        StoreCorrupt: The journal itself cannot be read.
        StoreUnavailable: That a training was interrupted could not be made durable.
    """
    stored = await context.store.load()
    refused = dict(stored.refused)
    clusters: list[ClusterState] = []
    for row in stored.clusters:
        if row.cluster_id in refused:
            continue
        try:
            clusters.append(await context.offload(_cluster, context, stored, row))
        except StoreCorrupt as failure:
            refused[row.cluster_id] = failure.message
    for cluster in clusters:
        for training in cluster.trainings:
            if training.status == "running":
                serving = None if cluster.committed is None else cluster.committed.version
                training.interrupt(context.timestamp(), serving)
                await context.store.put(training_row(cluster.cluster_id, training))
    for cluster_id, reason in refused.items():
        log.error("cluster %s cannot be read and is left out: %s", cluster_id, reason)
    return clusters, refused


def files_in_use(clusters: list[ClusterState]) -> set[str]:
    """Files that these clusters need: checkpoints, and the rows of each one's latest training."""
    used = {name for cluster in clusters if cluster.committed for name in cluster.committed.blobs}
    for cluster in clusters:
        latest = cluster.latest_training
        if latest is not None and latest.data is not None:
            used.add(latest.data.sha256)
    return used


def _cluster(context: EngineContext, stored: Stored, row: ClusterRow) -> ClusterState:
    state = ClusterState(
        cluster_id=row.cluster_id,
        spec=cluster_spec(row),
        created_at=row.created_at,
        clock=context.clock,
        created_at_s=0.0,
        terminated_at=row.terminated_at,
        end_recorded=row.terminated_at is not None,
    )
    restore_state(row, state, None if state.end_recorded else context.checkpoints)
    state.advance_ledger(head(stored.ledgers.get(row.cluster_id, ())))
    for slot_row in stored.slots:
        if slot_row.cluster_id == row.cluster_id:
            state.slots.add(slot_of(slot_row))
    for training_row_ in stored.trainings:
        if training_row_.cluster_id == row.cluster_id:
            mine = [p for p in stored.history if p.training_id == training_row_.training_id]
            state.restore_training(training_of(training_row_, mine))
    return state
