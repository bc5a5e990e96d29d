"""Between what the engine holds of a cluster and what is stored of it."""

from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import fields as dataclass_fields
from typing import Any

from flow_nexus_neural.coordination.consensus.gossip import GossipSeen
from flow_nexus_neural.coordination.consensus.proof_of_learning import Cost, Standing
from flow_nexus_neural.coordination.membership import after_restart
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.coordination.proof_record import ProofRecord
from flow_nexus_neural.coordination.scrutiny import Scrutiny, Seen
from flow_nexus_neural.engine.reports import (
    DatasetShort,
    Division,
    Evaluation,
    FinalMetrics,
    FoldScore,
    HistoryPoint,
    LearningReport,
    Personalisation,
    Refit,
    TrainingConfig,
)
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.cluster import ClusterSpec, ClusterState
from flow_nexus_neural.engine.state.continuation import Continuation, Resumptions, StateFiles
from flow_nexus_neural.engine.state.slot_spec import SlotSpec
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.steering import Steering
from flow_nexus_neural.engine.state.training_record import (
    PreparedDataRef,
    Result,
    Training,
)
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.rows import ClusterRow, HistoryRow, SlotRow, TrainingRow
from flow_nexus_neural.engine.storage.version_rows import (
    load_network,
    load_privacy,
    load_version,
    stored_network,
    stored_privacy,
    stored_version,
)
from flow_nexus_neural.vocabulary import Topology


def cluster_row(state: ClusterState, version: CommittedVersion | None) -> ClusterRow:
    """The durable part of a cluster: everything but slots, trainings and ledger, which have their own rows.

    Args:
        state: What the cluster is.
        version: The version that is in force once the row is durable; None for none.
    """
    spec = persisted.StoredCluster.model_validate(
        {name: value for name, value in asdict(state.spec).items() if name != "name"}
    )
    stored = persisted.StoredState(
        topology=state.links.topology if state.links else state.last_topology,
        topology_epoch=state.topology_epoch,
        networks_made=state.networks_made,
        committed=stored_version(version) if version else None,
        communication=state.metrics.communication().model_dump(mode="json"),
        final=persisted.StoredFinal.model_validate(state.final.model_dump())
        if state.final
        else None,
    )
    return ClusterRow(
        cluster_id=state.cluster_id,
        name=state.spec.name,
        created_at=state.created_at,
        terminated_at=state.terminated_at,
        spec=spec.to_json(),
        state=stored.to_json(),
    )


def present_cluster_row(state: ClusterState) -> ClusterRow:
    """The durable part of a cluster with the newest durable version."""
    return cluster_row(state, state.durable_version)


def cluster_spec(row: ClusterRow) -> ClusterSpec:
    """What a stored cluster was declared to be. Raises `StoreCorrupt`."""
    stored = persisted.read(persisted.StoredCluster, row.spec)
    return ClusterSpec(name=row.name, **stored.model_dump())


def restore_state(row: ClusterRow, state: ClusterState, files: CheckpointFiles | None) -> None:
    """Bring a cluster to its stored state, every checkpoint verified. Blocking.

    Args:
        row: What is stored.
        state: The cluster.
        files: Its checkpoints; None for a version without weights, of a cluster that nobody can ask any more.

    Raises:
        StoreCorrupt: The row cannot be understood, or a checkpoint is missing, altered, or does not hold what
            the row says.
    """
    stored = persisted.read(persisted.StoredState, row.state)
    version = load_version(stored.committed, files) if stored.committed else None
    final = FinalMetrics.model_validate(stored.final.model_dump()) if stored.final else None
    state.restore(
        topology_epoch=stored.topology_epoch,
        networks_made=stored.networks_made,
        committed=version,
        final=final,
        last_topology=stored.topology,  # type: ignore[arg-type]  # a label
    )
    state.metrics.restore(stored.communication)


def last_topology(row: ClusterRow) -> Topology | None:
    """How the nodes of a stored cluster were linked; None where they were not. Raises `StoreCorrupt`."""
    return persisted.read(persisted.StoredState, row.state).topology  # type: ignore[return-value]  # a label


def slot_row(cluster_id: str, slot: Slot) -> SlotRow:
    """The durable part of a slot."""
    stored = persisted.StoredSlot.model_validate(
        {
            **asdict(slot.spec),
            "layers": [dict(layer) for layer in slot.spec.layers],
            "parameters": slot.parameters,
            "implied_head": slot.implied_head,
            "rounds_done": slot.rounds_done,
            "rows": slot.rows,
            "deployed_at": slot.deployed_at,
            "last_error": slot.last_error,
            "stands_in_for": slot.stands_in_for,
        }
    )
    return SlotRow(
        cluster_id=cluster_id,
        slot=slot.name,
        node_id=slot.node_id,
        incarnation=slot.incarnation,
        pid=slot.handle.pid if slot.handle else None,
        state=slot.state,
        spec=stored.to_json(),
    )


def slot_of(row: SlotRow) -> Slot:
    """A slot as it was stored; its process is gone with the server that ran it. Raises `StoreCorrupt`."""
    stored = persisted.read(persisted.StoredSlot, row.spec)
    spec = SlotSpec(
        role=stored.role,  # type: ignore[arg-type]  # checked by the name
        node_type=stored.node_type,
        model=stored.model,  # type: ignore[arg-type]  # a label
        capabilities=stored.capabilities,
        autonomy=stored.autonomy,
        template=stored.template,
        layers=stored.layers,
        layers_source=stored.layers_source,
    )
    return Slot(
        name=row.slot,
        spec=spec,
        node_id=row.node_id,
        incarnation=row.incarnation,
        state=after_restart(row.state),  # type: ignore[arg-type]  # stored states are legal
        durable=True,
        removal_recorded=row.state == "retired",
        deployed_at=stored.deployed_at,
        parameters=stored.parameters,
        implied_head=stored.implied_head,
        rounds_done=stored.rounds_done,
        rows=stored.rows,
        last_error=stored.last_error,
        stands_in_for=stored.stands_in_for,
    )


def training_row(
    cluster_id: str, training: Training, advance: Advance | None = None
) -> TrainingRow:
    """The durable part of a training, without the history, which has rows of its own.

    Args:
        cluster_id: Of its cluster.
        training: The training.
        advance: A round that is about to be committed, in place of the committed ones.
    """
    stored = persisted.StoredTraining(
        config=persisted.StoredConfig.model_validate(training.config.model_dump()),
        request=dict(training.request) if training.request is not None else None,
        data=persisted.StoredData(**asdict(training.data)) if training.data else None,
        starts=tuple(stored_network(network) for network in training.starts.values()),
    )
    # With a further round it is further than where it last went on.
    further = advance is not None and advance.rounds_done > training.advance.rounds_done
    in_vain = 0 if further else training.resumptions.in_vain
    progress = persisted.StoredProgress(
        **_stored_advance(advance or training.advance),
        steering=persisted.StoredSteering(**asdict(training.steering)),
        result=_stored_result(training.result),
        personalisation=training.personalisation.model_dump(mode="json")
        if training.personalisation
        else None,
        folds=tuple(fold.model_dump(mode="json") for fold in training.folds),
        refit=training.refit.model_dump(mode="json") if training.refit else None,
        learning=training.learning.model_dump(mode="json") if training.learning else None,
        division=training.division.model_dump(mode="json") if training.division else None,
        phase=training.phase,
        later_planned=training.later_planned,
        later_done=training.later_done,
        resumed=training.resumptions.times,
        resumed_after=training.resumptions.after_round,
        resumed_in_vain=in_vain,
    )
    return TrainingRow(
        training_id=training.training_id,
        cluster_id=cluster_id,
        ordinal=training.ordinal,
        status=training.status,
        spec=stored.to_json(),
        progress=progress.to_json(),
        started_at=training.started_at,
        ended_at=training.ended_at,
        error=training.error,
    )


def training_of(row: TrainingRow, history: Sequence[HistoryRow]) -> Training:
    """A training as it was stored. Raises `StoreCorrupt`."""
    stored = persisted.read(persisted.StoredTraining, row.spec)
    progress = persisted.read(persisted.StoredProgress, row.progress)
    points = [persisted.read(persisted.StoredRound, point.point) for point in history]
    return Training(
        training_id=row.training_id,
        ordinal=row.ordinal,
        config=persisted.report(TrainingConfig, stored.config.model_dump()),
        request=stored.request,
        data=PreparedDataRef(**stored.data.model_dump()) if stored.data else None,
        started_at=row.started_at,
        status=row.status,  # type: ignore[arg-type]  # stored statuses are legal
        ended_at=row.ended_at,
        error=row.error,
        advance=_advance_of(progress),
        result=_result_of(progress.result),
        personalisation=persisted.report(Personalisation, progress.personalisation)
        if progress.personalisation
        else None,
        folds=[persisted.report(FoldScore, fold) for fold in progress.folds],
        refit=persisted.report(Refit, progress.refit) if progress.refit else None,
        learning=persisted.report(LearningReport, progress.learning) if progress.learning else None,
        division=persisted.report(Division, progress.division) if progress.division else None,
        phase=progress.phase,  # type: ignore[arg-type]  # a stored phase is legal
        later_planned=progress.later_planned,
        later_done=progress.later_done,
        steering=Steering(**progress.steering.model_dump()),
        history=[persisted.report(HistoryPoint, point.model_dump()) for point in points],
        starts={network.key: load_network(network, None) for network in stored.starts},
        resumptions=Resumptions(progress.resumed, progress.resumed_after, progress.resumed_in_vain),
    )


_NESTED = {"scrutiny", "gossip", "proofs", "privacy", "inherited", "continuation"}
"""Parts of an advance with shapes of their own."""


def _stored_advance(advance: Advance) -> dict[str, Any]:
    return {**asdict(advance), "inherited": stored_privacy(advance.inherited)}


def _advance_of(progress: persisted.StoredProgress) -> Advance:
    own = {one.name for one in dataclass_fields(Advance)}
    seen = progress.scrutiny.model_dump()
    workers = {slot: Seen(**worker) for slot, worker in seen.pop("workers").items()}
    return Advance(
        **progress.model_dump(include=own - _NESTED),
        scrutiny=Scrutiny(**seen, workers=workers),
        gossip=GossipSeen(**progress.gossip.model_dump()),
        privacy=PrivacySpent(**progress.privacy.model_dump()),
        inherited=load_privacy(progress.inherited),
        proofs=_proofs_of(progress.proofs),
        continuation=_continuation_of(progress.continuation),
    )


def _continuation_of(stored: persisted.StoredContinuation) -> Continuation:
    best = {key: StateFiles(**files.model_dump()) for key, files in stored.best.items()}
    return Continuation(**{**dict(stored), "best": best})


def _proofs_of(stored: persisted.StoredProofs) -> ProofRecord:
    found = stored.model_dump(exclude={"cost", "workers"})
    return ProofRecord(
        **found,
        cost=Cost(**stored.cost.model_dump()),
        workers={slot: Standing(**one.model_dump()) for slot, one in stored.workers.items()},
    )


def history_row(cluster_id: str, training_id: str, point: HistoryPoint) -> HistoryRow:
    """The durable part of a committed round."""
    return HistoryRow(
        training_id=training_id,
        cluster_id=cluster_id,
        round_number=point.round,
        point=persisted.StoredRound.model_validate(point.model_dump()).to_json(),
    )


def _stored_result(result: Result | None) -> persisted.StoredResult | None:
    if result is None:
        return None
    evaluation = result.evaluation.model_dump(mode="json") if result.evaluation else None
    return persisted.StoredResult(
        model_version=result.model_version,
        served_round=result.served_round,
        digest=result.digest,
        accuracy=result.accuracy,
        loss=result.loss,
        evaluation=evaluation,
        dataset=result.dataset.model_dump(mode="json"),
    )


def _result_of(stored: persisted.StoredResult | None) -> Result | None:
    if stored is None:
        return None
    evaluation = stored.evaluation
    return Result(
        model_version=stored.model_version,
        served_round=stored.served_round,
        digest=stored.digest,
        accuracy=stored.accuracy,
        loss=stored.loss,
        evaluation=persisted.report(Evaluation, evaluation) if evaluation is not None else None,
        dataset=persisted.report(DatasetShort, stored.dataset),
    )
