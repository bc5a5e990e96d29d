"""Decisions derived again from the audit log alone.

The first entry of a look holds what the planner saw and remembered then, without what no decision of that
look depends on, so that its size follows the number of slots and not the length of a training. Whoever has
the log can ask the planner again and compare.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from pydantic import JsonValue, TypeAdapter

from flow_nexus_neural.coordination.autonomy.audit import INTENDED, INTENT
from flow_nexus_neural.coordination.autonomy.conditions import (
    ADAPT_AFTER_ROUNDS,
    DELIVERY_ROUNDS,
    STOP_AFTER_ROUNDS,
    conditions,
)
from flow_nexus_neural.coordination.autonomy.observation import (
    NODE_PER_HOUR,
    Kind,
    Observation,
    SlotObservation,
    TrainingObservation,
    known,
)
from flow_nexus_neural.coordination.autonomy.planner import Decision, Memory, Track, plan
from flow_nexus_neural.protocol.digest import canonical_json

PLANNER = 1
"""Number of the planner's rules; raised when equal observations may give other decisions than before."""
SEEN, PLACE = "seen", "place"
"""Fields of an entry: what the planner saw, in the first of a look; which decision of its look it is."""
LOSSES_KEPT = max(STOP_AFTER_ROUNDS, ADAPT_AFTER_ROUNDS) + 1

Entry = Mapping[str, JsonValue]
Remembered = list[tuple[Kind, str, Track]]


@dataclass(frozen=True, slots=True)
class Different:
    """The first entry that is not what the planner decides.

    Attributes:
        seq: Number of the entry.
        field: What of it differs; `decision` also where it decides nothing, or the entry is missing.
        expected: What the planner decides.
        found: What the entry says.
    """

    seq: JsonValue
    field: str
    expected: JsonValue
    found: JsonValue


@dataclass(frozen=True, slots=True)
class Replay:
    """What a replay came to.

    Attributes:
        again: Decisions that the planner makes again, up to the first that differs.
        without: Decisions that cannot be derived: an earlier version, which recorded less, or other rules
            made them, or the beginning of their look is no longer kept.
        different: The first that differs; None where none does.
    """

    again: int
    without: int
    different: Different | None


def seen(observation: Observation, memory: Memory) -> JsonValue:
    """What the decisions of one look depend on, as an entry holds it."""
    whole = _reduced(observation)
    named = [slot for slot in whole.slots if _matters(slot)]
    others = Counter((slot.state, slot.autonomy) for slot in whole.slots if not _matters(slot))
    told = _observations().dump_python(replace(whole, slots=named), exclude_defaults=True)
    remembered = _memories().dump_python(_needed(observation, memory), exclude_defaults=True)
    alike = [[state, autonomy, n] for (state, autonomy), n in others.items()]
    return _plain({"planner": PLANNER, "observation": told, "others": alike, "memory": remembered})


def replayed(entries: Iterable[Entry]) -> Replay:
    """Ask the planner again for every decision of a log whose chain is intact.

    Args:
        entries: Oldest first.
    """
    again = without = 0
    intended: dict[JsonValue, Entry] = {}
    pending: Iterator[Decision] | None = None
    last: JsonValue = None
    for entry in entries:
        last = entry.get("seq")
        if INTENT in entry:
            different = _of_outcome(entry, intended)
            if different is not None:
                return Replay(again, without, different)
            continue
        if entry.get("decision") == INTENDED:
            intended[last] = entry
        if PLACE not in entry or entry[PLACE] == 0:
            different = _left(last, pending)
            if different is None:
                pending, different = _decisions(entry)
            if different is not None:
                return Replay(again, without, different)
        if pending is None:
            without += 1
            continue
        different = _compared(entry, next(pending, None))
        if different is not None:
            return Replay(again, without, different)
        again += 1
    return Replay(again, without, _left(last, pending))


def _decisions(entry: Entry) -> tuple[Iterator[Decision] | None, Different | None]:
    """What the planner decides at the look that an entry begins; nothing where that cannot be told."""
    found = entry.get(SEEN)
    if not isinstance(found, dict) or found.get("planner") != PLANNER:
        return None, None
    try:
        observation = _observations().validate_python(found["observation"])
        alike = TypeAdapter(list[tuple[str, float, int]]).validate_python(found["others"])
        others = [
            _observations_of_slots().validate_python(
                {"slot": "", "state": state, "autonomy": autonomy}
            )
            for state, autonomy, n in alike
            for _ in range(n)
        ]
        remembered = _memories().validate_python(found["memory"])
    except (ValueError, KeyError) as failure:
        unread = f"cannot be read: {type(failure).__name__}"
        return None, Different(entry.get("seq"), SEEN, "an observation", unread)
    memory = {(kind, target): track for kind, target, track in remembered}
    whole = replace(observation, slots=[*observation.slots, *others])
    return iter(plan(whole, memory).decisions), None


def _compared(entry: Entry, decision: Decision | None) -> Different | None:
    """What of an entry is not what was decided."""
    seq, said = entry.get("seq"), entry.get("decision")
    if decision is None:
        return Different(seq, "decision", None, said)
    verdict = INTENDED if decision.verdict == "executed" else decision.verdict
    expected: dict[str, JsonValue] = {
        "rule": decision.kind,
        "target": decision.target,
        "decision": verdict,
        "reason": decision.reason,
        "level_required": decision.level_required,
        "level_effective": decision.level_effective,
        "change": {**decision.change},
        "evidence": {**decision.evidence},
    }
    for field, value in expected.items():
        if canonical_json(value) != canonical_json(entry.get(field)):
            return Different(seq, field, value, entry.get(field))
    return None


def _of_outcome(entry: Entry, intentions: Mapping[JsonValue, Entry]) -> Different | None:
    """An outcome is of the action that was intended; that entry may be no longer kept."""
    number = entry[INTENT]
    if not isinstance(number, int):
        return Different(entry.get("seq"), INTENT, "the number of an entry", number)
    intended = intentions.get(number)
    if intended is None:
        return None
    for field in ("rule", "target", "change", "evidence"):
        if entry.get(field) != intended.get(field):
            return Different(entry.get("seq"), field, intended.get(field), entry.get(field))
    return None


def _left(seq: JsonValue, pending: Iterator[Decision] | None) -> Different | None:
    """Decisions of a look that stand nowhere: all of one look are written at once."""
    missing = next(pending, None) if pending is not None else None
    if missing is None:
        return None
    told = f"{missing.verdict} {missing.kind} of {missing.target} before or at its end"
    return Different(seq, "decision", told, None)


def _matters(slot: SlotObservation) -> bool:
    """Whether more of a slot than its state and autonomy can be what something is decided on."""
    lost = slot.state in ("failed", "failed_permanently", "quarantined")
    caught = slot.accused is not None or slot.digest_matches is False
    return lost or caught or slot.failed_since_s is not None


def _reduced(observation: Observation) -> Observation:
    """Without the early rounds of a training and without links and rows of nodes that are not dead."""
    dead = {slot.slot for slot in observation.slots if slot.failed_since_s is not None}
    training = observation.training
    return replace(
        observation,
        unlinked=[slot for slot in observation.unlinked if slot in dead],
        training=None if training is None else _late_rounds(training, dead),
    )


def _late_rounds(training: TrainingObservation, dead: set[str]) -> TrainingObservation:
    """All that is asked of the early rounds is the least loss, and how many came since the last change."""
    losses, adapted_at = training.select_losses, training.adapted_at
    measured = known(losses)
    early, late = measured[:-LOSSES_KEPT], measured[-LOSSES_KEPT:]
    kept: list[float | None] = [*([min(early)] if early else []), *late]
    if losses and not known(losses[-1:]):
        kept.append(losses[-1])
    return replace(
        training,
        select_losses=kept,
        adapted_at=None if adapted_at is None else adapted_at - (len(losses) - len(kept)),
        dead_owners=[slot for slot in training.dead_owners if slot in dead],
        delivered=training.delivered[-DELIVERY_ROUNDS:],
    )


def _needed(observation: Observation, memory: Memory) -> Remembered:
    """Of what is remembered: that of present conditions, and when the same was done for other targets."""
    restarts = {
        target: track.executed_s
        for (kind, target), track in memory.items()
        if kind == "restart_node"
    }
    present = {(c.kind, c.target) for c in conditions(observation, restarts)}
    kinds = {kind for kind, _ in present}
    found: Remembered = []
    for (kind, target), track in memory.items():
        executed_s = track.executed_s[-NODE_PER_HOUR:]  # more count as many
        if (kind, target) in present:
            found.append((kind, target, replace(track, executed_s=executed_s)))
        elif executed_s and (kind in kinds or kind == "restart_node"):
            found.append((kind, target, Track(executed_s=executed_s)))
    return found


def _plain(value: object) -> JsonValue:
    """As JSON; a loss that is not finite by its name, since JSON has no number for it."""
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value  # type: ignore[return-value]  # numbers, words and null


@cache
def _observations() -> TypeAdapter[Observation]:
    return TypeAdapter(Observation)


@cache
def _observations_of_slots() -> TypeAdapter[SlotObservation]:
    return TypeAdapter(SlotObservation)


@cache
def _memories() -> TypeAdapter[Remembered]:
    return TypeAdapter(Remembered)
