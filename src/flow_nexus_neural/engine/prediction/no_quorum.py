"""Replies in which too few nodes answered, or voted alike, to decide anything although some may lie.

Such a reply holds what each node said, and no combination of it: no prediction and no certainty.
"""

from collections.abc import Sequence

from flow_nexus_neural.coordination.quorum import RobustQuorum
from flow_nexus_neural.engine.reports import PredictionReport, QuorumReport
from flow_nexus_neural.vocabulary import NO_QUORUM


def quorum_report(quorum: RobustQuorum) -> QuorumReport:
    """As a reply tells it."""
    return QuorumReport(needed=quorum.needed, got=quorum.got, f=quorum.f)


def withheld(made: PredictionReport, quorum: RobustQuorum) -> PredictionReport:
    """The same reply without anything that follows from the answers of all nodes together.

    Args:
        made: Of the nodes that answered, as if none of them could lie.
        quorum: Which they do not meet.
    """
    nothing: list[None] = [None] * len(made.predictions)
    return made.model_copy(
        update={
            "prediction": None,
            "predictions": nothing,
            "confidence": None,
            "confidences": nothing,
            "probabilities": None,
            "interval": None,
            "prediction_set": None,
            "adapted_level": None,
            "raw_prediction": None,
            "calibrated": False,
            "decision": [NO_QUORUM] * len(nothing),
            "consensus": None,
            "node_agreement": None,
            "confidence_source": "none",
            "warnings": [_why(quorum), *made.warnings],
        }
    )


def split_votes(decisions: Sequence[str] | None, quorum: RobustQuorum) -> list[str]:
    """A warning for records of which no class got the votes of one more node than may lie."""
    rows = sum(decision == NO_QUORUM for decision in decisions or ())
    if not rows:
        return []
    split = (
        f"{NO_QUORUM} for {rows} of {len(decisions or ())} records: no class has {quorum.f + 1} votes, and"
        f" {quorum.f} nodes may lie; aggregation 'mean' decides where votes are split"
    )
    return [split]


def _why(quorum: RobustQuorum) -> str:
    return (
        f"{NO_QUORUM}: {quorum.got} nodes answered and {quorum.needed} are needed, so that {quorum.f} lying"
        " ones cannot decide. excluded_nodes says why the others did not: replace those that failed with"
        " neural_node_deploy, or raise deadline_ms"
    )
