"""Starting a training: prepare, make it durable, and hand it to the engine's tasks."""

from dataclasses import replace

from flow_nexus_neural.coordination.scrutiny import Scrutiny
from flow_nexus_neural.engine.links.connect import connect_for_training
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.guarantees import guarantees
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.raft.gate import require_majority
from flow_nexus_neural.engine.reports import TrainingReport
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.continuation import Continuation
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.cluster_rows import training_row
from flow_nexus_neural.engine.storage.prepared_data import (
    PREPARED_DATA,
    stored_request,
    write_prepared,
)
from flow_nexus_neural.engine.training.arguments import check_arguments
from flow_nexus_neural.engine.training.division import division_of
from flow_nexus_neural.engine.training.feedback_data import FEEDBACK
from flow_nexus_neural.engine.training.gossip import check_mixing
from flow_nexus_neural.engine.training.preparation import (
    Preparation,
    healthy_workers,
    prepare_training,
)
from flow_nexus_neural.engine.training.resume import carry_through
from flow_nexus_neural.engine.training.run import TrainingRun
from flow_nexus_neural.engine.versions.lineage import inherited
from flow_nexus_neural.errors import TrainingRunning

FIRST_POLL_MS = 1000


async def start_training(cluster: LiveCluster, request: TrainRequest) -> TrainingReport:
    """Start a training; its row is durable when this returns, and it outlives the call.

    Raises:
        TrainingRunning: One is running or being prepared.
        InvalidRequest, InvalidState: Whatever is wrong with arguments, data or layers; nothing changed.
        ConsensusUnavailable: Too few voters are alive to agree on its versions.
        StoreUnavailable: The training could not be made durable; it does not run.
    """
    _refuse_second(cluster)
    check_arguments(request, cluster.spec.consensus)
    with cluster.state.preparing_training():
        await revive(cluster)
        healthy_workers(cluster)
        await require_majority(cluster)
        async with cluster.changing:
            prepared = await prepare_training(cluster, request, len(cluster.state.trainings))
            check_mixing(cluster, prepared.config.aggregation_method, prepared.networks.values())
            notes = await connect_for_training(cluster)
            cluster.state.refuse_ended()
            prepared = _with_newest(cluster, prepared)
            training = await _recorded(cluster, request, prepared)
            run = _install(cluster, training, prepared)
    cluster.context.spawn(carry_through, run)
    cluster.changed()
    return _report(cluster, training, prepared, [*notes, *prepared.warnings])


async def learn_from_feedback(cluster: LiveCluster) -> TrainingReport:
    """Start a training on the outcomes that a cluster has recorded; it outlives the call.

    Raises:
        NotTrained, DataTooSmall: There is nothing to learn from yet.
        TrainingRunning, NoWorkers, StoreUnavailable: As for any training.
    """
    return await start_training(
        cluster, TrainRequest(cluster_id=cluster.cluster_id, dataset=FEEDBACK)
    )


async def _recorded(cluster: LiveCluster, request: TrainRequest, prepared: Preparation) -> Training:
    """The training with its request and its prepared rows, durable. Raises `StoreUnavailable`."""
    context, former = cluster.context, cluster.state.latest_training
    data = await context.offload(
        write_prepared, context.checkpoints, cluster.cluster_id, prepared.data
    )
    training = Training(
        training_id=context.new_id("trn"),
        ordinal=len(cluster.state.trainings),
        config=prepared.config,
        started_at=context.timestamp(),
        request=stored_request(request),
        data=data,
        advance=Advance(
            scrutiny=Scrutiny(clients=prepared.clients_of_workers()),
            continuation=Continuation(dealt=tuple(prepared.shards.rows)),
            privacy=prepared.spent,
            inherited=inherited(cluster.committed, continues=prepared.continues),
        ),
        division=division_of(prepared.shards) if prepared.config.federated else None,
        starts={key: network.without_state() for key, network in prepared.networks.items()},
    )
    # Only the latest training can be resumed, so only its rows are kept.
    old = {former.data.sha256} if former is not None and former.data is not None else set()
    dropped = sorted(old - {data.sha256})
    row = training_row(cluster.cluster_id, training)
    named = [(data.sha256, data.nbytes, PREPARED_DATA)]
    begun = training.entry("training_started")
    await cluster.ledger.record([begun], [row], blobs=named, dropped=dropped)
    await context.delete_files(dropped)
    return training


def _refuse_second(cluster: LiveCluster) -> None:
    if not cluster.is_training:
        return
    training = cluster.state.latest_training
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


def _with_newest(cluster: LiveCluster, prepared: Preparation) -> Preparation:
    """What was prepared, from the version in force: connecting may have committed one."""
    if cluster.committed is None:
        return prepared
    newest = cluster.committed.newest
    networks = {key: newest(network) for key, network in prepared.networks.items()}
    return replace(prepared, networks=networks)


def _install(cluster: LiveCluster, training: Training, prepared: Preparation) -> TrainingRun:
    run = TrainingRun(cluster, training, prepared)
    new = sum(network.version == 0 for network in prepared.networks.values())
    cluster.state.add_training(training, new_networks=new)
    cluster.begin_run(run)
    cluster.metrics.forget_exchanges()
    for network in prepared.networks.values():
        for name in network.slots:
            slot = cluster.slots[name]
            slot.assign_network(network.plan.n_params, implied_head=network.plan.implied_head)
            slot.assign_rows(run.rounds.exchange.rows_of(name))
    return run


def _report(
    cluster: LiveCluster, training: Training, prepared: Preparation, warnings: list[str]
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
        started_at=training.started_at,
        privacy=training.privacy(full=True),
        warnings=warnings,
    )
