"""What autonomy sees of a cluster, which actions there are, and how much autonomy each needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from pydantic import JsonValue

from flow_nexus_neural.coordination.membership import SlotState

Kind = Literal[
    "restart_node",
    "give_up_node",
    "resync_node",
    "quarantine_node",
    "pause_training",
    "resume_training",
    "rebalance_shards",
    "early_stop",
    "adapt_learning_rate",
    "restore_learning_rate",
    "learn_from_feedback",
    "deploy_spare",
    "raise_clients",
]
Scope = Literal["node", "cluster"]
CLUSTER = "cluster"
"""Target of an action that concerns no single slot."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When an action may be carried out without asking.

    Attributes:
        level: Autonomy that it needs.
        holds_s: Its condition has to be present for so long first.
        cooldown_s: Time between two executions for one target; doubled with every failure in a row.
        per_hour: Executions in an hour, over all targets; None where something else bounds them.
        slow: It starts processes or waits for a training: others are decided on meanwhile.
    """

    level: float
    scope: Scope
    holds_s: float
    cooldown_s: float
    per_hour: int | None
    slow: bool = False


NODE_PER_HOUR, CLUSTER_PER_HOUR = 12, 6

RULES: Mapping[Kind, Rule] = {
    # Its pauses grow by themselves: see `restart_pause_s`.
    "restart_node": Rule(0.2, "node", 0.0, 0.0, NODE_PER_HOUR, slow=True),
    "give_up_node": Rule(0.2, "node", 0.0, 0.0, None),
    "resync_node": Rule(0.3, "node", 1.0, 30.0, NODE_PER_HOUR),
    "quarantine_node": Rule(0.4, "node", 0.0, 0.0, NODE_PER_HOUR),
    "pause_training": Rule(0.4, "cluster", 0.0, 0.0, CLUSTER_PER_HOUR),
    # Nothing may keep a paused training from going on.
    "resume_training": Rule(0.4, "cluster", 0.0, 0.0, None),
    "rebalance_shards": Rule(0.5, "cluster", 0.0, 60.0, CLUSTER_PER_HOUR, slow=True),
    # Bounded by the rounds of a training and not by the time that they take: equal seeds, equal courses.
    "early_stop": Rule(0.6, "cluster", 0.0, 0.0, None),
    "adapt_learning_rate": Rule(0.7, "cluster", 0.0, 0.0, None),
    "restore_learning_rate": Rule(0.7, "cluster", 0.0, 0.0, None),
    "learn_from_feedback": Rule(0.8, "cluster", 1.0, 600.0, CLUSTER_PER_HOUR, slow=True),
    "deploy_spare": Rule(0.95, "cluster", 60.0, 60.0, CLUSTER_PER_HOUR, slow=True),
    "raise_clients": Rule(0.95, "cluster", 0.0, 60.0, CLUSTER_PER_HOUR),
}
"""Every action. What is not here is not done at any level: no change of the consensus, no data deleted, no
limit exceeded."""


@dataclass(frozen=True, slots=True)
class SlotObservation:
    """Measurements of one slot.

    Attributes:
        autonomy: Level set at its deploy, in [0, 1].
        failed_since_s: Time at which it failed; None if it has not failed.
        returning: It is being started again by somebody else.
        digest_matches: Whether its weights are the committed ones; None if unknown.
        accused: A proof that it cheated; None where there is none.
        has_spare: Another slot stands in for it.
    """

    slot: str
    state: SlotState
    autonomy: float
    failed_since_s: float | None = None
    returning: bool = False
    digest_matches: bool | None = None
    accused: str | None = None
    has_spare: bool = False


@dataclass(frozen=True, slots=True)
class TrainingObservation:
    """Measurements of the running training.

    Attributes:
        select_losses: Loss on `select` rows, one per committed round, oldest first; None if not measured.
        learning_rate: In force now.
        adapted_at: Rounds that were done when autonomy last changed the learning rate; None before.
        rate_before: The learning rate before that change.
        diverged: Rounds back to the best that there were because the loss had diverged.
        min_workers: Healthy workers that it needs.
        healthy_workers: Healthy workers now.
        possible_workers: Those, and workers that may be healthy again.
        paused: It waits for workers, because autonomy paused it.
        stopping: It ends after the present round.
        patience_chosen: The caller said when it ends early.
        dead_owners: Workers without a process that own rows of it.
        delivered: Clients that delivered in each committed round, oldest first.
        clients: Clients asked per round, and the most that may be asked; None where all are asked.
    """

    select_losses: Sequence[float | None] = ()
    learning_rate: float = 0.0
    adapted_at: int | None = None
    rate_before: float | None = None
    diverged: int = 0
    min_workers: int = 0
    healthy_workers: int = 0
    possible_workers: int = 0
    paused: bool = False
    stopping: bool = False
    patience_chosen: bool = False
    dead_owners: Sequence[str] = ()
    delivered: Sequence[int] = ()
    clients: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Finished:
    """An action that was carried out."""

    kind: Kind
    target: str
    ok: bool
    at_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """Measurements of a cluster.

    Attributes:
        at_s: Time of the measurements, on the same clock as all other times here.
        training: None if none runs.
        unlinked: Slots that are linked and have no process, or that are healthy and not linked.
        drift: How served data or errors have moved away from those of the training, where that is more than
            chance; None otherwise.
        max_nodes: Slots that the cluster may have.
        finished: Actions that ended since the observation before.
        busy: Actions that are being carried out, by kind and target.
    """

    at_s: float
    daa_enabled: bool
    slots: Sequence[SlotObservation]
    training: TrainingObservation | None = None
    unlinked: Sequence[str] = ()
    drift: Mapping[str, JsonValue] | None = None
    max_nodes: int = 0
    finished: Sequence[Finished] = ()
    busy: Sequence[tuple[Kind, str]] = ()


def cluster_level(observation: Observation) -> float | None:
    """Autonomy of the cluster: the median over healthy slots; 0 when off, None without a slot.

    Where no slot is healthy, over all: that is when a training has to be paused.
    """
    if not observation.daa_enabled:
        return 0.0
    levels = [slot.autonomy for slot in observation.slots if slot.state == "healthy"]
    levels = levels or [slot.autonomy for slot in observation.slots]
    return median(levels) if levels else None


def effective_level(observation: Observation, target: str) -> float | None:
    """Autonomy for an action on a target: a slot's own, or the cluster's."""
    if not observation.daa_enabled:
        return 0.0
    own = [slot.autonomy for slot in observation.slots if slot.slot == target]
    return own[0] if own else cluster_level(observation)


def known(losses: Sequence[float | None]) -> list[float]:
    """Losses that were measured and are finite."""
    return [loss for loss in losses if loss is not None and math.isfinite(loss)]
