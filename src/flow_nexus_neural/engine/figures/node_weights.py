"""What the answer of each node counts."""

from flow_nexus_neural.artifacts.plots.figure import Axis, Chart, Figure, Reference, Series
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.engine.reports import FeedbackReport
from flow_nexus_neural.errors import NotTrained
from flow_nexus_neural.vocabulary import BY_OUTCOMES


def node_weights(seen: Seen) -> Figure:
    """The weights in force of the nodes that answer, beside equal ones.

    Raises:
        NotTrained: No version answers.
    """
    feedback = seen.status.feedback
    if feedback is None or not feedback.slot_weights:
        raise NotTrained(
            f"no node of cluster {seen.status.cluster_id} answers predictions yet",
            hint="call neural_train_distributed, then neural_cluster_status with wait_seconds",
        )
    weights = feedback.slot_weights
    chart = Chart(
        Axis("node", names=tuple(weights)),
        Axis("weight of its answer", low=0),
        (
            Series(
                "weight in force",
                tuple(float(index) for index in range(len(weights))),
                tuple(weights.values()),
                "bars",
            ),
        ),
        (Reference("equal", 1 / len(weights), tone="second"),),
    )
    notes = [
        f"Source of the weights: {_source(feedback)}.",
        "They count for the aggregations weighted and ensemble; mean and majority have none.",
    ]
    return Figure(f"Weights of the nodes of {seen.subject}", (chart,), tuple(notes))


def _source(feedback: FeedbackReport) -> str:
    """Where the weights come from, and what outcomes had to do with it."""
    source, n = feedback.weights_source or "unknown", feedback.weights_outcomes
    outcomes = "1 outcome" if n == 1 else f"{n} outcomes"
    if source == BY_OUTCOMES:
        return f"{source}, {outcomes}"
    return f"{source}; {outcomes} recorded, which moved none" if n else source
