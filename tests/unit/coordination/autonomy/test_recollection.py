"""What a planner remembers after a restart is what it would remember without one."""

import itertools

import pytest

from flow_nexus_neural.coordination.autonomy.observation import Finished
from flow_nexus_neural.coordination.autonomy.planner import Track, plan
from flow_nexus_neural.coordination.autonomy.recollection import (
    accusations,
    joined,
    recollect,
    unresolved,
)
from tests.unit.coordination.autonomy.seen import dead, healthy, observe

NOW = "2026-01-01T01:00:00.000Z"


def at(seconds):
    """A moment so many seconds after midnight; observations count from there too."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"2026-01-01T{hours:02d}:{minutes:02d}:{rest:06.3f}Z"


def logged(decisions, at_s, ok=True):
    """Decisions as the audit log has them."""
    entries = []
    for decision in decisions:
        fields = {"rule": decision.kind, "target": decision.target, "ts": at(at_s)}
        if decision.verdict == "executed":
            seq = f"{decision.kind} {at_s}"
            entries.append({**fields, "decision": "intended", "seq": seq})
            entries.append({**fields, "decision": "executed", "intent": seq, "ok": ok})
        else:
            entries.append({**fields, "decision": decision.verdict})
    return entries


def test_budgets_pauses_and_failures_are_those_of_a_server_that_lived():
    memory, entries, finished = {}, [], []
    for at_s in range(100, 400, 7):
        # Restarted again and again, it fails every time; the other one is only recommended.
        seen = observe(
            dead(0, since_s=90.0),
            dead(1, since_s=90.0, autonomy=0.0),
            healthy(2),
            at_s=float(at_s),
            finished=finished,
        )
        planned = plan(seen, memory)
        memory, finished = planned.memory, []
        entries += logged(planned.decisions, float(at_s), ok=False)
        finished = [
            Finished(d.kind, d.target, ok=False, at_s=float(at_s))
            for d in planned.decisions
            if d.verdict == "executed"
        ]
    after = plan(observe(dead(0, since_s=90.0), at_s=400.0, finished=finished), memory)
    read = plan(observe(dead(0, since_s=90.0), at_s=400.0), recollect(entries, at(400.0), 400.0))
    assert [(d.kind, d.verdict) for d in read.decisions] == [
        (d.kind, d.verdict) for d in after.decisions
    ]
    assert read.due_s == after.due_s
    key = ("restart_node", "worker-0")
    assert read.memory[key].executed_s == after.memory[key].executed_s
    assert read.memory[key].failures == after.memory[key].failures > 0


def test_without_it_a_budget_would_begin_anew():
    entries = list(
        itertools.chain.from_iterable(
            [
                {"rule": "restart_node", "target": "worker-0", "decision": "intended", "seq": n},
                {"rule": "restart_node", "target": "worker-0", "decision": "executed", "intent": n},
            ]
            for n in range(5)
        )
    )
    for number, entry in enumerate(entries):
        entry |= {"ts": at(3500.0 + number), "ok": True}
    seen = observe(dead(0, since_s=3599.0), healthy(1), at_s=3600.0)
    kinds = [d.kind for d in plan(seen, recollect(entries, NOW, 3600.0)).decisions]
    assert kinds == ["give_up_node"]
    assert [d.kind for d in plan(seen, {}).decisions] == ["restart_node"]


def test_an_action_without_an_outcome_counts_as_one_that_failed():
    intent = {"rule": "resync_node", "target": "worker-0", "decision": "intended", "seq": 3}
    intent["ts"] = at(3590.0)
    memory = recollect([intent], NOW, 3600.0)
    assert memory == {("resync_node", "worker-0"): Track(executed_s=(3590.0,), failures=1)}
    assert unresolved([intent]) == [intent]
    withdrawn = {**intent, "decision": "suppressed", "intent": 3, "seq": 4}
    assert recollect([intent, withdrawn], NOW, 3600.0)["resync_node", "worker-0"] == Track()
    assert unresolved([intent, withdrawn]) == []


@pytest.mark.parametrize(
    "broken",
    [
        {},
        {"rule": "rm_rf", "target": "worker-0", "ts": NOW, "decision": "executed"},
        {"rule": "restart_node", "target": 7, "ts": NOW, "decision": "executed"},
        {"rule": "restart_node", "target": "worker-0", "ts": "soon", "decision": "executed"},
        {"rule": "restart_node", "target": "worker-0", "ts": at(3600)[:-1], "decision": "executed"},
    ],
)
def test_what_cannot_be_understood_is_passed_over(broken):
    assert recollect([broken], NOW, 3600.0) == {}


def test_a_clock_that_was_set_back_makes_no_pause_shorter():
    entry = {"rule": "restart_node", "target": "w", "ts": at(3700), "decision": "executed"}
    assert recollect([{**entry, "ok": True}], NOW, 3600.0)["restart_node", "w"].executed_s == (
        3600.0,
    )


def test_an_accusation_stays_until_another_incarnation_has_joined():
    accused = {"rule": "quarantine_node", "ts": at(100), "evidence": {"proof": "segment 3"}}
    entries = [{**accused, "target": "worker-0"}, {**accused, "target": "worker-1"}]
    joined = {"kind": "membership", "event": "joined"}
    ledger = [
        {**joined, "slot": "worker-0", "at": at(99)},
        {**joined, "slot": "worker-1", "at": at(101)},
    ]
    assert accusations(entries, ledger) == {"worker-0": "segment 3"}


def test_only_the_incarnations_that_joined_are_told():
    def line(event, incarnation, slot="worker-0"):
        return {"kind": "membership", "event": event, "slot": slot, "incarnation": incarnation}

    ledger = [
        line("joined", 1),
        line("joined", 2),
        line("failed", 3),
        line("failed", 1, "worker-1"),
    ]
    assert joined(ledger) == {"worker-0": 2}
