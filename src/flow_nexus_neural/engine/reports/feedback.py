"""What a cluster has learnt from outcomes of its predictions."""

from flow_nexus_neural.engine.reports.base import Report


class FeedbackReport(Report):
    """Outcomes that were recorded, and what came of them.

    Attributes:
        recorded: Since the cluster was created.
        kept: Of them, the newest, which are still stored.
        kept_bytes: What they take.
        weights_source: Where the weights in force come from; None before the first version.
        weights_outcomes: From how many outcomes they were learnt, all of this version.
        slot_weights: Those weights; None unless asked for in full.
    """

    recorded: int
    kept: int
    kept_bytes: int
    weights_source: str | None
    weights_outcomes: int
    slot_weights: dict[str, float] | None
