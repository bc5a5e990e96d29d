"""Puts the outputs of a stacking network in the place of a combination by weights."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.ensemble import Fused, TargetScale, all_weight, of_classes, of_values
from flow_nexus_neural.kernels.probabilities import Float64s, Floats, class_log_probabilities


def with_stacked(  # noqa: PLR0913 - as `fuse`, of which it is the other half
    fused: Fused,
    stacked: Floats,
    weights: Sequence[float] | Floats,
    *,
    expected_weight: float | Float64s | None,
    scale: TargetScale | None,
    rule: DecisionRule,
    f: int,
) -> Fused:
    """The same answers of slots, combined by a stacking network.

    With f > 0, up to f of the slots may answer anything, and so may the stacking network, whose answer is one
    node's word: it is then moved into the range that is left of the slots' answers without the f lowest and
    the f highest. Of three or more classes that bounds each probability and not which one is the largest,
    so it decides only a class for which f + 1 slots vote, one of them honest; else the slots' own combination
    stays, and where that decides no such class either, the least sure slot of those that vote for the
    commonest one. So it decides only where honest slots disagree, and never against all of them.

    Args:
        fused: The slots' answers, combined in any way.
        stacked: [R, O] outputs of the stacking network.
        weights: As passed to `fuse`.
        expected_weight: As passed to `fuse`.
        scale: As passed to `fuse`.
        rule: As passed to `fuse`.
        f: Slots that may answer anything.
    """
    outputs = np.asarray(stacked, dtype=np.float64)
    given = np.asarray(weights, dtype=np.float64)
    expected = all_weight(given, expected_weight)
    if fused.node_probabilities is None:
        unit = scale or TargetScale()
        values = _within(outputs[:, 0] * unit.sd + unit.mean, fused.node_values, f)
        return of_values(values, fused.node_values, given, expected, unit)
    p = _within(np.exp(class_log_probabilities(outputs)), fused.node_probabilities, f)
    p /= p.sum(axis=1, keepdims=True)
    if f:
        p = _voted_for(p, fused, rule, f)
    return of_classes(p, rule.decide(p), fused.node_probabilities, given, expected, rule)


def _voted_for(p: Float64s, fused: Fused, rule: DecisionRule, f: int) -> Float64s:
    """[R, C] with the rows that decide a class without f + 1 votes replaced, where there are such votes.

    Args:
        p: [R, C] of the stacking network.
        fused: The slots' answers and their combination.
        rule: Decides all of them.
        f: Slots that may answer anything.
    """
    own, answers = fused.probabilities, fused.node_probabilities
    if own is None or answers is None:
        raise ValueError("values of a regression have no classes to vote for")
    votes = rule.decide(answers)  # [K, R]
    counts = (votes[:, :, None] == np.arange(p.shape[1])).sum(axis=0)  # [R, C]
    kept = np.where(_counted(p, counts, rule, f), p, own)
    leading = counts.argmax(axis=1)
    for row in np.flatnonzero(~_counted(kept, counts, rule, f)[:, 0] & (counts.max(axis=1) > f)):
        sure = np.where(votes[:, row] == leading[row], answers[:, row, leading[row]], np.inf)
        kept[row] = answers[sure.argmin(), row]
    return kept


def _counted(
    p: Float64s, counts: NDArray[np.int64], rule: DecisionRule, f: int
) -> NDArray[np.bool_]:
    """[R, 1] whether more than f slots vote for what these probabilities decide."""
    counted: NDArray[np.bool_] = np.take_along_axis(counts, rule.decide(p)[:, None], axis=1) > f
    return counted


def _within(combined: Float64s, answers: Float64s, f: int) -> Float64s:
    """[...] moved into the range of the answers [K, ...] without the f lowest and f highest."""
    if not f:
        return combined
    ordered = np.sort(answers, axis=0)
    bounded: Float64s = np.clip(combined, ordered[f], ordered[len(answers) - f - 1])
    return bounded
