"""A log of decisions is derived again from itself, and a planner with other rules is noticed."""

import json
import math
from dataclasses import replace

import pytest

from flow_nexus_neural.coordination.autonomy import conditions, observation, planner
from flow_nexus_neural.coordination.autonomy.audit import INTENDED, sealed
from flow_nexus_neural.coordination.autonomy.observation import (
    RULES,
    Finished,
    Observation,
    SlotObservation,
)
from flow_nexus_neural.coordination.autonomy.planner import Track, plan
from flow_nexus_neural.coordination.autonomy.replay import PLACE, PLANNER, SEEN, replayed, seen
from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.protocol.digest import canonical_json, json_digest
from tests.unit.coordination.autonomy.seen import (
    NOW_S,
    RESTARTED_5_TIMES,
    SITUATIONS,
    dead,
    healthy,
    observe,
    training,
)


class Log:
    """The decisions of looks, as the engine seals them."""

    def __init__(self):
        self.entries, self.memory = [], {}

    def look(self, observed, memory=None):
        memory = self.memory if memory is None else memory
        planned = plan(observed, memory)
        self.memory = planned.memory
        for place, decision in enumerate(planned.decisions):
            verdict = INTENDED if decision.verdict == "executed" else decision.verdict
            fields = {
                "rule": decision.kind,
                "target": decision.target,
                "evidence": dict(decision.evidence),
                "change": dict(decision.change),
                "level_required": decision.level_required,
                "level_effective": decision.level_effective,
                "reason": decision.reason,
                PLACE: place,
                SEEN: None if place else seen(observed, memory),
            }
            self.add({**fields, "decision": verdict})
        return planned

    def add(self, fields):
        last = self.entries[-1]["sha"] if self.entries else GENESIS
        self.entries.append(sealed(last, {"seq": len(self.entries), **fields}))


def crowded(level):
    """More than one thing to do, after much that is remembered, in a training of many rounds."""
    losses = [2.0 - 0.001 * n for n in range(300)] + [math.inf, None] + [1.701] * 12
    slots = [dead(0, autonomy=level), dead(1, since_s=900.0, autonomy=level)]
    slots += [healthy(n, level) for n in range(2, 9)]
    slots += [SlotObservation("worker-9", "quarantined", level), healthy(10, 0.35, accused="x")]
    running = training(select_losses=losses, adapted_at=305, rate_before=0.2, delivered=(2,) * 40)
    running = replace(running, clients=(4, 8), dead_owners=("worker-1", "worker-5"))
    return observe(*slots, training=running, unlinked=("worker-0", "worker-1", "worker-4"))


def busy_memory():
    memory = {("restart_node", f"worker-{n}"): Track(executed_s=(NOW_S - 90.0,)) for n in range(3)}
    memory["resync_node", "worker-4"] = Track(executed_s=(NOW_S - 10,), told=("recommended", 990.0))
    memory["adapt_learning_rate", "cluster"] = Track(
        executed_s=tuple(NOW_S - 3000 + n for n in range(900)), failures=1
    )
    return memory


def whole_log():
    """Every action at every side of its level, with a past and without."""
    log = Log()
    for kind, situation in SITUATIONS.items():
        for level in (RULES[kind].level, round(RULES[kind].level - 0.03, 2)):
            ready = {
                (kind, target): Track(since_s=NOW_S - 100) for target in ("worker-0", "cluster")
            }
            if kind == "give_up_node":
                ready["restart_node", "worker-0"] = Track(executed_s=RESTARTED_5_TIMES)
            log.look(situation(level), ready)
    for level in (0.1, 0.45, 0.8, 1.0):
        log.look(crowded(level), busy_memory())
        log.look(crowded(level), {})
    failed = tuple(Finished("resync_node", "worker-0", ok=False, at_s=NOW_S) for _ in range(2))
    since = {("resync_node", "worker-0"): Track(since_s=1.0, executed_s=(NOW_S - 130.0,))}
    log.look(observe(healthy(0, digest_matches=False), finished=failed), since)
    after_six = Track(since_s=1.0, executed_s=(NOW_S - 601.0,), failures=6)
    log.look(observe(healthy(0, digest_matches=False)), {("resync_node", "worker-0"): after_six})
    flat = training(select_losses=[1.0] + [0.9995] * 10, patience_chosen=True)
    log.look(observe(healthy(0, 1.0), training=flat), {})
    for age_s in (
        30.5,
        59.0,
    ):  # the pause between two executions, and how long a condition has to last
        since = {("resync_node", "worker-0"): Track(since_s=1.0, executed_s=(NOW_S - age_s,))}
        log.look(observe(healthy(0, digest_matches=False)), since)
    log.look(
        observe(healthy(0, digest_matches=False)),
        {("resync_node", "worker-0"): Track(since_s=NOW_S - 1.0)},
    )
    spent = {
        ("restart_node", "worker-9"): Track(
            executed_s=tuple(NOW_S - 60.0 * n for n in range(12, 0, -1))
        )
    }
    log.look(observe(dead(0), healthy(1)), spent)
    return log.entries


LOG = whole_log()


def stored(entries=None):
    """As read back from the journal."""
    return json.loads(json.dumps(LOG if entries is None else entries))


def test_every_decision_of_a_stored_log_is_derived_again():
    assert {entry["rule"] for entry in LOG} == set(RULES)
    assert {entry["decision"] for entry in LOG} == {INTENDED, "recommended", "suppressed"}
    found = replayed(stored())
    assert (found.again, found.without, found.different) == (len(LOG), 0, None)


@pytest.mark.parametrize("level", [0.0, 0.1, 0.45, 0.8, 1.0])
def test_what_is_left_out_of_an_observation_changes_no_decision(level):
    log = Log()
    for memory in ({}, busy_memory()):
        for situation in (*SITUATIONS.values(), crowded):
            log.look(situation(level), memory)
    assert replayed(stored(log.entries)).different is None


FIELDS = {
    "rule": "resync_node",
    "target": "worker-7",
    "decision": "suppressed",
    "reason": "so it is",
    "change": {"learning_rate": 0.5},
    "evidence": {"gain": 1.0},
    "level_required": 0.25,
    "level_effective": 0.99,
}


@pytest.mark.parametrize("field", FIELDS)
def test_the_first_entry_that_says_something_else_is_named(field):
    entries = stored()
    for entry in entries[20:22]:
        entry[field] = FIELDS[field]
    found = replayed(entries)
    assert (found.different.seq, found.different.field) == (20, field)
    assert (found.different.expected, found.different.found) == (LOG[20][field], FIELDS[field])
    assert found.again == 20


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (conditions, "MIN_GAIN", 1e-4),
        (conditions, "STOP_AFTER_ROUNDS", 11),
        (conditions, "ADAPT_AFTER_ROUNDS", 6),
        (conditions, "DIVERGED_FACTOR", 3.3),
        (conditions, "DEAD_FOR_S", 120.0),
        (conditions, "MAX_RESTARTS", 6),
        (conditions, "RESTARTS_WITHIN_S", 60.0),
        (conditions, "FEW_DELIVER", 0.4),
        (conditions, "PLATEAU_FACTOR", 0.55),
        (conditions, "restart_pause_s", lambda _restarts: 20.0),
        (planner, "MAX_COOLDOWN_S", 700.0),
    ],
)
def test_a_planner_with_another_threshold_is_noticed(monkeypatch, module, name, value):
    monkeypatch.setattr(module, name, value)
    assert replayed(stored()).different is not None


@pytest.mark.parametrize("kind", RULES)
def test_a_planner_with_another_level_is_noticed(monkeypatch, kind):
    rules = {**RULES, kind: replace(RULES[kind], level=RULES[kind].level + 0.05)}
    for module in (conditions, observation, planner):
        if hasattr(module, "RULES"):
            monkeypatch.setattr(module, "RULES", rules)
    assert replayed(stored()).different.field in ("decision", "level_required")


@pytest.mark.parametrize(
    "other", [{"cooldown_s": 30.6}, {"cooldown_s": 600.0}, {"holds_s": 1.5}], ids=str
)
def test_a_planner_with_another_pause_is_noticed(monkeypatch, other):
    rules = {**RULES, "resync_node": replace(RULES["resync_node"], **other)}
    monkeypatch.setattr(planner, "RULES", rules)
    assert replayed(stored()).different is not None


def test_a_planner_with_another_budget_is_noticed(monkeypatch):
    rules = {**RULES, "restart_node": replace(RULES["restart_node"], per_hour=13)}
    monkeypatch.setattr(planner, "RULES", rules)
    assert replayed(stored()).different.field == "decision"


def test_decisions_of_an_earlier_version_are_counted_and_not_taken_for_wrong():
    old = [
        {name: part for name, part in entry.items() if name not in (SEEN, PLACE)}
        for entry in stored()
    ]
    found = replayed([*old[:5], *stored()])
    assert (found.again, found.without, found.different) == (len(LOG), 5, None)
    others = stored()
    for entry in others:
        if entry[SEEN] is not None:
            entry[SEEN]["planner"] = PLANNER + 1
    found = replayed(others)
    assert (found.again, found.without, found.different) == (0, len(LOG), None)


def test_a_look_whose_beginning_is_not_kept_is_passed_over():
    at = next(n for n, entry in enumerate(LOG) if entry[PLACE] == 1)
    rest = sum(1 for entry in LOG[at:] if entry[SEEN] is None and entry["seq"] - at < 8)
    found = replayed(stored()[at:])
    assert found.different is None
    assert 1 <= found.without <= rest
    assert found.again == len(LOG) - at - found.without


def test_a_decision_that_is_missing_or_too_many_is_noticed():
    last = max(n for n, entry in enumerate(LOG) if entry[PLACE] == 1)
    entries = stored()
    assert replayed(entries[:last]).different.field == "decision"
    extra = {**entries[-1], PLACE: 1, SEEN: None, "seq": len(entries)}
    found = replayed([*entries, extra]).different
    assert (found.seq, found.field, found.expected) == (len(entries), "decision", None)


def test_an_outcome_is_of_the_action_that_was_intended():
    intended = next(entry for entry in LOG if entry["decision"] == INTENDED)
    at = intended["seq"] + 1
    while at < len(LOG) and LOG[at][PLACE]:
        at += 1
    outcome = {**intended, "seq": 999, "decision": "executed", "intent": intended["seq"]}
    entries = [*stored()[:at], outcome, *stored()[at:]]
    assert replayed(entries).different is None
    outcome["target"] = "worker-8"
    assert (replayed(entries).different.seq, replayed(entries).different.field) == (999, "target")


@pytest.mark.parametrize("intent", [[1], None, "1"])
def test_an_outcome_of_no_numbered_intention_is_named_and_ends_no_check(intent):
    found = replayed([{**stored()[0], "intent": intent}]).different
    assert (found.seq, found.field, found.found) == (0, "intent", intent)


@pytest.mark.parametrize("broken", [{"planner": PLANNER}, {"planner": PLANNER, "observation": 3}])
def test_an_observation_that_cannot_be_read_is_named(broken):
    entries = stored()
    entries[0][SEEN] = broken
    assert (replayed(entries).different.seq, replayed(entries).different.field) == (0, SEEN)


def test_what_is_recorded_of_a_look_does_not_grow_with_the_rounds_of_a_training():
    def nbytes(rounds):
        losses = [1.0 + 1 / (n + 1) for n in range(rounds)]
        running = training(select_losses=losses, delivered=(2,) * rounds, clients=(4, 8))
        return len(canonical_json(seen(observe(healthy(0), training=running), busy_memory())))

    assert nbytes(100_000) <= nbytes(100) + 40
    assert nbytes(100) < 1500


def test_what_is_recorded_of_the_largest_cluster_in_its_worst_hour_is_bounded():
    slots = [dead(n, since_s=900.123456789 + n) for n in range(256)]
    names = tuple(slot.slot for slot in slots)
    memory = {
        (kind, name): Track(990.123456789, ("suppressed", 991.123456789), (), 3)
        for name in names
        for kind in ("restart_node", "quarantine_node")
    }
    worst = observe(*slots, unlinked=names, training=training(dead_owners=names))
    assert len(canonical_json(seen(worst, memory))) < 256 * 300
    well = Observation(5.0, daa_enabled=True, slots=[healthy(n) for n in range(255)] + [dead(255)])
    assert len(canonical_json(seen(well, {}))) < 400


DECIDED = {1: "a0544cabbc7d1ea5d1dd6a0ec801da8a555eea7702501cf3cba252203481787e"}
"""By number of the planner: digest of what it decides in `LOG`."""


def test_other_decisions_need_another_number_of_the_planner():
    """Logs are verified by later versions: a planner that decides otherwise must not call them wrong."""
    decided = [{name: entry[name] for name in FIELDS} for entry in LOG]
    assert json_digest(decided) == DECIDED[PLANNER], "raise PLANNER, and add the digest"
