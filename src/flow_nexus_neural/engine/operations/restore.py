"""Reading the clusters back when a server starts on a state directory that has some."""

from collections.abc import Mapping

from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import head
from flow_nexus_neural.engine.context import EngineContext, timestamp
from flow_nexus_neural.engine.reports import HistoryPoint
from flow_nexus_neural.engine.state.cluster import Cluster, ClusterSpec, LedgerHead
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import load_committed
from flow_nexus_neural.engine.storage.rows import ClusterRow, Stored
from flow_nexus_neural.errors import StoreCorrupt


async def restore(context: EngineContext) -> tuple[list[Cluster], dict[str, str]]:
    """Read everything that is stored.

    Slots whose processes ended with the former server are `recovering`; they start on first use. A training
    that was running is reported as stopped at its last committed round.

    Returns:
        The clusters, and for those that do not verify the reason, by id.

    Raises:
        StoreCorrupt: The journal cannot be read at all.
    """
    stored = await context.store.load()
    refused = dict(stored.refused)
    clusters: list[Cluster] = []
    for row in stored.clusters:
        if row.cluster_id in refused:
            continue
        try:
            clusters.append(await context.offload(_cluster, context, stored, row))
        except StoreCorrupt as failure:
            refused[row.cluster_id] = failure.message
    for cluster in clusters:
        for training in cluster.trainings:
            if training.ended_at == "":
                training.ended_at = timestamp()
                await context.store.put_training(training.to_row(cluster.cluster_id))
    return clusters, refused


def _cluster(context: EngineContext, stored: Stored, row: ClusterRow) -> Cluster:
    spec, state = dict(row.spec), dict(row.state)
    cluster = Cluster(
        cluster_id=row.cluster_id,
        spec=ClusterSpec(name=row.name, **spec),  # type: ignore[arg-type]  # JSON that we wrote
        created_at=row.created_at,
        clock=context.clock,
        created_at_s=0.0,
        terminated_at=row.terminated_at,
        end_recorded=row.terminated_at is not None,
    )
    _restore_state(context, cluster, state)
    end = head(stored.ledgers.get(row.cluster_id, ()))
    cluster.head = LedgerHead(seq=end.next_seq, sha=end.prev_sha, versions=end.versions)
    for slot_row in stored.slots:
        if slot_row.cluster_id == row.cluster_id:
            cluster.slots.add(Slot.from_row(slot_row))
    for training_row in stored.trainings:
        if training_row.cluster_id != row.cluster_id:
            continue
        history = [
            HistoryPoint.model_validate(point.point)
            for point in stored.history
            if point.training_id == training_row.training_id
        ]
        training = Training.from_row(training_row, history)
        if training.status == "running":
            _mark_interrupted(training)
        cluster.trainings.append(training)
    return cluster


def _restore_state(
    context: EngineContext, cluster: Cluster, state: Mapping[str, JsonValue]
) -> None:
    committed = state.get("committed")
    if isinstance(committed, dict):
        files = None if cluster.end_recorded else context.checkpoints
        cluster.committed = load_committed(committed, files)
    epoch, made = state.get("topology_epoch"), state.get("cohorts_made")
    cluster.topology_epoch = epoch if isinstance(epoch, int) else 0
    cluster.networks_made = made if isinstance(made, int) else 0
    counted = state.get("communication")
    if isinstance(counted, dict):
        for category in cluster.metrics.bytes_by_category:
            value = counted.get(category)
            cluster.metrics.bytes_by_category[category] = value if isinstance(value, int) else 0
    final = state.get("final")
    cluster.final = final if isinstance(final, dict) else None


def _mark_interrupted(training: Training) -> None:
    training.status = "stopped"
    training.ended_at = ""
    training.error = training.interruption
