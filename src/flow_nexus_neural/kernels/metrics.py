"""Metrics of a model on rows on which it was not trained; None where a metric is undefined."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.decision import MOST_PROBABLE
from flow_nexus_neural.kernels.probabilities import Float64s, Floats, class_log_probabilities

ClassLabels = NDArray[np.integer[Any]] | Floats

CALIBRATION_BINS = 15
Z_95 = 1.959963984540054
ROUNDING = 1e-6
"""Standardising a target to float32 and back changes it by up to 6e-8 of the mean: less counts as 0."""


@dataclass(frozen=True, slots=True)
class ClassificationMetrics:
    """Metrics of a classifier on n rows.

    Attributes:
        n: Rows.
        loss: Mean log loss in nats.
        accuracy: Share of rows whose decided class is right.
        accuracy_interval: Wilson 95 % interval of the accuracy.
        baseline_accuracy: Accuracy of always predicting the most frequent class of these rows, the best
            constant prediction for them.
        balanced_accuracy: Mean recall over the classes that occur; None unless at least two do.
        auc: Area under the ROC curve, ties counted half; None unless binary with both classes present.
        brier: Mean squared error of the probabilities: of P(class 1) when binary, summed over the
            classes otherwise.
        ece: Expected calibration error of the decided class, 15 bins of equal width.
        confusion: [true][predicted] counts.
    """

    n: int
    loss: float | None
    accuracy: float | None
    accuracy_interval: tuple[float, float] | None
    baseline_accuracy: float | None
    balanced_accuracy: float | None
    auc: float | None
    brier: float | None
    ece: float | None
    confusion: list[list[int]] | None


@dataclass(frozen=True, slots=True)
class RegressionMetrics:
    """Metrics of a regressor on n rows.

    Attributes:
        n: Rows.
        loss: Mean squared error in standardised units, as trained.
        mae: Mean absolute error in the target's own unit.
        rmse: Root of the mean squared error in the target's own unit.
        r2: Explained share of these rows' variance; None if their variance is 0.
        directional_accuracy: Share of right signs among rows with a target other than 0; None if all
            targets have one sign, because a constant prediction would then be perfect.
        directional_interval: Wilson 95 % interval of the directional accuracy.
        baseline_directional_accuracy: Directional accuracy of always predicting the more frequent sign.
    """

    n: int
    loss: float | None
    mae: float | None
    rmse: float | None
    r2: float | None
    directional_accuracy: float | None
    directional_interval: tuple[float, float] | None
    baseline_directional_accuracy: float | None


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Metrics of one class; None if the denominator is 0.

    Attributes:
        rows: Number of decided rows of this class.
        precision: Share of true rows of this class among the rows predicted as it.
        recall: Share of rows predicted as this class among its true rows.
        f1: Harmonic mean of precision and recall.
    """

    rows: int
    precision: float | None
    recall: float | None
    f1: float | None


def classification(
    logits: Floats,
    y: ClassLabels,
    *,
    n_classes: int,
    predicted: NDArray[np.int64] | None = None,
) -> ClassificationMetrics:
    """Compute the metrics of a classifier.

    Args:
        logits: [n, 1] for two classes, else [n, n_classes]. If one is not finite, all metrics except the
            baseline are None.
        y: [n] class indices in [0, n_classes), of any numeric type.
        n_classes: Classes of the task, whether or not they occur here.
        predicted: [n] decisions; None for the most probable class. A row without a decision (below 0) is not
            right, and is in no cell of the confusion.

    Raises:
        ValueError: If shapes do not fit or a label is not a class index.

    Source: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927;
    Brier, Monthly Weather Review 1950; Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    equation 3; the AUC is the Mann-Whitney statistic with midranks.
    """
    labels = _class_indices(y, n_classes)
    n = labels.size
    if logits.shape != (n, 1 if n_classes == 2 else n_classes):
        raise ValueError(f"logits {logits.shape} do not fit {n} rows of {n_classes} classes")
    counts = np.bincount(labels, minlength=n_classes)
    baseline = float(counts.max() / n) if n else None
    if n == 0 or not np.isfinite(logits).all():
        return ClassificationMetrics(n, None, None, None, baseline, None, None, None, None, None)
    log_p = class_log_probabilities(logits)
    p = np.exp(log_p)
    if predicted is None:
        predicted = MOST_PROBABLE.decide(p)
    hits, decided = predicted == labels, predicted >= 0
    confusion = np.zeros((n_classes, n_classes), dtype=np.int64)
    np.add.at(confusion, (labels[decided], predicted[decided]), 1)
    present = counts > 0
    recalls = confusion.diagonal()[present] / counts[present]
    return ClassificationMetrics(
        n=n,
        loss=float(-log_p[np.arange(n), labels].mean()),
        accuracy=float(hits.mean()),
        accuracy_interval=wilson_interval(int(hits.sum()), n),
        baseline_accuracy=baseline,
        balanced_accuracy=float(recalls.mean()) if present.sum() > 1 else None,
        auc=area_under_curve(logits[:, 0], labels) if n_classes == 2 else None,
        brier=_brier(p, labels),
        ece=expected_calibration_error(p[decided, predicted[decided]], hits[decided]),
        confusion=[[int(cell) for cell in row] for row in confusion],
    )


def per_class(confusion: Sequence[Sequence[int]] | None) -> list[ClassMetrics]:
    """Metrics of each class from a confusion matrix [true][predicted]; empty for None."""
    if confusion is None:
        return []
    counts = np.asarray(confusion, dtype=np.int64)
    found = []
    for label in range(len(counts)):
        right = int(counts[label, label])
        given, rows = int(counts[:, label].sum()), int(counts[label].sum())
        found.append(
            ClassMetrics(
                rows=rows,
                precision=right / given if given else None,
                recall=right / rows if rows else None,
                f1=2 * right / (given + rows) if given + rows else None,
            )
        )
    return found


def regression(
    values: Floats, y: Floats, *, sd: float = 1.0, mean: float = 0.0
) -> RegressionMetrics:
    """Compute the metrics of a regressor.

    Args:
        values: [n] or [n, 1], standardised, as the network outputs them.
        y: [n] targets, standardised by the same mean and sd.
        sd: Standard deviation of the training targets, > 0.
        mean: Mean of the training targets. Directions are signs of `value * sd + mean`.

    Raises:
        ValueError: If shapes do not fit, sd is not positive, or a target is not finite.
    """
    predicted = np.asarray(values, dtype=np.float64).reshape(-1)
    target = np.asarray(y, dtype=np.float64).reshape(-1)
    if predicted.shape != target.shape or not sd > 0 or not np.isfinite(target).all():
        raise ValueError(
            f"values {values.shape} and targets {y.shape} with sd {sd} cannot be compared"
        )
    n = target.size
    if n == 0 or not np.isfinite(predicted).all():
        return RegressionMetrics(n, None, None, None, None, None, None, None)
    error = predicted - target
    mse = float(np.mean(error**2))
    spread = float(np.mean((target - target.mean()) ** 2))
    direction = _direction(predicted * sd + mean, target * sd + mean, ROUNDING * abs(mean))
    return RegressionMetrics(
        n=n,
        loss=mse,
        mae=float(np.mean(np.abs(error))) * sd,
        rmse=math.sqrt(mse) * sd,
        r2=1.0 - mse / spread if spread > 0 else None,
        directional_accuracy=direction[0],
        directional_interval=direction[1],
        baseline_directional_accuracy=direction[2],
    )


def wilson_interval(successes: int, n: int, z: float = Z_95) -> tuple[float, float] | None:
    """Wilson score interval of a proportion, 95 % by default; None without a trial."""
    if n == 0:
        return None
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    # Exact where they are 0 and 1 by the formula: rounding would leave the proportion just outside.
    low = max(0.0, (centre - half) / scale) if successes else 0.0
    high = min(1.0, (centre + half) / scale) if successes < n else 1.0
    return low, high


def area_under_curve(scores: Floats, labels: NDArray[np.integer[Any]]) -> float | None:
    """Probability that a row of class 1 has a higher score than a row of class 0, ties counted half.

    None unless both classes occur. Depends on the order of the scores only.
    """
    positives = int((labels == 1).sum())
    negatives = labels.size - positives
    if positives == 0 or negatives == 0:
        return None
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    midranks = last - (counts - 1) / 2  # mean of the ranks that a tied group shares
    rank_sum = float(midranks[inverse.reshape(-1)][labels == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Claims above `low` and up to `high`: how many, what they claimed on the mean, how many were right."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Reliability:
    """How well n claimed probabilities of being right agree with how often that was so.

    Attributes:
        n: Rows with a decision.
        ece: Expected calibration error, `CALIBRATION_BINS` bins of equal width.
        brier: Mean squared difference between the claim and 1 where it was right, else 0.
        per_bin: The bins that hold a claim, from low to high.
    """

    n: int
    ece: float
    brier: float
    per_bin: tuple[ReliabilityBin, ...]


def reliability(confidence: Float64s, hits: NDArray[np.bool_]) -> Reliability | None:
    """Measure claims; None without any. A row without a decision has NaN and does not count.

    Args:
        confidence: [n] P(the decision is right).
        hits: [n] whether it was.
    """
    decided = ~np.isnan(confidence)
    claimed, right = confidence[decided], hits[decided]
    error = expected_calibration_error(claimed, right)
    if error is None:
        return None
    brier = float(np.mean((claimed - right) ** 2))
    return Reliability(int(claimed.size), error, brier, _reliability_bins(claimed, right))


def _reliability_bins(claimed: Float64s, right: NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    index = _bin_index(claimed, CALIBRATION_BINS)
    rows, claims, hits = (
        np.bincount(index, weights=weights, minlength=CALIBRATION_BINS)
        for weights in (np.ones(claimed.size), claimed, right.astype(np.float64))
    )
    return tuple(
        ReliabilityBin(
            low=k / CALIBRATION_BINS,
            high=(k + 1) / CALIBRATION_BINS,
            n=int(rows[k]),
            confidence=float(claims[k] / rows[k]),
            accuracy=float(hits[k] / rows[k]),
        )
        for k in np.flatnonzero(rows).tolist()
    )


def expected_calibration_error(
    confidence: Float64s, hits: NDArray[np.bool_], bins: int = CALIBRATION_BINS
) -> float | None:
    """Mean gap between confidence and accuracy over bins of equal width, weighted by their rows."""
    if confidence.size == 0:
        return None
    gaps = np.bincount(_bin_index(confidence, bins), weights=confidence - hits, minlength=bins)
    return float(np.abs(gaps).sum() / confidence.size)


def _bin_index(confidence: Float64s, bins: int) -> NDArray[np.int64]:
    """[n] bins of claims, open below and closed above, as in the source: ((k - 1) / bins, k / bins]."""
    return np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)


def _class_indices(y: ClassLabels, n_classes: int) -> NDArray[np.int64]:
    labels = np.asarray(y)
    if labels.ndim != 1:
        raise ValueError(f"labels must be one per row, got shape {labels.shape}")
    indices = labels.astype(np.int64)
    if n_classes < 2 or (indices != labels).any() or ((indices < 0) | (indices >= n_classes)).any():
        raise ValueError(f"labels must be class indices below {n_classes}")
    return indices


def _brier(p: Float64s, labels: NDArray[np.int64]) -> float:
    truth = np.zeros_like(p)
    truth[np.arange(labels.size), labels] = 1.0
    if p.shape[1] == 2:
        return float(np.mean((p[:, 1] - truth[:, 1]) ** 2))
    return float(np.mean(((p - truth) ** 2).sum(axis=1)))


def _direction(
    predicted: Float64s, target: Float64s, smallest: float
) -> tuple[float | None, tuple[float, float] | None, float | None]:
    """Accuracy of signs, its interval and its baseline; targets within +-`smallest` count as 0."""
    moved = np.abs(target) > smallest
    up = int((target > smallest).sum())
    n = int(moved.sum())
    if up in {0, n}:
        return None, None, None
    hits = int((np.sign(predicted[moved]) == np.sign(target[moved])).sum())
    return hits / n, wilson_interval(hits, n), max(up, n - up) / n
