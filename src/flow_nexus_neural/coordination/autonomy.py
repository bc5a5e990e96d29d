"""Derives recommended actions from measurements of a cluster; none is carried out."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

from pydantic import JsonValue

from flow_nexus_neural.coordination.membership import SlotState

Kind = Literal[
    "restart_node",
    "resync_node",
    "quarantine_node",
    "pause_training",
    "rebalance_shards",
    "early_stop",
    "adapt_learning_rate",
]
Scope = Literal["node", "cluster"]

LEVELS: dict[Kind, float] = {
    "restart_node": 0.2,
    "resync_node": 0.3,
    "quarantine_node": 0.4,
    "pause_training": 0.4,
    "rebalance_shards": 0.5,
    "early_stop": 0.6,
    "adapt_learning_rate": 0.7,
}
"""Autonomy level that an action requires to be carried out without asking."""

MIN_GAIN = 1e-3
STOP_AFTER_ROUNDS = 10
ADAPT_AFTER_ROUNDS = 5
DEAD_FOR_S = 60.0
DIVERGED_FACTOR = 3.0
COOLDOWN_S = 60.0


@dataclass(frozen=True, slots=True)
class SlotObservation:
    """Measurements of one slot.

    Attributes:
        autonomy: Level set at its deploy, in [0, 1].
        failed_since_s: Time at which it failed; None if it has not failed.
        digest_matches: Whether its weights are the committed ones; None if unknown.
        refused_updates: Updates of the latest round that were not finite or had a wrong shape.
    """

    slot: str
    state: SlotState
    autonomy: float
    failed_since_s: float | None = None
    digest_matches: bool | None = None
    refused_updates: int = 0


@dataclass(frozen=True, slots=True)
class Observation:
    """Measurements of a cluster.

    Attributes:
        at_s: Time of the measurements, on the same clock as all other times here.
        select_losses: Loss on `select` rows, one per committed round of the running training, oldest first;
            None if not measured. Empty if no training runs.
        min_workers: Healthy workers that the running training needs; 0 if no training runs.
        healthy_workers: Healthy workers at that time.
    """

    at_s: float
    daa_enabled: bool
    slots: Sequence[SlotObservation]
    select_losses: Sequence[float | None] = ()
    min_workers: int = 0
    healthy_workers: int = 0


@dataclass(frozen=True, slots=True)
class Action:
    """A recommended action and the evidence for it.

    Attributes:
        target: Name of the slot, or `cluster`.
        level_effective: The slot's autonomy, or the median over healthy slots; 0 if autonomy is off;
            None if no slot is healthy.
    """

    kind: Kind
    scope: Scope
    target: str
    level_required: float
    level_effective: float | None
    decision: Literal["recommended"]
    evidence: dict[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reported:
    """Time of a condition's last report, and whether the condition has been present ever since."""

    at_s: float
    holds: bool


Memory = Mapping[tuple[Kind, str], Reported]
"""Conditions, by kind and target, that are present or were reported within the last minute."""


def plan(observation: Observation, memory: Memory) -> tuple[list[Action], Memory]:
    """Recommend actions for the conditions that have appeared since the previous call.

    A condition is reported when it appears. If it disappears and appears again, the next report comes 60 s
    after the last one at the earliest, so that a flapping condition does not fill the log.

    Args:
        observation: The present measurements.
        memory: The memory returned by the previous call; empty at first.

    Returns:
        New actions in the order of slots, those for the cluster last; and the memory for the next call.
    """
    at_s = observation.at_s
    present = {(action.kind, action.target): action for action in _conditions(observation)}
    remembered = {
        key: Reported(past.at_s, past.holds and key in present)
        for key, past in memory.items()
        if key in present or at_s - past.at_s < COOLDOWN_S
    }
    fresh = []
    for key, action in present.items():
        past = remembered.get(key)
        if past is None or (not past.holds and at_s - past.at_s >= COOLDOWN_S):
            fresh.append(action)
            remembered[key] = Reported(at_s, holds=True)
    return fresh, remembered


def effective_level(observation: Observation) -> float | None:
    """Autonomy of the cluster: the median over healthy slots; 0 when off, None without a healthy slot."""
    if not observation.daa_enabled:
        return 0.0
    levels = [slot.autonomy for slot in observation.slots if slot.state == "healthy"]
    return median(levels) if levels else None


def gain(losses: Sequence[float | None], rounds: int) -> float | None:
    """Improvement of the best loss in the last `rounds` measurements over the best one before them.

    None if there are no earlier measurements.
    """
    known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    if len(known) <= rounds:
        return None
    return min(known[:-rounds]) - min(known[-rounds:])


def _conditions(observation: Observation) -> Iterator[Action]:
    for slot in observation.slots:
        yield from _slot_conditions(observation, slot)
    level = effective_level(observation)
    for kind, evidence in _cluster_conditions(observation):
        yield Action(kind, "cluster", "cluster", LEVELS[kind], level, "recommended", evidence)


def _slot_conditions(observation: Observation, slot: SlotObservation) -> Iterator[Action]:
    found: list[tuple[Kind, dict[str, JsonValue]]] = []
    if slot.state == "failed":
        found.append(("restart_node", {"failed_for_s": _failed_for_s(observation, slot)}))
    if slot.digest_matches is False:
        found.append(("resync_node", {"digest_matches": False}))
    if slot.refused_updates:
        found.append(("quarantine_node", {"refused_updates": slot.refused_updates}))
    level = slot.autonomy if observation.daa_enabled else 0.0
    for kind, evidence in found:
        yield Action(kind, "node", slot.slot, LEVELS[kind], level, "recommended", evidence)


def _cluster_conditions(
    observation: Observation,
) -> Iterator[tuple[Kind, dict[str, JsonValue]]]:
    if observation.healthy_workers < observation.min_workers:
        yield (
            "pause_training",
            {"healthy": observation.healthy_workers, "needed": observation.min_workers},
        )
    dead = [
        slot.slot
        for slot in observation.slots
        if (_failed_for_s(observation, slot) or 0.0) > DEAD_FOR_S and slot.state == "failed"
    ]
    if dead:
        yield "rebalance_shards", {"failed_slots": [*dead], "longer_than_s": DEAD_FOR_S}
    yield from _training_conditions(observation.select_losses)


def _training_conditions(
    losses: Sequence[float | None],
) -> Iterator[tuple[Kind, dict[str, JsonValue]]]:
    stop_gain = gain(losses, STOP_AFTER_ROUNDS)
    if stop_gain is not None and stop_gain < MIN_GAIN:
        yield "early_stop", {"gain": stop_gain, "rounds": STOP_AFTER_ROUNDS}
    adapt_gain = gain(losses, ADAPT_AFTER_ROUNDS)
    known = [loss for loss in losses if loss is not None and math.isfinite(loss)]
    if len(known) > 1 and known[-1] > DIVERGED_FACTOR * min(known):
        evidence: dict[str, JsonValue] = {"loss": known[-1], "best": min(known), "factor": 0.3}
        yield "adapt_learning_rate", evidence
    elif adapt_gain is not None and adapt_gain < MIN_GAIN:
        yield (
            "adapt_learning_rate",
            {"gain": adapt_gain, "rounds": ADAPT_AFTER_ROUNDS, "factor": 0.5},
        )


def _failed_for_s(observation: Observation, slot: SlotObservation) -> float | None:
    if slot.failed_since_s is None:
        return None
    return max(0.0, observation.at_s - slot.failed_since_s)
