"""Ending a cluster, or one of its trainings or nodes."""

from functools import partial

import anyio
from pydantic import JsonValue

from flow_nexus_neural.artifacts.trackers.registry import delete_records
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.removal import Removal, remove_node
from flow_nexus_neural.engine.operations.restore import ARTIFACTS_DELETED
from flow_nexus_neural.engine.reports import FinalMetrics, TerminateReport
from flow_nexus_neural.engine.requests import TerminateRequest
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.cluster_rows import (
    cluster_row,
    present_cluster_row,
    slot_row,
    training_row,
)
from flow_nexus_neural.engine.storage.kept_rows import delete_kept
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.storage.outcome_rows import delete_outcomes
from flow_nexus_neural.engine.training.end_record import record_end
from flow_nexus_neural.errors import InvalidArguments, StoreError

STOP_TRAINING_S = 30.0


async def terminate(cluster: LiveCluster, request: TerminateRequest) -> TerminateReport:
    """Stop a training, a node or every node of a cluster; that is durable before this returns.

    Calling it again gives the same report. Cancelling does not keep nodes alive.

    Raises:
        TrainingNotFound, NodeNotFound: The cluster has none of this id.
        TrainingRunning: A node cannot be removed now.
        InvalidArguments: More than one thing is to be ended.
    """
    _refuse_two_things(request)
    if request.node_id is not None:
        with anyio.CancelScope(shield=True):
            removal = await remove_node(cluster, request.node_id)
        return _removal_report(cluster, removal)
    if request.training_id is not None:
        with anyio.CancelScope(shield=True):
            was_over = await _stop_training(cluster, request.training_id)
        return _training_report(cluster, request.training_id, already=was_over)
    with anyio.CancelScope(shield=True):
        async with cluster.ending:
            already, stopped = cluster.state.end_recorded, 0
            if not already:
                stopped = await _stop_everything(cluster)
            if request.delete_artifacts:
                await _delete_artifacts(cluster)
    return _report(cluster, already=already, stopped=stopped)


async def stop_nodes(cluster: LiveCluster) -> int:
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


async def _stop_training(cluster: LiveCluster, training_id: str) -> bool:
    """Stop one training; returns whether it had already ended. An end that is not durable is recorded."""
    training = cluster.state.training(training_id)
    run = cluster.run
    if run is None or run.training is not training:
        if training.unrecorded and run is None and training is cluster.state.latest_training:
            await record_end(cluster, training)
        return True
    run.stop()
    with anyio.move_on_after(STOP_TRAINING_S):
        await run.ended.wait()
    return False


def _refuse_two_things(request: TerminateRequest) -> None:
    if request.node_id is None:
        return
    other = "training_id" if request.training_id is not None else "delete_artifacts"
    if request.training_id is not None or request.delete_artifacts:
        raise InvalidArguments(
            f"node_id removes one node and does not go with {other}",
            hint="leave one of them out, or call neural_cluster_terminate once for each",
        )


def _removal_report(cluster: LiveCluster, removal: Removal) -> TerminateReport:
    slot = removal.slot
    done = "had been removed before" if removal.already else "removed"
    return TerminateReport(
        cluster_id=cluster.cluster_id,
        status="node_removed",
        already_terminated=removal.already,
        nodes_terminated=int(removal.stopped),
        training_id=None,
        node_id=slot.node_id,
        message=f"Node {slot.name} ({slot.node_id}) {done}; cluster {cluster.spec.name} goes on with"
        f" {len(cluster.slots)} nodes",
        checkpoints_kept=_checkpoints(cluster),
        artifacts_path=_artifacts_path(cluster),
        final_metrics=_metrics(cluster),
        terminated_at=None,
        warnings=removal.warnings,
    )


def _training_message(training: Training, name: str, *, already: bool) -> str:
    if training.ended_at is None:
        return f"Training {training.training_id} was told to stop and has not ended yet"
    if already or training.status != "stopped":  # it may end by itself while it is told to stop
        return f"Training {training.training_id} had already ended: {training.status}"
    return f"Training {training.training_id} of cluster {name} stopped"


def _training_report(cluster: LiveCluster, training_id: str, *, already: bool) -> TerminateReport:
    training = cluster.state.training(training_id)
    return TerminateReport(
        cluster_id=cluster.cluster_id,
        status="training_stopped",
        already_terminated=already,
        nodes_terminated=0,
        training_id=training_id,
        node_id=None,
        message=_training_message(training, cluster.spec.name, already=already),
        checkpoints_kept=_checkpoints(cluster),
        artifacts_path=_artifacts_path(cluster),
        final_metrics=_metrics(cluster),
        terminated_at=training.ended_at,
        warnings=[
            f"{training.unrecorded} Until it is, another server would go on with it: call this again"
        ]
        if training.unrecorded
        else [],
    )


async def _stop_everything(cluster: LiveCluster) -> int:
    """End a cluster; what an earlier call could not make durable is made so now."""
    cluster.state.end(cluster.context.timestamp())
    if cluster.run is not None:
        run = cluster.run
        run.stop()
        with anyio.move_on_after(STOP_TRAINING_S):
            await run.ended.wait()
    if cluster.file is not None:
        await cluster.file.stop()
    cluster.state.record_final(_metrics(cluster))
    stopped = await stop_nodes(cluster)
    for slot in list(cluster.slots):
        slot.move("retired")
    cluster.changed()
    state = cluster.state
    rows: list[LateRow] = [
        partial(slot_row, cluster.cluster_id, slot) for slot in cluster.slots.with_retired()
    ]
    # Once more: the disk may have refused the end of one, and from now on it alone is asked.
    rows += [partial(training_row, cluster.cluster_id, training) for training in state.trainings]
    fields: dict[str, JsonValue] = {"kind": "control", "event": "terminated"}
    unrecorded = [training for training in state.trainings if training.unrecorded]
    for training in unrecorded:
        training.note_unrecorded_end(None)
    try:
        await cluster.ledger.record([fields], [*rows, partial(present_cluster_row, state)])
    except StoreError as failure:
        for training in unrecorded:
            training.note_unrecorded_end(str(failure))
        raise
    state.forget_weights()
    return stopped


async def _delete_artifacts(cluster: LiveCluster) -> None:
    """Forget the model, the prepared rows and the outcomes, and delete their files."""
    state = cluster.state
    prepared = [t.data.sha256 for t in state.trainings if t.data is not None]
    await cluster.context.offload(
        delete_records, cluster.context.settings.state_dir, cluster.cluster_id
    )
    files = sorted({*prepared, *(state.committed.blobs if state.committed else ())})
    if not files:
        await cluster.context.store.delete_model(cluster.cluster_id)
        return
    fields: dict[str, JsonValue] = {"kind": "control", "event": ARTIFACTS_DELETED}
    row = partial(cluster_row, state, None)
    # One transaction: without the ledger's word that they are gone, all of them are still there.
    more = [delete_outcomes(cluster.cluster_id), delete_kept(cluster.cluster_id)]
    await cluster.ledger.record([fields], [row], dropped=files, more=more)
    state.forget_model()
    await cluster.context.delete_files(files)


def _checkpoints(cluster: LiveCluster) -> int:
    return len(cluster.committed.blobs) if cluster.committed else 0


def _artifacts_path(cluster: LiveCluster) -> str | None:
    return "blobs" if cluster.committed else None


def _metrics(cluster: LiveCluster) -> FinalMetrics:
    if cluster.state.final is not None:
        return cluster.state.final
    committed, training = cluster.committed, cluster.state.latest_training
    return FinalMetrics(
        rounds=training.advance.rounds_done if training else None,
        global_accuracy=committed.accuracy if committed else None,
        global_loss=committed.loss if committed else None,
        communication_bytes=cluster.metrics.communication_bytes,
        uptime_seconds=int(cluster.state.uptime_s()),
    )


def _report(cluster: LiveCluster, *, already: bool, stopped: int) -> TerminateReport:
    return TerminateReport(
        cluster_id=cluster.cluster_id,
        status="terminated",
        already_terminated=already,
        nodes_terminated=stopped,
        training_id=None,
        node_id=None,
        message=f"Cluster {cluster.spec.name} terminated",
        checkpoints_kept=_checkpoints(cluster),
        artifacts_path=_artifacts_path(cluster),
        final_metrics=_metrics(cluster),
        terminated_at=cluster.state.terminated_at,
        warnings=_what_stays(cluster),
    )


def _what_stays(cluster: LiveCluster) -> list[str]:
    """What the kept files are good for, and how the cluster comes back."""
    kept = _checkpoints(cluster)
    if not kept:
        return []
    notice = (
        f"the {kept} files of its model stay: neural_cluster_init (restore {cluster.cluster_id!r}) brings the"
        " cluster back with its nodes and this model; the same call with delete_artifacts true deletes them"
        " for good"
    )
    return [notice]
