"""Ending a cluster, or one of its trainings."""

from functools import partial

import anyio
from pydantic import JsonValue

from flow_nexus_neural.engine.context import EngineContext, timestamp
from flow_nexus_neural.engine.reports import FinalMetrics, TerminateReport
from flow_nexus_neural.engine.requests import TerminateRequest
from flow_nexus_neural.engine.state.cluster import Cluster
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.storage.ledger_writer import record
from flow_nexus_neural.errors import StoreError

STOP_TRAINING_S = 30.0


async def terminate(
    context: EngineContext, cluster: Cluster, request: TerminateRequest
) -> TerminateReport:
    """Stop a training, or every node of a cluster; the durable row is written before this returns.

    Calling it again gives the same report. Cancelling does not keep nodes alive.

    Raises:
        TrainingNotFound: The cluster has no training of this id.
    """
    if request.training_id is not None:
        with anyio.CancelScope(shield=True):
            was_over = await _stop_training(cluster, request.training_id)
        return _training_report(cluster, request.training_id, already=was_over)
    with anyio.CancelScope(shield=True):
        async with cluster.ending:
            already, stopped = cluster.end_recorded, 0
            if not already:
                stopped = await _stop_everything(context, cluster)
            if request.delete_artifacts:
                await _delete_artifacts(context, cluster)
    return _report(cluster, already=already, stopped=stopped)


async def stop_nodes(cluster: Cluster) -> int:
    """Stop every process of a cluster at once; returns how many there were."""
    living = [slot for slot in cluster.slots if slot.handle is not None]

    async def stop(slot: Slot) -> None:
        handle = slot.handle
        slot.detach()
        if handle is not None:
            await handle.stop()

    async with anyio.create_task_group() as group:
        for slot in living:
            group.start_soon(stop, slot)
    cluster.wiring.close()
    return len(living)


async def _stop_training(cluster: Cluster, training_id: str) -> bool:
    """Stop one training; returns whether it had already ended."""
    training = cluster.training(training_id)
    run = cluster.run
    if run is None or run.training is not training:
        return True
    run.scope.cancel()
    with anyio.move_on_after(STOP_TRAINING_S):
        await run.ended.wait()
    return False


def _training_report(cluster: Cluster, training_id: str, *, already: bool) -> TerminateReport:
    training = cluster.training(training_id)
    message = f"Training {training_id} of cluster {cluster.spec.name} stopped"
    if already:
        message = f"Training {training_id} had already ended: {training.status}"
    elif training.ended_at is None:
        message = f"Training {training_id} was told to stop; it still waits for a node"
    return TerminateReport(
        cluster_id=cluster.cluster_id,
        status="training_stopped",
        already_terminated=already,
        nodes_terminated=0,
        training_id=training_id,
        message=message,
        checkpoints_kept=_checkpoints(cluster),
        artifacts_path=_artifacts_path(cluster),
        final_metrics=_metrics(cluster),
        terminated_at=training.ended_at,
        warnings=[],
    )


async def _stop_everything(context: EngineContext, cluster: Cluster) -> int:
    """End a cluster; what an earlier call could not make durable is made so now."""
    cluster.terminated_at = cluster.terminated_at or timestamp()
    if cluster.run is not None:
        run = cluster.run
        run.scope.cancel()
        with anyio.move_on_after(STOP_TRAINING_S):
            await run.ended.wait()
    cluster.final = _metrics(cluster).model_dump(mode="json")
    stopped = await stop_nodes(cluster)
    for slot in list(cluster.slots):
        slot.move("retired")
    context.changed(cluster)
    rows = [partial(slot.to_row, cluster.cluster_id) for slot in cluster.slots.with_retired()]
    fields: dict[str, JsonValue] = {"kind": "control", "event": "terminated"}
    await record(context, cluster, [fields], [*rows, cluster.to_row])
    cluster.end_recorded = True
    if cluster.committed is not None:  # nobody will ask for them again
        cluster.committed = cluster.committed.without_weights()
    return stopped


async def _delete_artifacts(context: EngineContext, cluster: Cluster) -> None:
    """Forget the model and let its checkpoint files be swept."""
    committed = cluster.committed
    if committed is None:
        return
    cluster.committed = None
    fields: dict[str, JsonValue] = {"kind": "control", "event": "artifacts_deleted"}
    try:
        dropped = sorted(committed.blobs)
        await record(context, cluster, [fields], [cluster.to_row], dropped=dropped)
    except StoreError:
        cluster.committed = committed
        raise
    await context.delete_files(committed.blobs)


def _checkpoints(cluster: Cluster) -> int:
    return len(cluster.committed.blobs) if cluster.committed else 0


def _artifacts_path(cluster: Cluster) -> str | None:
    return "blobs" if cluster.committed else None


def _metrics(cluster: Cluster) -> FinalMetrics:
    if cluster.final is not None:
        return FinalMetrics.model_validate(cluster.final)
    committed, training = cluster.committed, cluster.latest_training
    return FinalMetrics(
        rounds=training.advance.rounds_done if training else None,
        global_accuracy=committed.accuracy if committed else None,
        global_loss=committed.loss if committed else None,
        communication_bytes=cluster.metrics.communication_bytes,
        uptime_seconds=int(cluster.uptime_s()),
    )


def _report(cluster: Cluster, *, already: bool, stopped: int) -> TerminateReport:
    return TerminateReport(
        cluster_id=cluster.cluster_id,
        status="terminated",
        already_terminated=already,
        nodes_terminated=stopped,
        training_id=None,
        message=f"Cluster {cluster.spec.name} terminated",
        checkpoints_kept=_checkpoints(cluster),
        artifacts_path=_artifacts_path(cluster),
        final_metrics=_metrics(cluster),
        terminated_at=cluster.terminated_at,
        warnings=[],
    )
