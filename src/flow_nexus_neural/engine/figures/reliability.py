"""Whether confidences are what they say: how many of those between two levels were right."""

from flow_nexus_neural.artifacts.plots.figure import Axis, Chart, Figure, Series
from flow_nexus_neural.engine.figures.seen import Seen
from flow_nexus_neural.errors import NotAvailable
from flow_nexus_neural.kernels.metrics import wilson_interval


def reliability(seen: Seen) -> Figure:
    """The reliability diagram on the test rows, with Wilson intervals of 95 %, and the rows of each bin.

    Source: Niculescu-Mizil and Caruana, "Predicting Good Probabilities with Supervised Learning" (ICML 2005),
    section 4; the intervals are an addition.

    Raises:
        NotTrained: Nothing was evaluated.
        NotAvailable: The task has no confidence, or the version was stored before its bins were measured.
    """
    evaluation = seen.evaluation
    score = evaluation.confidence
    if score is None:
        raise NotAvailable(
            "the model predicts values, whose confidence is an interval and no probability",
            hint='use kind "predictions", or see evaluation.conformal in neural_cluster_status',
        )
    if score.per_bin is None:
        raise NotAvailable(
            "the bins of this version were not measured when it was stored",
            hint="train again with neural_train_distributed",
        )
    bins = score.per_bin
    x = tuple(one.confidence for one in bins)
    found = [wilson_interval(round(one.accuracy * one.n), one.n) for one in bins]
    intervals = [interval or (0.0, 1.0) for interval in found]  # every bin has a row
    diagram = Chart(
        Axis("confidence: P(the decision is right), mean of the bin", low=0, high=1),
        Axis("share decided right", low=0, high=1),
        (
            Series(
                "test rows (95 % interval)",
                x,
                tuple(one.accuracy for one in bins),
                "dots",
                low=tuple(low for low, _ in intervals),
                high=tuple(high for _, high in intervals),
            ),
        ),
        diagonal="as often right as it says",
    )
    rows = Chart(
        Axis("confidence", low=0, high=1),
        Axis("test rows", whole=True, low=0),
        (
            Series(
                "rows in the bin",
                tuple(one.low for one in bins),
                tuple(float(one.n) for one in bins),
                "bars",
                "muted",
                width=1 / score.bins,
            ),
        ),
    )
    errors = f"expected calibration error {score.ece:.4g}, Brier score {score.brier:.4g}"
    notes = (
        f"{score.n} test rows; of the confidence: {errors}.",
        f"{score.bins} bins of equal width; those without a row are left out.",
    )
    return Figure(f"Reliability of {seen.subject}", (diagram, rows), notes)
