"""The status of a cluster, from one look at it. Nothing is computed that was not measured."""

import math
from collections.abc import Mapping

from pydantic import JsonValue

from flow_nexus_neural.coordination.membership import count
from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.engine.autonomy import attend as autonomy
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.report import link_lines
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.guarantees import guarantees
from flow_nexus_neural.engine.nodes.memory_readings import read_memory
from flow_nexus_neural.engine.operations.feedback_status import (
    feedback_report,
    feedback_warnings,
)
from flow_nexus_neural.engine.operations.node_status import (
    memory_part,
    node_line,
    retired,
    shared_processes,
)
from flow_nexus_neural.engine.operations.restore_version import serving_digest, version_lines
from flow_nexus_neural.engine.raft.report import raft_report
from flow_nexus_neural.engine.reports import (
    ClusterConfig,
    DatasetShort,
    Evaluation,
    Features,
    HistoryPoint,
    IsolationPreview,
    Limits,
    Performance,
    Serving,
    StatusReport,
    Wasm,
)
from flow_nexus_neural.engine.reports.prediction import ConfidenceSource
from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.engine.state.advice import failure_warnings, missing_workers
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.training.resume import Resumption
from flow_nexus_neural.engine.versions.evaluation import baseline_warnings, model_warnings
from flow_nexus_neural.engine.versions.loading import serving_slots
from flow_nexus_neural.engine.versions.role_report import learnt_by
from flow_nexus_neural.vocabulary import DEFAULT_AGGREGATION

HISTORY_POINTS = 20
MIN_POLL_MS, MAX_POLL_MS = 500, 10_000


async def status_report(
    cluster: LiveCluster,
    request: StatusRequest,
    *,
    changed: bool,
    timed_out: bool,
) -> StatusReport:
    """A cluster as it is now.

    Raises:
        TrainingNotFound: `training_id` names no training of it.
    """
    asked = request.training_id
    training = cluster.state.latest_training if asked is None else cluster.state.training(asked)
    memory = await read_memory(cluster)
    full = request.detail == "full"
    brief = request.detail in ("summary", "versions")
    nodes = [] if brief else list(cluster.slots)
    # The parts are checked as a whole: a missing or unknown field is refused.
    return StatusReport.model_validate(
        {
            **_identity(cluster),
            **_training_part(cluster, training, full=full),
            "consensus_report": _consensus_report(training, await raft_report(cluster)),
            **_model_part(cluster, training, full=full),
            **_traffic_part(cluster, full=full),
            **memory_part(cluster, memory),
            "nodes": [node_line(cluster, slot, memory.get(slot.name), training) for slot in nodes],
            "learnt": learnt_by(cluster.slots, cluster.committed) if nodes else None,
            "processes": shared_processes(cluster),
            "retired_nodes": retired(cluster) if full else [],
            "links": link_lines(cluster) if full else None,
            "guarantees": guarantees(cluster),
            "feedback": None
            if request.detail == "summary"
            else await feedback_report(cluster, full=full),
            "daa": autonomy.report(cluster, events=full),
            "wasm": wasm(cluster, with_nodes=full),
            "versions": version_lines(cluster) if full or request.detail == "versions" else [],
            "history": thinned(training.history) if full and training else [],
            "training_sessions": [t.session() for t in cluster.state.trainings] if full else [],
            "timed_out": timed_out,
            "changed": changed,
            "poll_after_ms": poll_after_ms(training) if cluster.run is not None else None,
            "warnings": _warnings(cluster, training),
        }
    )


def _identity(cluster: LiveCluster) -> dict[str, object]:
    counts = count([slot.state for slot in cluster.slots])
    uptime_s = int(cluster.state.uptime_s())
    return {
        "cluster_id": cluster.cluster_id,
        "name": cluster.spec.name,
        "topology": cluster.state.topology,
        "declared_topology": cluster.spec.topology,
        "architecture": cluster.spec.architecture,
        "consensus": cluster.spec.consensus,
        "status": cluster_state(cluster),
        "created_at": cluster.state.created_at,
        "uptime": f"{uptime_s}s",
        "uptime_seconds": uptime_s,
        "active_nodes": counts.active,
        "total_nodes": counts.total,
        "failed_nodes": counts.failed,
        "recovering_nodes": counts.recovering,
        "features": Features(
            daa_enabled=cluster.spec.daa_enabled,
            wasm_enabled=cluster.backends is not None and cluster.backends.active,
            nodes_deployed=counts.total,
            connections_active=len(cluster.wiring.working()),
            training_sessions=len(cluster.state.trainings),
        ),
    }


def _training_part(
    cluster: LiveCluster, training: Training | None, *, full: bool
) -> dict[str, object]:
    return {
        "training_status": training.status if training else "none",
        "training_progress": training.percent if training else 0.0,
        "training_error": training.error if training else None,
        "training": training.progress(
            full=full, lacks=_lacks(cluster, training), serving=serving_digest(cluster)
        )
        if training
        else None,
        "performance": Performance(
            throughput=_throughput(cluster), latency=cluster.metrics.predict_ms.mean()
        ),
    }


def _lacks(cluster: LiveCluster, training: Training) -> str | None:
    run = cluster.run
    if run is None or run.training is not training:
        return None
    if isinstance(run, Resumption):
        return run.waits
    owners = [s for s in cluster.slots if s.name in run.shards and run.shards[s.name].size]
    return missing_workers(training.steering.paused, owners)


def _consensus_report(
    training: Training | None, raft: Mapping[str, JsonValue] | None
) -> dict[str, JsonValue] | None:
    """What a training's rule saw, and under raft who votes, in one table."""
    seen = {}
    if training is not None:
        seen["byzantine"] = training.advance.scrutiny.report()
        seen["pol"] = training.advance.proofs.report()
        seen["gossip"] = training.advance.gossip.report()
    return {mode: report for mode, report in seen.items() if report} | dict(raft or {}) or None


def _model_part(
    cluster: LiveCluster, training: Training | None, *, full: bool
) -> dict[str, object]:
    """The model in force; of an earlier training the model that it left in force."""
    told = _model(cluster, training, full=full)
    evaluation = told["evaluation"]
    if full or not isinstance(evaluation, Evaluation):
        return told
    return {**told, "evaluation": evaluation.brief}


def _model(cluster: LiveCluster, training: Training | None, *, full: bool) -> dict[str, object]:
    committed = cluster.committed
    if training is not None and training is not cluster.state.latest_training:
        return _earlier_model(training)
    if committed is None:
        names = ("global_accuracy", "global_loss", "evaluation", "model_version", "dataset_info")
        return {**dict.fromkeys(names), "serving": None}
    return {
        "global_accuracy": committed.accuracy,
        "global_loss": committed.loss,
        "evaluation": committed.evaluation,
        "model_version": committed.version,
        "serving": _serving(cluster, full=full),
        "dataset_info": DatasetShort.of(committed.dataset),
    }


def _earlier_model(training: Training) -> dict[str, object]:
    """What was measured of the final model of an earlier training; null where it did not get that far."""
    result = training.result
    return {
        "global_accuracy": result.accuracy if result else None,
        "global_loss": result.loss if result else None,
        "evaluation": result.evaluation if result else None,
        "model_version": result.model_version if result else None,
        "serving": None,
        "dataset_info": result.dataset if result else None,
    }


def _traffic_part(cluster: LiveCluster, *, full: bool) -> dict[str, object]:
    metrics = cluster.metrics
    return {
        "communication_bytes": metrics.communication_bytes,
        "communication_mb": metrics.communication_bytes / 1e6,
        "communication": metrics.communication(),
        "exchange": [metrics.exchanges[key] for key in sorted(metrics.exchanges)],
        "avg_latency": metrics.predict_ms.mean(),
        "latency": metrics.latency(),
        "agreement": metrics.agreement.mean(),
        "recent_predictions": metrics.recent_predictions() if full else [],
        "error_rate": metrics.node_calls.mean(),
    }


def wasm(cluster: LiveCluster, *, with_nodes: bool = False) -> Wasm:
    """Whether WebAssembly computes some node's predictions, or why not."""
    requested, backends = cluster.spec.wasm_optimization, cluster.backends
    if backends is None:
        return Wasm(requested=requested, active=False, reason=None)
    nodes = {slot.name: backends.of(slot) for slot in cluster.slots}
    active = backends.active
    reasons = list(dict.fromkeys(one.reason for one in nodes.values() if one.reason))
    reason = backends.unusable or "; ".join(reasons[:3]) or "there is no node yet"
    return Wasm(
        requested=requested,
        active=active,
        reason=None if active else reason,
        nodes=nodes if with_nodes else {},
    )


def cluster_config(cluster: LiveCluster) -> ClusterConfig:
    """The effective configuration."""
    return ClusterConfig(
        architecture=cluster.spec.architecture,
        topology=cluster.spec.topology,
        consensus=cluster.spec.consensus,
        daa_enabled=cluster.spec.daa_enabled,
        wasm_optimization=wasm(cluster),
        seed=cluster.spec.seed,
        max_nodes=cluster.context.settings.max_nodes,
        limits=Limits(
            max_parameters=cluster.context.settings.max_parameters,
            max_rows=cluster.context.settings.max_rows,
        ),
    )


def isolation_preview(context: EngineContext) -> IsolationPreview:
    """The level that nodes will get."""
    import platform

    return IsolationPreview(
        level=context.runtime.isolation_preview().level, platform=platform.system().lower()
    )


def cluster_state(cluster: LiveCluster) -> str:
    """One word for a cluster."""
    states = [slot.state for slot in cluster.slots]
    if cluster.state.terminated_at is not None:
        return "terminated"
    if cluster.is_training:
        return "training"
    if "recovering" in states:
        return "recovering"
    if count(states).failed:
        return "degraded"
    return "initialized" if cluster.state.links is None and cluster.committed is None else "ready"


def poll_after_ms(training: Training | None) -> int:
    """When it is worth asking again: after about a round."""
    per_round = training.seconds_per_round if training else None
    if per_round is None:
        return 1000
    return int(min(max(per_round * 1e3, MIN_POLL_MS), MAX_POLL_MS))


def thinned(history: list[HistoryPoint], points: int = HISTORY_POINTS) -> list[HistoryPoint]:
    """At most `points` points, evenly spread, the last one kept."""
    if len(history) <= points:
        return list(history)
    step = (len(history) - 1) / (points - 1)
    return [history[round(index * step)] for index in range(points)]


def _throughput(cluster: LiveCluster) -> float | None:
    """Training rows per second in the latest round; None before the first."""
    training = cluster.state.latest_training
    if training is None or not training.round_s or cluster.run is None:
        return None
    rows, seconds = cluster.run.rows_last_round, training.round_s[-1]
    return rows / seconds if rows and seconds > 0 and math.isfinite(seconds) else None


def _privacy(committed: CommittedVersion, *, full: bool) -> ModelPrivacy | None:
    known = committed.privacy
    if known is None or full:
        return known
    return known.model_copy(update={"data_sets": (), "trainings": ()})


def _serving(cluster: LiveCluster, *, full: bool) -> Serving | None:
    committed = cluster.committed
    if committed is None:
        return None
    answering = serving_slots(cluster)
    networks = [committed.network_of(slot.name) for slot in answering]
    return Serving(
        bundle_sha=committed.sha,
        files={
            key: f"blobs/{network.blob[:2]}/{network.blob}.safetensors"
            for key, network in committed.networks.items()
            if network.blob is not None
        },
        effective_ensemble_size=len(
            {network.digest for network in networks if network is not None}
        ),
        confidence_source=_confidence_source(committed),
        privacy=_privacy(committed, full=full),
    )


def _confidence_source(committed: CommittedVersion) -> ConfidenceSource:
    """Who says how sure a prediction by the default aggregation is."""
    if committed.schema.task == "regression":
        return "none"
    by_validator = committed.bundle.roles.confident_in(DEFAULT_AGGREGATION)
    return "validator" if by_validator else "margin"


def _warnings(cluster: LiveCluster, training: Training | None) -> list[str]:
    context = cluster.context
    warnings = [*context.notices.always, *cluster.state.cautions]
    warnings += [f"tracker {name}: {why}" for name, why in context.tracker_faults.items()]
    committed, latest = cluster.committed, cluster.state.latest_training
    if committed is not None and committed.dataset.synthetic:
        warnings.append(
            "the model was trained on synthetic data: results say nothing about markets"
        )
    if training is not None and training is not latest:
        warnings += baseline_warnings(training.result.evaluation if training.result else None)
    elif committed is not None:
        warnings += [*model_warnings(committed), *feedback_warnings(cluster)]
    if training is not None and training.refit is not None and training.refit.state == "failed":
        warnings.append(
            f"the refit failed, so the model has not learnt the latest rows: {training.refit.error}"
        )
    if training is not None and training.advance.privacy.exhausted:
        warnings.append(
            f"the privacy budget is spent: the training ended after round {training.advance.rounds_done} of"
            f" {training.config.rounds}"
        )
    if cluster.state.terminated_at is None:
        warnings += failure_warnings(cluster.slots)
    return warnings
