"""Aggregates the updates of a round to one state; used by every training and by connect."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.engine.state.network_groups import ModelState, ServerState, Vector
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.errors import RoundFailed
from flow_nexus_neural.kernels.averaging import averaged_step


@dataclass(frozen=True)
class Aggregated:
    """The aggregated state, and how it was computed.

    Attributes:
        weights: Weight of each slot's update; None if the policy works on each coordinate separately.
        excluded: Slots whose updates the policy left out, with reasons.
        evidence: Numbers that explain the result, for the ledger.
    """

    state: ModelState
    weights: Mapping[str, float] | None
    excluded: Mapping[str, str]
    evidence: Mapping[str, JsonValue]


def aggregate(base: ModelState, updates: Sequence[Update], policy: AggregationPolicy) -> Aggregated:
    """Combine admitted updates of one network group. Blocking; reads every update several times.

    Arrays that the updates lack are taken from the base: a node that only serves has no moments. What a
    federated method keeps is among the arrays of the base, and what it returns of that becomes part of the
    new state.

    Args:
        base: The state from which the updates started.
        updates: In slot order, on which the rounding of the result depends.
        policy: How to combine them.

    Raises:
        QuorumLost: If there are too few updates for the policy's guarantee.
        RoundFailed: If there is no update, or the policy left all of them out.
    """
    if not updates:
        raise RoundFailed("no worker delivered an update", hint="see neural_cluster_status")
    rows = [update.rows for update in updates]
    kept = base.server.vectors if base.server is not None else {}
    arrays = [update.copied.arrays for update in updates]
    combined = policy.combine({**base.arrays, **kept}, arrays, rows)
    excluded = {updates[k].slot: reason for k, reason in combined.excluded.items()}
    used = [update for update in updates if update.slot not in excluded]
    if not used:
        reasons = "; ".join(f"{slot}: {why}" for slot, why in list(excluded.items())[:4])
        raise RoundFailed(
            f"{policy.name} left out every update ({reasons})", hint="see neural_cluster_status"
        )
    vectors = combined.vectors
    moments = {name: vectors.get(name, array) for name, array in base.moments.items()}
    state = replace(base, params=vectors["params"], buffers=vectors["buffers"], moments=moments)
    made = {name: array for name, array in vectors.items() if name not in base.arrays}
    if made:
        state = replace(state, server=ServerState(policy.name, made))
    averaged = averaged_step([u.opt_step for u in used], [u.rows for u in used])
    step = base.opt_step if combined.keeps_moments else averaged
    weights = combined.weights
    return Aggregated(
        state=replace(state, opt_step=step),
        weights=None
        if weights is None
        else {update.slot: weights[k] for k, update in enumerate(updates)},
        excluded=excluded,
        evidence={
            **combined.evidence,
            **{
                name: {update.slot: value for update, value in zip(updates, values, strict=True)}
                for name, values in combined.by_update.items()
            },
        },
    )


def stepped(base: ModelState, policy: AggregationPolicy, mean: Vector) -> ModelState:
    """The next state where only the mean of the parameters is known, and nothing else is shared. Blocking.

    Args:
        base: The state from which all started; its running statistics and moments stay.
        policy: What becomes of the mean.
        mean: [n_params] float32.
    """
    kept = base.server.vectors if base.server is not None else {}
    found = policy.combine({**base.arrays, **kept}, [{"params": mean}], [1]).vectors
    return with_params(base, policy.name, found)


def with_params(base: ModelState, method: str, vectors: Mapping[str, Vector]) -> ModelState:
    """A state with other parameters, and with what a method keeps at the server.

    Args:
        base: Its running statistics and moments stay.
        method: Name of the policy.
        vectors: `params`, and those that the method keeps.
    """
    made = {name: array for name, array in vectors.items() if name not in base.arrays}
    state = replace(base, params=vectors["params"])
    return replace(state, server=ServerState(method, made)) if made else state
