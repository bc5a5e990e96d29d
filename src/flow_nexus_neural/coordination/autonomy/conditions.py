"""What there is to do about a cluster now, whoever may do it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.observation import (
    CLUSTER,
    RULES,
    Kind,
    Observation,
    Scope,
    SlotObservation,
    TrainingObservation,
    known,
)

MIN_GAIN = 1e-3
STOP_AFTER_ROUNDS = 10
ADAPT_AFTER_ROUNDS = 5
DEAD_FOR_S = 60.0
DIVERGED_FACTOR = 3.0
MAX_DIVERGED = 2
"""Times that a training goes back to its best round; when it diverges again it ends there."""
PLATEAU_FACTOR, DIVERGENCE_FACTOR = 0.5, 0.3
MIN_LEARNING_RATE = 1e-6
MAX_RESTARTS = 5
RESTARTS_WITHIN_S = 600.0
FEW_DELIVER = 0.8
DELIVERY_ROUNDS = 5
LONGEST_PAUSE_S = 60.0

Change = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Condition:
    """Something to do, and the evidence for it.

    Attributes:
        target: Name of a slot, or `cluster`.
        change: What to do in detail.
        not_before_s: When it is to be done at the earliest.
        forbidden: Why it must not be done at any level, though it is advisable.
    """

    kind: Kind
    target: str
    evidence: Mapping[str, JsonValue]
    change: Change = field(default_factory=dict)
    not_before_s: float = -math.inf
    forbidden: str | None = None

    @property
    def scope(self) -> Scope:
        """Whether it concerns one slot."""
        return RULES[self.kind].scope


def restart_pause_s(restarts: int) -> float:
    """Pause before the next restart of a slot that was restarted so often in the last ten minutes."""
    return min(2.0**restarts, LONGEST_PAUSE_S)


def conditions(
    observation: Observation, restarts: Mapping[str, Sequence[float]]
) -> Iterator[Condition]:
    """Everything there is to do, in the order of slots, what concerns the cluster last.

    Args:
        observation: The present measurements.
        restarts: By slot: when autonomy restarted it.
    """
    for slot in observation.slots:
        recent = [
            at_s
            for at_s in restarts.get(slot.slot, ())
            if observation.at_s - at_s < RESTARTS_WITHIN_S
        ]
        yield from _of_slot(observation, slot, recent)
    yield from _of_members(observation)
    if observation.training is not None:
        yield from _of_training(observation.training)
    elif observation.drift is not None:
        yield Condition("learn_from_feedback", CLUSTER, dict(observation.drift))


def gain(losses: Sequence[float | None], rounds: int) -> float | None:
    """Improvement of the best loss in the last `rounds` measurements, as a share of the best one before them.

    A share, as in `early_stop`, since the losses of a regression may have any size. None if there are no
    earlier measurements.
    """
    measured = known(losses)
    if len(measured) <= rounds:
        return None
    before = min(measured[:-rounds])
    return (before - min(measured[-rounds:])) / abs(before) if before else 0.0


def _of_slot(
    observation: Observation, slot: SlotObservation, restarts: Sequence[float]
) -> Iterator[Condition]:
    if slot.state == "failed" and not slot.returning:
        since_s = slot.failed_since_s if slot.failed_since_s is not None else observation.at_s
        evidence: dict[str, JsonValue] = {"failed_for_s": observation.at_s - since_s}
        evidence["restarts"] = len(restarts)
        if len(restarts) >= MAX_RESTARTS:
            yield Condition("give_up_node", slot.slot, evidence)
        else:
            due_s = max([since_s, *restarts]) + restart_pause_s(len(restarts))
            yield Condition("restart_node", slot.slot, evidence, not_before_s=due_s)
    if slot.accused is not None and slot.state in ("healthy", "suspect", "failed"):
        yield Condition("quarantine_node", slot.slot, {"proof": slot.accused})
    elif slot.digest_matches is False and slot.state == "healthy":
        yield Condition("resync_node", slot.slot, {"digest_matches": False})


def _of_members(observation: Observation) -> Iterator[Condition]:
    """What to do about slots that have been gone for long."""
    training = observation.training
    dead = [
        slot.slot
        for slot in observation.slots
        if slot.failed_since_s is not None and observation.at_s - slot.failed_since_s > DEAD_FOR_S
    ]
    owners = [] if training is None else [s for s in dead if s in training.dead_owners]
    unlinked = [slot for slot in observation.unlinked if slot in dead]
    if owners or unlinked:
        yield Condition(
            "rebalance_shards",
            CLUSTER,
            {"dead_for_s": DEAD_FOR_S, "owners": [*owners], "linked": [*unlinked]},
        )
    for_good = [s for s in observation.slots if s.state in ("failed_permanently", "quarantined")]
    lost = [slot.slot for slot in for_good if not slot.has_spare]
    if lost:
        full = len(observation.slots) >= observation.max_nodes
        yield Condition(
            "deploy_spare",
            CLUSTER,
            {"lost": [*lost]},
            {"like": lost[0]},
            forbidden=f"the cluster has the {observation.max_nodes} nodes it may have"
            if full
            else None,
        )


def _of_training(training: TrainingObservation) -> Iterator[Condition]:
    evidence: dict[str, JsonValue] = {
        "healthy": training.healthy_workers,
        "needed": training.min_workers,
    }
    short = training.healthy_workers < training.min_workers
    if short and not training.paused and training.possible_workers >= training.min_workers:
        yield Condition("pause_training", CLUSTER, evidence)
    if training.paused and not short:
        yield Condition("resume_training", CLUSTER, evidence)
    if training.stopping or short:
        return
    yield from _of_losses(training)
    yield from _of_clients(training)


def _of_losses(training: TrainingObservation) -> Iterator[Condition]:
    losses = training.select_losses
    measured = known(losses)
    diverged = _divergence(losses, training.adapted_at)
    if diverged is not None and training.diverged >= MAX_DIVERGED:
        yield Condition("early_stop", CLUSTER, {**diverged, "times": training.diverged + 1})
        return
    if diverged is not None:
        yield _adapted(training, diverged, DIVERGENCE_FACTOR, back_to_best=True)
        return
    stop_gain = gain(losses, STOP_AFTER_ROUNDS)
    if stop_gain is not None and stop_gain < MIN_GAIN:
        chosen = "the caller chose the patience of this training"
        yield Condition(
            "early_stop",
            CLUSTER,
            {"gain": stop_gain, "rounds": STOP_AFTER_ROUNDS},
            forbidden=chosen if training.patience_chosen else None,
        )
        if not training.patience_chosen:
            return
    since = len(measured) if training.adapted_at is None else len(losses) - training.adapted_at
    adapt_gain = gain(losses, ADAPT_AFTER_ROUNDS)
    if adapt_gain is None or adapt_gain >= MIN_GAIN or since < ADAPT_AFTER_ROUNDS:
        return
    found: dict[str, JsonValue] = {"gain": adapt_gain, "rounds": ADAPT_AFTER_ROUNDS}
    if training.rate_before is not None and adapt_gain < -MIN_GAIN:
        # The change made it worse: it is taken back.
        yield Condition(
            "restore_learning_rate", CLUSTER, found, {"learning_rate": training.rate_before}
        )
    elif training.learning_rate > MIN_LEARNING_RATE:
        yield _adapted(training, found, PLATEAU_FACTOR, back_to_best=False)


def _divergence(
    losses: Sequence[float | None], adapted_at: int | None
) -> dict[str, JsonValue] | None:
    """Evidence that the latest round diverged, unless autonomy has acted on it already."""
    if not losses or (adapted_at is not None and len(losses) <= adapted_at):
        return None
    last, measured = losses[-1], known(losses[:-1])
    if last is None or not measured:
        return None
    if math.isfinite(last) and last <= DIVERGED_FACTOR * min(measured):
        return None
    return {"loss": last if math.isfinite(last) else None, "best": min(measured)}


def _adapted(
    training: TrainingObservation,
    evidence: Mapping[str, JsonValue],
    factor: float,
    *,
    back_to_best: bool,
) -> Condition:
    rate = max(training.learning_rate * factor, MIN_LEARNING_RATE)
    change: dict[str, JsonValue] = {"learning_rate": rate, "back_to_best": back_to_best}
    return Condition("adapt_learning_rate", CLUSTER, {**evidence, "factor": factor}, change)


def _of_clients(training: TrainingObservation) -> Iterator[Condition]:
    """Clients that keep failing to deliver are made up for, within what may be asked."""
    if training.clients is None or len(training.delivered) < DELIVERY_ROUNDS:
        return
    asked, most = training.clients
    recent = training.delivered[-DELIVERY_ROUNDS:]
    mean = sum(recent) / DELIVERY_ROUNDS
    if mean >= FEW_DELIVER * asked or asked >= most:
        return
    more = min(most, asked + max(1, round(asked - mean)))
    yield Condition(
        "raise_clients",
        CLUSTER,
        {"asked": asked, "delivered_mean": mean, "rounds": DELIVERY_ROUNDS},
        {"clients_per_round": more},
    )
