"""Combines the predictions of several slots, and measures their agreement."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.decision import MOST_PROBABLE, DecisionRule
from flow_nexus_neural.kernels.probabilities import (
    EPSILON,
    Float64s,
    Floats,
    class_log_probabilities,
    class_logits,
    logit,
    sigmoid,
    softmax,
)
from flow_nexus_neural.kernels.robust_fusion import (
    UNDECIDED,
    capped_weights,
    clipped_to_trimmed_range,
    require_quorum,
    trimmed_mean,
)
from flow_nexus_neural.vocabulary import Aggregation, Task

Ints = NDArray[np.int64]
MAX_WEIGHT = 1e300


@dataclass(frozen=True, slots=True)
class TargetScale:
    """Scale of a regression target: `value * sd + mean` is a standardised output in the target's unit.

    Attributes:
        tau: Tolerance in the target's unit: two predictions agree if their signs are equal or they differ by
            at most tau.
    """

    mean: float = 0.0
    sd: float = 1.0
    tau: float = 0.0


@dataclass(frozen=True, slots=True)
class Fused:
    """The combined prediction of each record, and the predictions of the slots.

    Attributes:
        values: [R]. Binary: P(class 1) in [1e-6, 1 - 1e-6]. Multiclass: probability of the predicted
            class. Regression: the value in the target's unit.
        probabilities: [R, C], rows sum to 1; None for regression.
        decisions: [R] decided class index, `UNDECIDED` where too few slots voted for any class; None for
            regression.
        consensus: [R] weight of the slots that decide as the combination does, divided by the weight of all
            expected slots, in [1e-6, 1]. A slot that did not answer counts as disagreeing.
        node_agreement: [R] 1 - mean distance between the predictions of two slots, in [1e-6, 1]; 1 for a
            single slot.
        node_values: [K, R], the `values` of each slot.
        node_decisions: [K, R]; None for regression.
        node_probabilities: [K, R, C]; None for regression.
    """

    values: Float64s
    probabilities: Float64s | None
    decisions: Ints | None
    consensus: Float64s
    node_agreement: Float64s
    node_values: Float64s
    node_decisions: Ints | None
    node_probabilities: Float64s | None = None


def fuse(  # noqa: PLR0913 - scale and rule say what outputs mean, each of its own kind of task
    aggregation: Aggregation,
    logits: Floats,
    weights: Sequence[float] | Floats,
    task: Task,
    *,
    expected_weight: float | Float64s | None = None,
    scale: TargetScale | None = None,
    rule: DecisionRule = MOST_PROBABLE,
    f: int = 0,
) -> Fused:
    """Combine the predictions of K slots for R records.

    With p_k the probability vector of slot k and w_k its weight, normalised over the K slots that answered:

    | aggregation | binary P(class 1) | multiclass probabilities | regression |
    |---|---|---|---|
    | mean | mean p_k | mean of vectors | mean |
    | majority | share of votes for class 1 | vote shares | median |
    | weighted | sigmoid(sum w_k logit p_k) | softmax(sum w_k log p_k) | sum w_k y_k |
    | ensemble | as weighted | as weighted | as weighted |

    Probabilities are clipped to 1e-6 before a logarithm is taken, so that one huge logit cannot outweigh all
    other slots. The rule decides the combination and the vote of every slot. Of a majority the votes decide,
    and of a tie the rule on the mean probabilities; `values` stays the share of votes.

    With f > 0, up to f of the slots may answer anything. `mean` is then the trimmed mean of logits (of log
    probabilities, of values), f on each side; `majority` decides a class for which at least f + 1 slots vote,
    one of them honest, else none; `weighted` and `ensemble` take logits clipped to the range without the f
    lowest and highest, with no weight above 1 / (2 f + 1) before they are made to sum to 1.

    Args:
        aggregation: One row of the table. `ensemble` without a stacking network is `weighted`.
        logits: [K, R, O]: O = 1 for binary and regression (standardised values), else one per class.
        weights: [K], >= 0, in slot order, or [K, R] where they differ from record to record; only their
            ratios matter.
        task: The learning task.
        expected_weight: Sum of the weights of all slots that were asked, or [R], in the unit of `weights`;
            None if all of them answered.
        scale: Mean, sd and tolerance of a regression target.
        rule: Which class probabilities decide.
        f: Slots that may answer anything.

    Raises:
        QuorumLost: If no slot answered, all slots that answered have weight 0, or 2 f or fewer answered.
        ValueError: If shapes do not fit, a weight is negative, or a value is not finite.

    Source: Ranjan and Gneiting, "Combining probability forecasts", JRSS B 2010 (the pooled forecast is
    not calibrated; calibrate the result); Genest and Zidek, Statistical Science 1986, section 3, for
    logarithmic pooling.
    """
    answers = np.asarray(logits, dtype=np.float64)
    given = np.asarray(weights, dtype=np.float64)
    _check(answers, given, task)
    require_quorum(len(answers), f)
    expected = all_weight(given, expected_weight)
    if task == "regression":
        values, unit = answers[:, :, 0], scale or TargetScale()
        return _fuse_values(aggregation, values, given, expected, unit, f)
    return _fuse_classes(aggregation, answers, given, expected, rule, f)


def calibrate(
    fused: Fused,
    calibrator: Calibrator,
    weights: Sequence[float] | Floats,
    *,
    expected_weight: float | Float64s | None = None,
    rule: DecisionRule = MOST_PROBABLE,
) -> Fused:
    """The same combination with calibrated probabilities, both of the combination and of every slot.

    A calibrator with an offset moves the decision threshold. If it were applied to the combination alone,
    slots with equal answers could all count as disagreeing with their combination.

    Args:
        fused: A combination of classes.
        calibrator: Fitted on combinations of the same kind.
        weights: As passed to `fuse`.
        expected_weight: As passed to `fuse`.
        rule: As passed to `fuse`.

    Raises:
        ValueError: If `fused` is a regression.
    """
    if fused.probabilities is None or fused.node_probabilities is None:
        raise ValueError("values of a regression have no probabilities to calibrate")
    given = np.asarray(weights, dtype=np.float64)
    combined = _calibrated(calibrator, fused.probabilities)
    return of_classes(
        combined,
        rule.decide(combined),
        _calibrated(calibrator, fused.node_probabilities),
        given,
        all_weight(given, expected_weight),
        rule,
    )


def all_weight(weights: Float64s, expected_weight: float | Float64s | None) -> float | Float64s:
    """Weight of all slots that were asked, or [R] of it by record; see `fuse`."""
    total = weights.sum(axis=0)
    if expected_weight is not None:
        total = np.maximum(expected_weight, total)
    return float(total) if weights.ndim == 1 and np.ndim(total) == 0 else total


def _check(answers: Float64s, weights: Float64s, task: Task) -> None:
    if answers.ndim != 3 or weights.shape not in (answers.shape[:1], answers.shape[:2]):
        raise ValueError(f"answers {answers.shape} do not fit weights {weights.shape}")
    if (answers.shape[2] == 1) != (task != "multiclass") or answers.shape[2] == 0:
        raise ValueError(f"{answers.shape[2]} outputs per record do not fit task {task}")
    if answers.shape[0] == 0:
        raise QuorumLost("no node answered", hint="see neural_cluster_status for their state")
    if not np.isfinite(answers).all() or not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("answers must be finite and weights finite and >= 0")
    if (weights > MAX_WEIGHT).any():
        raise ValueError(f"weights must be at most {MAX_WEIGHT:g}, so that their sum is finite")
    if not (weights.sum(axis=0) > 0).all():
        raise QuorumLost(
            "no node that answered carries weight",
            hint="give a positive weight to a healthy node, or omit weights",
        )


def _fuse_classes(
    aggregation: Aggregation,
    answers: Float64s,
    weights: Float64s,
    expected: float | Float64s,
    rule: DecisionRule,
    f: int,
) -> Fused:
    log_p = class_log_probabilities(answers)  # [K, R, C]
    p = np.exp(log_p)
    if aggregation in ("mean", "majority"):
        fused = _mean_class(answers, log_p, f) if f else p.mean(axis=0)
        decisions = rule.decide(fused)
        if aggregation == "majority":
            fused, decisions = _votes(rule.decide(p), fused, rule, f)
    else:
        kept = clipped_to_trimmed_range(p, f), capped_weights(weights, f)
        fused = _pool(*kept) if f else _pool(p, weights)
        decisions = rule.decide(fused)
    return of_classes(fused, decisions, p, weights, expected, rule)


def of_classes(
    fused: Float64s,
    decisions: Ints,
    p: Float64s,
    weights: Float64s,
    expected: float | Float64s,
    rule: DecisionRule,
) -> Fused:
    """Build the result from combination [R, C], its decisions [R] and the slots' probabilities [K, R, C]."""
    binary = p.shape[2] == 2
    if binary:
        one = np.clip(fused[:, 1], EPSILON, 1.0 - EPSILON)
        fused = np.stack([1.0 - one, one], axis=1)
    node_decisions = rule.decide(p)
    agrees = node_decisions == decisions
    return Fused(
        values=fused[:, 1] if binary else _at(fused, np.maximum(decisions, 0)),
        probabilities=fused,
        decisions=decisions,
        consensus=_clipped(_weighed(weights, agrees) / expected),
        node_agreement=_clipped(1.0 - _mean_distance(p)),
        node_values=p[:, :, 1] if binary else _at(p, node_decisions),
        node_decisions=node_decisions,
        node_probabilities=p,
    )


def _calibrated(calibrator: Calibrator, p: Float64s) -> Float64s:
    """Calibrated probabilities [..., C]; with two classes clipped first, as in every combination."""
    if p.shape[-1] == 2:
        p = np.clip(p, EPSILON, 1.0 - EPSILON)
    calibrated: Float64s = np.exp(class_log_probabilities(calibrator.apply(class_logits(p))))
    return calibrated


def _mean_class(answers: Float64s, log_p: Float64s, f: int) -> Float64s:
    """[R, C] probabilities from the trimmed mean of logits; of log probabilities for three or more classes.

    Logits of several classes have an arbitrary offset, which a liar would choose; log probabilities do not.
    """
    logits = answers if log_p.shape[2] == 2 else log_p
    probabilities: Float64s = np.exp(class_log_probabilities(trimmed_mean(logits, f)))
    return probabilities


def _votes(
    node_decisions: Ints, mean: Float64s, rule: DecisionRule, f: int
) -> tuple[Float64s, Ints]:
    n_classes = mean.shape[1]
    ballots = node_decisions[:, :, None] == np.arange(n_classes)  # [K, R, C]
    counts = ballots.sum(axis=0)
    leads = counts == counts.max(axis=1, keepdims=True)
    if n_classes == 2:  # a tie is for the rule, whose threshold argmax does not know
        decisions = np.where(leads.all(axis=1), rule.decide(mean), counts.argmax(axis=1))
    else:
        decisions = np.where(leads, rule.scores(mean), -1.0).argmax(axis=1)
    # Votes of f slots alone decide nothing. Without f, one vote is enough, and there is always one.
    decisions = np.where(counts.max(axis=1) > f, decisions, UNDECIDED)
    return counts / node_decisions.shape[0], decisions.astype(np.int64)


def _pool(p: Float64s, weights: Float64s) -> Float64s:
    share = weights / weights.sum(axis=0)
    if p.shape[2] == 2:
        one = sigmoid(_weighed(share, logit(p[:, :, 1])))
        return np.stack([1.0 - one, one], axis=1)
    return softmax(_weighed(share, np.log(np.maximum(p, EPSILON))))


def _weighed(weights: Float64s, values: Floats) -> Float64s:
    """Sum over slots of weight times value: weights [K] or [K, R], values [K, R, ...]."""
    if weights.ndim == 1:
        alike: Float64s = np.tensordot(weights, values, axes=1)
        return alike
    by_record = weights.reshape(*weights.shape, *[1] * (values.ndim - 2))
    summed: Float64s = (by_record * values).sum(axis=0)
    return summed


def _fuse_values(
    aggregation: Aggregation,
    answers: Float64s,
    weights: Float64s,
    expected: float | Float64s,
    scale: TargetScale,
    f: int,
) -> Fused:
    if not scale.sd > 0 or scale.tau < 0:
        raise ValueError(f"scale {scale} needs sd > 0 and tau >= 0")
    nodes = answers * scale.sd + scale.mean  # [K, R]
    if aggregation == "mean":
        fused = trimmed_mean(nodes, f) if f else nodes.mean(axis=0)
    elif aggregation == "majority":
        fused = np.median(nodes, axis=0)
    elif f:
        fused = _weighed(capped_weights(weights, f), clipped_to_trimmed_range(nodes, f))
    else:
        fused = _weighed(weights, nodes) / weights.sum(axis=0)
    return of_values(fused, nodes, weights, expected, scale)


def of_values(
    fused: Float64s,
    nodes: Float64s,
    weights: Float64s,
    expected: float | Float64s,
    scale: TargetScale,
) -> Fused:
    """Build the result from combined values [R] and the slots' values [K, R]."""
    agrees = (np.sign(nodes) == np.sign(fused)) | (np.abs(nodes - fused) <= scale.tau)
    first, second = np.triu_indices(nodes.shape[0], k=1)
    gaps = np.minimum(np.abs(nodes[first] - nodes[second]) / (2 * scale.sd), 1.0)
    distance = gaps.mean(axis=0) if first.size else np.zeros(nodes.shape[1])
    return Fused(
        values=fused,
        probabilities=None,
        decisions=None,
        consensus=_clipped(_weighed(weights, agrees) / expected),
        node_agreement=_clipped(1.0 - distance),
        node_values=nodes,
        node_decisions=None,
    )


def _mean_distance(p: Float64s) -> Float64s:
    """Mean total variation distance over pairs of slots, [K, R, C] to [R].

    With the values of K slots sorted, the sum over pairs of |p_j - p_k| is sum (2 i - K + 1) p_(i), which
    needs no K x K array.
    """
    n = p.shape[0]
    if n == 1:
        return np.zeros(p.shape[1])
    coefficients = 2.0 * np.arange(n) - n + 1.0
    sums = np.tensordot(coefficients, np.sort(p, axis=0), axes=1)  # [R, C]
    distance: Float64s = sums.sum(axis=1) / 2 / (n * (n - 1) / 2)
    return distance


def _at(p: Float64s, index: Ints) -> Float64s:
    picked: Float64s = np.take_along_axis(p, index[..., None], axis=-1)[..., 0]
    return picked


def _clipped(share: NDArray[Any]) -> Float64s:
    clipped: Float64s = np.clip(share, EPSILON, 1.0)
    return clipped
