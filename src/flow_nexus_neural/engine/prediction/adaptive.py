"""The level of prediction sets and intervals where rows change with time, moved by what became of answers."""

from collections.abc import Mapping

import numpy as np

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.state.feedback import RecordedOutcome
from flow_nexus_neural.engine.state.version import Bundle
from flow_nexus_neural.engine.versions.served import routed, serve
from flow_nexus_neural.engine.versions.sureness import covers
from flow_nexus_neural.kernels.conformal import AdaptiveLevel, after_outcome
from flow_nexus_neural.vocabulary import AGGREGATIONS

Levels = Mapping[str, AdaptiveLevel]


def levels_after(
    bundle: Bundle, schema: DataSchema, levels: Levels, outcome: RecordedOutcome
) -> Levels:
    """The levels of each aggregation after one more outcome of this version.

    They stay where rows have no order in time, where a slot did not answer, so that its answer was given no
    set or interval, and for an `ensemble` of stacking networks, whose word is not recorded.

    Args:
        bundle: Of the version.
        schema: Of its data.
        levels: Before it; an aggregation without one has seen no outcome.
        outcome: With what the slots had answered.
    """
    slots = list(bundle.slot_weights)
    if not schema.time_ordered or not bundle.conformal or set(slots) - outcome.logits.keys():
        return levels
    outputs = np.array([[outcome.logits[slot]] for slot in slots])
    weights = routed(bundle, bundle.slot_weights, [outcome.symbol])
    moved = dict(levels)
    for mode in AGGREGATIONS:
        if mode not in bundle.conformal or (mode == "ensemble" and bundle.roles.uses("stacker")):
            continue
        before = levels.get(mode, AdaptiveLevel())
        made = serve(bundle, schema, mode, outputs, weights)
        held = covers(bundle, schema, mode, made, (outcome.outcome, before.level))
        moved[mode] = after_outcome(before, covered=held)
    return moved
