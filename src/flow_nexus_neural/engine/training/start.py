"""Starting a training: prepare, make it durable, and hand it to the engine's tasks."""

from dataclasses import replace

from flow_nexus_neural.engine.context import EngineContext, new_id, timestamp
from flow_nexus_neural.engine.links.connect import connect_for_training
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.operations.status import guarantees
from flow_nexus_neural.engine.reports import TrainingReport
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.cluster import Cluster, refuse_ended
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.training.arguments import check_arguments
from flow_nexus_neural.engine.training.preparation import (
    Preparation,
    healthy_workers,
    prepare_training,
)
from flow_nexus_neural.engine.training.run import TrainingRun
from flow_nexus_neural.errors import TrainingRunning

FIRST_POLL_MS = 1000


async def start_training(
    context: EngineContext, cluster: Cluster, request: TrainRequest
) -> TrainingReport:
    """Start a training; its row is durable when this returns, and it outlives the call.

    Raises:
        TrainingRunning: One is running or being prepared.
        InvalidRequest, InvalidState: Whatever is wrong with arguments, data or layers; nothing changed.
        StoreUnavailable: The training could not be made durable; it does not run.
    """
    _refuse_second(cluster)
    check_arguments(request)
    cluster.reserved = True
    try:
        await revive(context, cluster)
        healthy_workers(cluster)
        async with cluster.changing:
            prepared = await prepare_training(context, cluster, request, len(cluster.trainings))
            notes = await connect_for_training(context, cluster)
            refuse_ended(cluster)
            training = Training(
                training_id=new_id("trn"),
                ordinal=len(cluster.trainings),
                config=prepared.config,
                started_at=timestamp(),
            )
            await context.store.put_training(training.to_row(cluster.cluster_id))
            run = _install(context, cluster, training, prepared)
    finally:
        cluster.reserved = False
    context.spawn(run.run)
    context.changed(cluster)
    return _report(cluster, training, prepared, [*notes, *prepared.warnings])


def _refuse_second(cluster: Cluster) -> None:
    if not cluster.is_training:
        return
    training = cluster.latest_training
    running = (
        f"training {training.training_id} is at {training.percent:.0f} %"
        if cluster.run is not None and training is not None
        else "another training is being prepared"
    )
    raise TrainingRunning(
        f"cluster {cluster.cluster_id} trains already: {running}",
        hint="wait with neural_cluster_status (wait_seconds, until: done), or stop it with"
        " neural_cluster_terminate (training_id)",
    )


def _install(
    context: EngineContext, cluster: Cluster, training: Training, prepared: Preparation
) -> TrainingRun:
    if cluster.committed is not None:  # connecting may have committed a version
        newest = cluster.committed.newest
        networks = {key: newest(network) for key, network in prepared.networks.items()}
        prepared = replace(prepared, networks=networks)
    run = TrainingRun(context, cluster, training, prepared)
    cluster.trainings.append(training)
    cluster.networks_made += sum(network.version == 0 for network in prepared.networks.values())
    cluster.run = run
    for network in prepared.networks.values():
        for name in network.slots:
            slot = cluster.slots[name]
            slot.parameters = network.plan.n_params
            slot.implied_head = network.plan.implied_head
            slot.rows = run.exchange.rows_of(name)
    return run


def _report(
    cluster: Cluster, training: Training, prepared: Preparation, warnings: list[str]
) -> TrainingReport:
    taking_part = [
        cluster.slots[name]
        for network in prepared.networks.values()
        for name in network.slots
        if prepared.shards.rows[name].size
    ]
    return TrainingReport(
        training_id=training.training_id,
        cluster_id=cluster.cluster_id,
        status="running",
        nodes_training=len(taking_part),
        participating_nodes=[slot.node_id for slot in taking_part],
        epochs=training.config.epochs,
        total_rounds=training.config.rounds,
        config=training.config,
        dataset_info=prepared.dataset,
        networks=prepared.network_infos,
        guarantees=guarantees(cluster),
        poll_after_ms=FIRST_POLL_MS,
        estimated_seconds=None,
        started_at=training.started_at,
        warnings=warnings,
    )
