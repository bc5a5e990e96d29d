"""What status says of recorded outcomes and of what was learnt from them."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.prediction.weighting import BY_OUTCOMES, learnt_weights
from flow_nexus_neural.engine.reports import FeedbackReport


def feedback_report(cluster: LiveCluster, *, full: bool) -> FeedbackReport:
    """Counts, and the weights in force; each slot's own only in `full`."""
    feedback, committed = cluster.state.feedback, cluster.committed
    weighting = learnt_weights(cluster, committed) if committed is not None else None
    return FeedbackReport(
        recorded=feedback.recorded,
        kept=feedback.kept,
        kept_bytes=feedback.kept_bytes,
        weights_source=weighting.source if weighting else None,
        weights_outcomes=weighting.outcomes if weighting else 0,
        slot_weights=dict(weighting.by_slot) if weighting and full else None,
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
    if cluster.state.feedback.damaged:
        warnings.append("what was learnt from outcomes was damaged on disk, and begins anew")
    return warnings
