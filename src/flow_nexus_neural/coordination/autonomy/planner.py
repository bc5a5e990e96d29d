"""Decides what is done about a cluster, from measurements alone.

A pure function: the same stream of observations gives the same stream of decisions, whenever it is replayed.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.conditions import (
    Change,
    Condition,
    conditions,
)
from flow_nexus_neural.coordination.autonomy.observation import (
    RULES,
    Kind,
    Observation,
    Rule,
    Scope,
    effective_level,
)

HOUR_S = 3600.0
LOOK_EVERY_S = 5.0
"""How often a cluster with failed slots is looked at although nothing changes: some rules wait for time."""
TOLD_AGAIN_S = 60.0
MAX_COOLDOWN_S = 600.0

Verdict = Literal["executed", "recommended", "suppressed"]
Key = tuple[Kind, str]


@dataclass(frozen=True, slots=True)
class Decision:
    """What is decided about one condition, and the evidence.

    Attributes:
        target: Name of a slot, or `cluster`.
        level_effective: As `effective_level` has it.
        reason: Why it is suppressed; None otherwise.
        change: What to do in detail.
    """

    kind: Kind
    scope: Scope
    target: str
    level_required: float
    level_effective: float | None
    verdict: Verdict
    reason: str | None = None
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)
    change: Change = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Track:
    """What is remembered of one kind of action for one target.

    Attributes:
        since_s: Since when its condition is present; None where it is not.
        told: What was last decided of it without carrying it out, and when.
        executed_s: When it was carried out, in the last hour.
        failures: How often in a row it failed.
    """

    since_s: float | None = None
    told: tuple[Verdict, float] | None = None
    executed_s: tuple[float, ...] = ()
    failures: int = 0


Memory = Mapping[Key, Track]
"""What the planner remembers, by kind and target."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions, at most one of them to be carried out; the memory for the next call; when to look again.

    Attributes:
        due_s: A time at which something will be due that no change tells of; None where nothing will.
        restarting: Slots that will be restarted, now or after a pause.
    """

    decisions: Sequence[Decision]
    memory: Memory
    due_s: float | None
    restarting: frozenset[str]


def plan(observation: Observation, memory: Memory) -> Plan:
    """Decide what is done about the present conditions.

    One action is begun at a time: the first in order that its level, its pauses and its budget allow. While a
    slow one is being carried out no other slow one is begun, and nothing that concerns the same slot.
    What is only recommended, or suppressed, is told when it appears, and after it has been away again only
    when a minute has passed, so that a flapping condition does not fill the log.

    Args:
        observation: The present measurements.
        memory: The memory returned by the previous call; empty at first.
    """
    at_s = observation.at_s
    tracks = dict(_finished(observation, memory))
    restarts = {
        t: track.executed_s for (kind, t), track in tracks.items() if kind == "restart_node"
    }
    present = {(c.kind, c.target): c for c in conditions(observation, restarts)}
    decisions: list[Decision] = []
    dues: list[float] = []
    restarting = {target for kind, target in observation.busy if kind == "restart_node"}
    acting = False
    for key, condition in present.items():
        track = tracks.get(key, Track())
        track = replace(track, since_s=at_s if track.since_s is None else track.since_s)
        verdict, reason, due_s = _judged(observation, condition, track, tracks)
        if verdict == "executed" and condition.kind == "restart_node":
            restarting.add(condition.target)
        if verdict == "executed" and _is_in_the_way(observation.busy, condition):
            pass  # the end of what is being done is a change, after which this is looked at again
        elif verdict == "executed" and due_s > at_s:
            dues.append(due_s)
        elif verdict == "executed" and not acting:
            acting = True
            track = replace(track, executed_s=(*track.executed_s, at_s), told=None)
            decisions.append(_decision(observation, condition, verdict, None))
        elif verdict == "executed":
            dues.append(at_s)
        elif _is_news(track, verdict, at_s, fresh=track.since_s == at_s):
            track = replace(track, told=(verdict, at_s))
            decisions.append(_decision(observation, condition, verdict, reason))
        tracks[key] = track
    later = [at_s + LOOK_EVERY_S] if _waits_for_time(observation) else []
    return Plan(
        decisions,
        _pruned(tracks, present.keys(), at_s),
        min([*dues, *later], default=None),
        frozenset(restarting),
    )


def not_carried_out(memory: Memory, decision: Decision) -> Memory:
    """The memory as if an action had not been decided on, for one that was not even begun."""
    key = (decision.kind, decision.target)
    track = memory[key]
    return {**memory, key: replace(track, executed_s=track.executed_s[:-1])}


def _is_in_the_way(busy: Collection[Key], condition: Condition) -> bool:
    """Whether something that is being carried out keeps this from being begun."""
    if (condition.kind, condition.target) in busy:
        return True
    same_slot = condition.scope == "node" and condition.target in {target for _, target in busy}
    return same_slot or (bool(busy) and RULES[condition.kind].slow)


def _waits_for_time(observation: Observation) -> bool:
    return observation.daa_enabled and any(
        slot.state in ("failed", "failed_permanently", "quarantined") for slot in observation.slots
    )


def _finished(observation: Observation, memory: Memory) -> Memory:
    """The memory with what became of actions."""
    tracks = dict(memory)
    for done in observation.finished:
        key = (done.kind, done.target)
        track = tracks.get(key, Track())
        tracks[key] = replace(track, failures=0 if done.ok else track.failures + 1)
    return tracks


def _judged(
    observation: Observation, condition: Condition, track: Track, tracks: Memory
) -> tuple[Verdict, str | None, float]:
    """What is to become of a condition: the verdict, why it is suppressed, and from when on it counts."""
    rule = RULES[condition.kind]
    level = effective_level(observation, condition.target)
    if level is None or level < rule.level:
        return "recommended", None, -math.inf
    if condition.forbidden is not None:
        return "suppressed", condition.forbidden, -math.inf
    if rule.per_hour is not None and _in_last_hour(condition.kind, tracks, observation.at_s) >= (
        rule.per_hour
    ):
        return "suppressed", f"budget: {rule.per_hour} in an hour", -math.inf
    since_s = track.since_s if track.since_s is not None else observation.at_s
    return "executed", None, max(condition.not_before_s, since_s + rule.holds_s, _cool(rule, track))


def _cool(rule: Rule, track: Track) -> float:
    """When the pause after the last execution is over."""
    if not track.executed_s:
        return -math.inf
    least_s = rule.cooldown_s if not track.failures else max(rule.cooldown_s, 1.0)
    return track.executed_s[-1] + min(least_s * 2.0**track.failures, MAX_COOLDOWN_S)


def _in_last_hour(kind: Kind, tracks: Memory, at_s: float) -> int:
    return sum(
        sum(at_s - executed_s < HOUR_S for executed_s in track.executed_s)
        for (of, _), track in tracks.items()
        if of == kind
    )


def _is_news(track: Track, verdict: Verdict, at_s: float, *, fresh: bool) -> bool:
    if track.told is None:
        return True
    told, told_s = track.told
    return told != verdict or (fresh and at_s - told_s >= TOLD_AGAIN_S)


def _decision(
    observation: Observation, condition: Condition, verdict: Verdict, reason: str | None
) -> Decision:
    return Decision(
        kind=condition.kind,
        scope=condition.scope,
        target=condition.target,
        level_required=RULES[condition.kind].level,
        level_effective=effective_level(observation, condition.target),
        verdict=verdict,
        reason=reason,
        evidence=dict(condition.evidence),
        change=dict(condition.change),
    )


def _pruned(tracks: Memory, present: Collection[Key], at_s: float) -> Memory:
    """Without conditions that are gone, once nothing that is remembered of them matters any more."""
    kept: dict[Key, Track] = {}
    for key, track in tracks.items():
        executed_s = tuple(s for s in track.executed_s if at_s - s < HOUR_S)
        here = key in present
        told = track.told
        if not here and told is not None and at_s - told[1] >= TOLD_AGAIN_S:
            told = None
        if here or executed_s or told is not None:
            since_s = track.since_s if here else None
            kept[key] = replace(track, since_s=since_s, told=told, executed_s=executed_s)
    return kept
