"""What a cluster has learnt since its training: from outcomes, and in which versions."""

from flow_nexus_neural.engine.reports.base import Report


class DriftReport(Report):
    """Whether errors and inputs of the version in force are still what they were.

    Attributes:
        found: Errors rose for good since this version answers.
        errors_window: Outcomes since then, or since this version answers.
        errors_mean: Mean loss in that window, from 0 to 1; None without outcomes.
        drifts: How often it was found in the life of the cluster.
        input_index: The largest population stability index of an input against the training rows, above 0.25
            a major shift; None where it is not measured, for the reason in `input_why`.
        input_column: Of that input.
        input_rows: Recorded inputs that were compared.
    """

    found: bool
    errors_window: int
    errors_mean: float | None
    drifts: int
    input_index: float | None
    input_column: str | None
    input_rows: int
    input_why: str | None


class LearningReport(Report):
    """A training on recorded outcomes: what it learnt from, and whether its model was admitted.

    Attributes:
        outcomes: That it trained on; `replayed` rows of the former training beside them.
        held_out: The newest outcomes, on which the former and the new model were compared.
        loss_before: Mean loss of the former model on these; `loss_after` of the new one, with the standard
            error of the difference.
        admitted: Whether the new model answers now; None before the comparison.
    """

    outcomes: int
    replayed: int
    held_out: int
    loss_before: float | None
    loss_after: float | None
    standard_error: float | None
    admitted: bool | None
    reason: str | None


class FeedbackReport(Report):
    """Outcomes that were recorded, and what came of them.

    Attributes:
        recorded: Since the cluster was created.
        kept: Of them, the newest, which are still stored.
        kept_bytes: What they take.
        weights_source: Where the weights in force come from; None before the first version.
        weights_outcomes: From how many outcomes they were learnt, all of this version.
        slot_weights: Those weights; None unless asked for in full.
        drift: None before the first version.
    """

    recorded: int
    kept: int
    kept_bytes: int
    weights_source: str | None
    weights_outcomes: int
    slot_weights: dict[str, float] | None
    drift: DriftReport | None


class PrivacyShort(Report):
    """The privacy of a model in one line; epsilon is None where some of its trainings had none."""

    mode: str
    epsilon: float | None
    delta: float | None


class VersionLine(Report):
    """A committed version that can be put in force again.

    Attributes:
        round: Of its training; None where it came about otherwise, as `rule` says.
        restored_from: The version whose weights and numbers it has taken over; None for any other.
        accuracy: On test rows, as measured of this version; None where it was not. So is the loss.
        privacy: Of all trainings in its weights; None where that was not recorded.
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
    privacy: PrivacyShort | None
    digest: str
    serving: bool
    best: bool
