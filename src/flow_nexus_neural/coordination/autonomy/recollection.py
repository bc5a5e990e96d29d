"""What the planner remembers after a restart of the server, from what it had decided until then.

Budgets, pauses between executions and failures in a row outlive the server, so that nothing is done more
often because the server ends in between. Since when a condition is present does not: it has to be seen again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.audit import INTENDED, INTENT, AuditEntry
from flow_nexus_neural.coordination.autonomy.observation import RULES, Kind
from flow_nexus_neural.coordination.autonomy.planner import HOUR_S, Key, Memory, Track, Verdict

Entry = Mapping[str, JsonValue]


def recollect(entries: Iterable[Entry], now: str, now_s: float) -> Memory:
    """The planner's memory as the audit log has it; entries that cannot be understood are passed over.

    An action of which no outcome is known counts as one that failed.

    Args:
        entries: Oldest first.
        now: ISO 8601.
        now_s: The same moment on the clock of observations. What is logged after it counts as of now.
    """
    tracks: dict[Key, Track] = {}
    known = [*entries]
    for entry in known:
        key, age_s = _key(entry), _age_s(entry, now)
        if key is not None and age_s is not None and age_s < HOUR_S:
            tracks[key] = _after(tracks.get(key, Track()), entry, now_s - age_s)
    for entry in unresolved(known):
        key = _key(entry)
        if key is not None and key in tracks:
            tracks[key] = replace(tracks[key], failures=tracks[key].failures + 1)
    return tracks


def unresolved(entries: Iterable[Entry]) -> list[AuditEntry]:
    """Intentions of which no outcome is known, because the server ended, oldest first."""
    open_: dict[JsonValue, AuditEntry] = {}
    for entry in entries:
        if entry.get("decision") == INTENDED and _key(entry) is not None:
            open_[entry.get("seq")] = dict(entry)
        elif INTENT in entry:
            open_.pop(entry[INTENT], None)
    return list(open_.values())


def corrected(memory: Memory, entry: Entry) -> Memory:
    """The same memory where an action without an outcome turned out to have had its effect."""
    key = _key(entry)
    if key is None or key not in memory:
        return memory
    return {**memory, key: replace(memory[key], failures=0)}


def joined(ledger: Iterable[Entry]) -> dict[str, int]:
    """The newest incarnation of each slot that joined. One that was begun only has not."""
    found: dict[str, int] = {}
    for line in ledger:
        number = line.get("incarnation")
        member = line.get("kind") == "membership" and line.get("event") == "joined"
        if member and isinstance(number, int):
            slot = str(line.get("slot"))
            found[slot] = max(number, found.get(slot, number))
    return found


def accusations(entries: Iterable[Entry], ledger: Sequence[Entry]) -> dict[str, str]:
    """The proofs against slots that autonomy knew of, by slot, where no later incarnation joined.

    Args:
        entries: Of the audit log.
        ledger: Of the same cluster.
    """
    joined: dict[str, str] = {}
    for line in ledger:
        if line.get("kind") == "membership" and line.get("event") == "joined":
            joined[str(line.get("slot"))] = str(line.get("at"))
    found = {}
    for entry in entries:
        slot, evidence = str(entry.get("target")), entry.get("evidence")
        if entry.get("rule") != "quarantine_node" or not isinstance(evidence, dict):
            continue
        proof = evidence.get("proof")
        # Both are written by one clock in one form, in which later is greater.
        if isinstance(proof, str) and str(entry.get("ts")) >= joined.get(slot, ""):
            found[slot] = proof
    return found


def _after(track: Track, entry: Entry, at_s: float) -> Track:
    decision = entry.get("decision")
    if decision == INTENDED:
        return replace(track, executed_s=(*track.executed_s, at_s), told=None)
    if decision == "executed":
        began = () if INTENT in entry else (at_s,)  # an earlier version told of the outcome alone
        failures = 0 if entry.get("ok") is True else track.failures + 1
        return replace(track, executed_s=(*track.executed_s, *began), told=None, failures=failures)
    if INTENT in entry:  # it was not begun
        return replace(track, executed_s=track.executed_s[:-1])
    verdict: Verdict | None = next(
        (v for v in ("recommended", "suppressed") if v == decision), None
    )
    return track if verdict is None else replace(track, told=(verdict, at_s))


def _key(entry: Entry) -> Key | None:
    rule, target = entry.get("rule"), entry.get("target")
    kind: Kind | None = next((kind for kind in RULES if kind == rule), None)
    return (kind, target) if kind is not None and isinstance(target, str) else None


def _age_s(entry: Entry, now: str) -> float | None:
    try:
        age = datetime.fromisoformat(now) - datetime.fromisoformat(str(entry.get("ts")))
    except (ValueError, TypeError):
        return None
    return max(age.total_seconds(), 0.0)
