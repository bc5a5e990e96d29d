"""Puts the outputs of a stacking network in the place of a combination by weights."""

from collections.abc import Sequence

import numpy as np

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
    the f highest. So it decides only where honest slots disagree, and never against all of them.

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
    return of_classes(p, rule.decide(p), fused.node_probabilities, given, expected, rule)


def _within(combined: Float64s, answers: Float64s, f: int) -> Float64s:
    """[...] moved into the range of the answers [K, ...] without the f lowest and f highest."""
    if not f:
        return combined
    ordered = np.sort(answers, axis=0)
    bounded: Float64s = np.clip(combined, ordered[f], ordered[len(answers) - f - 1])
    return bounded
