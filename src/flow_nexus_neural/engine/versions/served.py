"""Computes a version's predictions from its slots' outputs, for serving and for evaluation alike.

Since both use this code, the predictions of the test rows reproduce the metrics that status reports.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.quorum import liars_tolerated
from flow_nexus_neural.data.partition import owned_symbols
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.kernels.class_weight import without_class_weight
from flow_nexus_neural.kernels.ensemble import Fused, TargetScale, calibrate, fuse
from flow_nexus_neural.kernels.robust_fusion import UNDECIDED
from flow_nexus_neural.kernels.stacked_fusion import with_stacked
from flow_nexus_neural.vocabulary import Aggregation

Logits = NDArray[np.float32]
EXPERT_FACTOR = 2.0
"""How much more a slot counts for records of a symbol that its capabilities name."""


@dataclass(frozen=True)
class Served:
    """Predictions of rows.

    Attributes:
        raw: The combined outputs of the slots, without the class weights of the training.
        final: After calibration; the same object if the version has no calibrator for the aggregation.
        mean: The mean of the same answers, where votes were counted: shares of votes are no probabilities.
        sure: [R] P(the decision is right) by validators; None where the probabilities themselves say that.
    """

    raw: Fused
    final: Fused
    mean: "Served | None" = None
    sure: NDArray[np.float64] | None = None

    @property
    def calibrated(self) -> bool:
        """Whether calibration was applied."""
        return self.final is not self.raw

    @property
    def chances(self) -> "Served":
        """The combination whose probabilities say how sure these decisions are."""
        return self.mean or self

    @property
    def certainty(self) -> NDArray[np.float64] | None:
        """[R] P(the decision is right); NaN without a decision, None for regression.

        It is the probability of the decided class, which by a threshold or by class weights need not be the
        most probable one: then it may lie below chance. Where validators were asked it is what they say.
        """
        decisions, p = self.final.decisions, self.chances.final.probabilities
        if decisions is None or p is None:
            return None
        if self.sure is not None:
            return np.where(decisions == UNDECIDED, np.nan, self.sure)
        chosen = np.take_along_axis(p, np.maximum(decisions, 0)[:, None], axis=1)[:, 0]
        return np.where(decisions == UNDECIDED, np.nan, chosen)


def experts_of(slots: Iterable[Slot], symbols: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Symbols that the capability tags of slots name, by the slots that name some.

    Args:
        slots: Serving ones.
        symbols: That the model knows.
    """
    named = {slot.name: owned_symbols(slot.spec.capabilities, symbols) for slot in slots}
    return {slot: tuple(symbols[k] for k in own) for slot, own in named.items() if own}


def routed(
    bundle: Bundle,
    weights: Mapping[str, float],
    symbols: Sequence[str | None] | NDArray[np.object_],
) -> NDArray[np.float64]:
    """[K] weights of slots; [K, R], twice as large where a slot is an expert, if it is for some record.

    Args:
        bundle: Knows the experts.
        weights: By slot.
        symbols: [R] of the records; None for a record without one.
    """
    plain = np.array(list(weights.values()), dtype=np.float64)
    known = [bundle.experts.get(slot, ()) for slot in weights]
    of = np.asarray(symbols, dtype=object)
    knows = np.array([[symbol in own for symbol in of] for own in known], dtype=np.bool_)
    if not knows.any():
        return plain
    return np.where(knows, EXPERT_FACTOR, 1.0) * plain[:, None]


def serve(  # noqa: PLR0913 - what answered, beside what was asked
    bundle: Bundle,
    schema: DataSchema,
    aggregation: Aggregation,
    logits: NDArray[np.floating],
    weights: Sequence[float] | NDArray[np.float64],
    *,
    expected_weight: float | NDArray[np.float64] | None = None,
    n_expected: int | None = None,
    stacked: NDArray[np.floating] | None = None,
) -> Served:
    """Combine the outputs of slots as a prediction does.

    Args:
        bundle: Bundle of the version.
        schema: Schema of its training data.
        aggregation: How answers are combined.
        logits: [K, R, O] outputs of the slots that answered, in slot order.
        weights: [K] their weights, or [K, R].
        expected_weight: Sum of the weights of all slots that were asked, or [R]; None if all answered.
        n_expected: How many that were; None if all answered.
        stacked: [R, O] outputs of the bundle's stacking networks, which `ensemble` serves; None without any.

    Raises:
        QuorumLost: If no slot with weight answered; of a robust bundle, if 2 f or fewer of n >= 3 f + 1 did.
    """
    scale, rule = target_scale(schema, bundle.residual_median), bundle.rule
    f = liars_tolerated(len(logits) if n_expected is None else n_expected) if bundle.robust else 0
    raw = fuse(
        aggregation,
        without_class_weight(logits, rule.class_weight),
        weights,
        schema.task,
        expected_weight=expected_weight,
        scale=scale,
        rule=rule,
        f=f,
    )
    if stacked is not None and aggregation == "ensemble":
        raw = with_stacked(
            raw, stacked, weights, expected_weight=expected_weight, scale=scale, rule=rule, f=f
        )
    if aggregation == "majority" and raw.probabilities is not None:
        mean = serve(
            bundle,
            schema,
            "mean",
            logits,
            weights,
            expected_weight=expected_weight,
            n_expected=n_expected,
        )
        return Served(raw, raw, mean)
    calibrator = bundle.calibrators.get(aggregation)
    if calibrator is None or raw.probabilities is None:
        return Served(raw, raw)
    final = calibrate(raw, calibrator, weights, expected_weight=expected_weight, rule=rule)
    return Served(raw, final)


def serve_groups(  # noqa: PLR0913 - what answered, beside what was asked
    bundle: Bundle,
    schema: DataSchema,
    aggregation: Aggregation,
    logits: Mapping[str, Logits],
    slot_networks: Mapping[str, str],
    *,
    stacked: NDArray[np.floating] | None = None,
    symbols: NDArray[np.int32] | None = None,
) -> Served:
    """Combine the predictions of all serving slots, for rows that were inferred once per network group.

    Args:
        bundle: Bundle of the version, with the slot weights.
        schema: Schema of the data.
        aggregation: How answers are combined.
        logits: [R, O] by network group; those without slots count for nothing.
        slot_networks: Network group of every slot, in slot order.
        stacked: As passed to `serve`.
        symbols: [R] of the rows, as indices into the schema's, below 0 for none; None where none counts.
    """
    answering = dict.fromkeys(slot_networks.values()) or logits
    if len(answering) == 1 and stacked is None:
        # Slots of one group hold equal weights, so the combination is equal to the output of any of them.
        only = logits[next(iter(answering))]
        return serve(bundle, schema, aggregation, np.asarray(only, dtype=np.float64)[None], [1.0])
    outputs = np.stack([np.asarray(logits[key], np.float64) for key in slot_networks.values()])
    own = {slot: bundle.slot_weights[slot] for slot in slot_networks}
    names = np.array([*schema.symbols, None], dtype=object)
    weights = routed(bundle, own, [] if symbols is None else names[symbols])
    return serve(bundle, schema, aggregation, outputs, weights, stacked=stacked)


def target_scale(schema: DataSchema, tolerance: float | None = None) -> TargetScale | None:
    """The scale from standardised outputs to target values; None unless the task is regression."""
    if schema.task != "regression":
        return None
    return TargetScale(mean=schema.target_mean, sd=schema.target_sd, tau=tolerance or 0.0)
