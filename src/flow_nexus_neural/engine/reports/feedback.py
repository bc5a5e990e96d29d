"""What a cluster has learnt since its training: from outcomes, and in which versions."""

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


class VersionLine(Report):
    """A committed version that can be put in force again.

    Attributes:
        round: Of its training; None where it came about otherwise, as `rule` says.
        restored_from: The version whose weights and numbers it has taken over; None for any other.
        accuracy: On test rows, as measured of this version; None where it was not. So is the loss.
        digest: Of its weights.
        best: It has the weights of the best round of the latest training.
    """

    version: int
    committed_at: str
    training_id: str | None
    round: int | None
    rule: str
    restored_from: int | None
    accuracy: float | None
    loss: float | None
    digest: str
    serving: bool
    best: bool
