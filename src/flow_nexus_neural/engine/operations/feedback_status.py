"""What status says of recorded outcomes and of what was learnt from them."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.weighting import learnt_weights
from flow_nexus_neural.engine.reports import DriftReport, FeedbackReport
from flow_nexus_neural.engine.versions.input_drift import input_drift
from flow_nexus_neural.kernels.drift import PSI_LIMIT
from flow_nexus_neural.vocabulary import BY_OUTCOMES


async def feedback_report(cluster: LiveCluster, *, full: bool) -> FeedbackReport:
    """Counts, drift, and the weights in force; each slot's own only in `full`."""
    feedback, committed = cluster.state.feedback, cluster.committed
    weighting = learnt_weights(cluster, committed) if committed is not None else None
    return FeedbackReport(
        recorded=feedback.recorded,
        kept=feedback.kept,
        kept_bytes=feedback.kept_bytes,
        weights_source=weighting.source if weighting else None,
        weights_outcomes=weighting.outcomes if weighting else 0,
        slot_weights=dict(weighting.by_slot) if weighting and full else None,
        drift=await _drift(cluster),
    )


async def _drift(cluster: LiveCluster) -> DriftReport | None:
    inputs, committed = await input_drift(cluster), cluster.committed
    if inputs is None or committed is None:
        return None
    feedback = cluster.state.feedback
    now = (
        feedback.version == committed.version
    )  # else its window is of a version that answers no more
    return DriftReport(
        found=now and feedback.drifted,
        errors_window=feedback.errors.width if now else 0,
        errors_mean=feedback.errors.mean if now else None,
        drifts=feedback.errors.drifts,
        input_index=inputs.index,
        input_column=inputs.column,
        input_rows=inputs.rows,
        input_why=inputs.why,
    )


def feedback_warnings(cluster: LiveCluster) -> list[str]:
    """What must be known before the numbers of the evaluation are believed, and of lost outcomes."""
    warnings = []
    committed = cluster.committed
    if committed is not None and learnt_weights(cluster, committed).source == BY_OUTCOMES:
        warnings.append(
            "weights have learnt from outcomes since the version was measured: the evaluation's weighted and"
            " ensemble are of its former weights"
        )
    feedback, inputs = cluster.state.feedback, cluster.inputs
    version = committed.version if committed else None
    learn = 'neural_train_distributed with dataset "feedback" learns from recorded outcomes'
    if feedback.drifted and feedback.version == version:
        warnings.append(f"drift: errors have risen since version {version} answers; {learn}")
    if inputs and inputs.version == version and (inputs.index or 0.0) > PSI_LIMIT:
        warnings.append(
            f"drift: recent inputs of '{inputs.column}' are not like the training rows (stability index"
            f" {inputs.index:.2f}, limit {PSI_LIMIT})"
        )
    if cluster.state.feedback.damaged:
        warnings.append("what was learnt from outcomes was damaged on disk, and begins anew")
    return warnings
