"""What is done at which level, how often, and that the same observations give the same decisions."""

import itertools
import json
from dataclasses import asdict

import pytest

from flow_nexus_neural.coordination.autonomy.observation import RULES, Finished, SlotObservation
from flow_nexus_neural.coordination.autonomy.planner import Track, plan
from tests.unit.coordination.autonomy.seen import (
    NOW_S,
    RESTARTED_5_TIMES,
    SITUATIONS,
    dead,
    healthy,
    observe,
    training,
)

LEVELS = {
    "restart_node": 0.2,
    "give_up_node": 0.2,
    "resync_node": 0.3,
    "quarantine_node": 0.4,
    "pause_training": 0.4,
    "resume_training": 0.4,
    "rebalance_shards": 0.5,
    "early_stop": 0.6,
    "adapt_learning_rate": 0.7,
    "restore_learning_rate": 0.7,
    "learn_from_feedback": 0.8,
    "deploy_spare": 0.95,
    "raise_clients": 0.95,
}
ALL_LEVELS = sorted(
    {round(level + step, 2) for level in LEVELS.values() for step in (-0.05, -0.01, 0)}
)


def ready(kind):
    """A memory in which the condition has been present long enough, and no more than that."""
    memory = {(kind, target): Track(since_s=NOW_S - 100) for target in ("worker-0", "cluster")}
    if kind == "give_up_node":
        memory["restart_node", "worker-0"] = Track(executed_s=RESTARTED_5_TIMES)
    return memory


def decided(kind, level, **more):
    observation = SITUATIONS[kind](level)
    found = [d for d in plan(observation, ready(kind)).decisions if d.kind == kind]
    (decision,) = found
    return decision


def test_there_is_a_level_and_a_situation_for_every_action():
    assert {kind: rule.level for kind, rule in RULES.items()} == LEVELS
    assert SITUATIONS.keys() == LEVELS.keys()


@pytest.mark.parametrize("level", [0.0, *ALL_LEVELS, 1.0])
@pytest.mark.parametrize("kind", LEVELS)
def test_an_action_is_carried_out_at_its_level_and_only_recommended_below(kind, level):
    decision = decided(kind, level)
    assert decision.verdict == ("executed" if level >= LEVELS[kind] else "recommended")
    assert (decision.level_required, decision.level_effective) == (LEVELS[kind], level)


@pytest.mark.parametrize("kind", LEVELS)
def test_nothing_is_carried_out_where_autonomy_is_off(kind):
    observation = SITUATIONS[kind](1.0)
    off = observe(*observation.slots, daa_enabled=False, **rest(observation))
    decisions = plan(off, ready(kind)).decisions
    assert {d.verdict for d in decisions} == {"recommended"}
    assert {d.level_effective for d in decisions} == {0.0}
    assert kind in [d.kind for d in decisions]


def rest(observation):
    fields = ("training", "drift", "unlinked", "max_nodes")
    return {name: getattr(observation, name) for name in fields}


def test_a_cluster_that_is_well_needs_nothing():
    planned = plan(observe(healthy(0), healthy(1), training=training()), {})
    assert (planned.decisions, planned.memory, planned.due_s) == ([], {}, None)


class Loop:
    """A planner that is asked whenever it wants to be, over a cluster of one crashing node."""

    def __init__(self, autonomy=0.8, daa_enabled=True):
        self.autonomy, self.daa_enabled = autonomy, daa_enabled
        self.at_s, self.memory, self.stream, self.decisions = 0.0, {}, [], []
        self.finished = ()

    def look(self, *slots, **more):
        observation = observe(
            *slots, at_s=self.at_s, daa_enabled=self.daa_enabled, finished=self.finished, **more
        )
        planned = plan(observation, self.memory)
        self.stream.append(observation)
        self.memory, self.finished = planned.memory, ()
        self.decisions += planned.decisions
        return planned

    def told(self):
        return [(d.kind, d.target, d.verdict) for d in self.decisions]


def crash_loop(loop, *, limit_s):
    """A node that dies at once whenever it is restarted."""
    since_s = 0.0
    while loop.at_s < limit_s:
        planned = loop.look(dead(0, since_s, loop.autonomy), healthy(1, loop.autonomy))
        if any(d.verdict == "executed" and d.kind == "give_up_node" for d in planned.decisions):
            return
        if any(d.verdict == "executed" for d in planned.decisions):
            loop.finished = (Finished("restart_node", "worker-0", ok=True, at_s=loop.at_s),)
            since_s = loop.at_s
        else:
            loop.at_s = max(planned.due_s, loop.at_s)


def test_a_crash_loop_gets_five_restarts_with_growing_pauses_and_is_given_up():
    loop = Loop()
    crash_loop(loop, limit_s=600.0)
    assert loop.told() == [("restart_node", "worker-0", "executed")] * 5 + [
        ("give_up_node", "worker-0", "executed")
    ]
    assert loop.at_s == 1 + 2 + 4 + 8 + 16


def test_restarts_that_were_long_ago_do_not_count():
    memory = {("restart_node", "worker-0"): Track(executed_s=(NOW_S - 601.0,) * 5)}
    (decision,) = plan(observe(dead(0), healthy(1)), memory).decisions
    assert (decision.kind, decision.evidence["restarts"]) == ("restart_node", 0)


def test_a_recorded_stream_replays_to_the_same_decisions():
    loop = Loop()
    crash_loop(loop, limit_s=600.0)
    for kind, situation in SITUATIONS.items():
        loop.at_s += 100.0
        seen = situation(0.8)
        loop.look(*seen.slots, **rest(seen))
        assert loop.stream, kind
    memory, again = {}, []
    for observation in loop.stream:
        planned = plan(observation, memory)
        memory = planned.memory
        again += planned.decisions
    assert again == loop.decisions
    assert json.dumps([asdict(d) for d in again]) == json.dumps([asdict(d) for d in loop.decisions])


def test_one_action_is_carried_out_at_a_time_and_the_next_at_once_after_it():
    loop = Loop()
    loop.at_s = 100.0
    slots = [dead(n, since_s=0.0) for n in range(3)]
    planned = loop.look(*slots)
    assert loop.told() == [("restart_node", "worker-0", "executed")]
    assert planned.due_s == loop.at_s
    assert planned.restarting == {"worker-0", "worker-1", "worker-2"}
    loop.look(healthy(0), *slots[1:])
    assert loop.told()[1:] == [("restart_node", "worker-1", "executed")]


def test_an_action_that_fails_backs_off_for_longer_every_time():
    loop, due = Loop(), []
    slot = healthy(0, digest_matches=False)
    loop.look(slot)
    for _ in range(3):
        loop.at_s = loop.look(slot).due_s
        assert loop.look(slot).decisions[0].verdict == "executed"
        due.append(loop.at_s)
        loop.finished = (Finished("resync_node", "worker-0", ok=False, at_s=loop.at_s),)
        assert loop.look(slot).decisions == []
    assert [round(b - a) for a, b in itertools.pairwise(due)] == [60, 120]


def test_the_budget_of_an_hour_suppresses_what_goes_beyond_it_and_says_so():
    executed_s = tuple(NOW_S - 60.0 * n for n in range(12, 0, -1))
    memory = {("restart_node", "worker-9"): Track(executed_s=executed_s)}
    (decision,) = plan(observe(dead(0), healthy(1)), memory).decisions
    assert (decision.verdict, decision.reason) == ("suppressed", "budget: 12 in an hour")
    fewer = {("restart_node", "worker-9"): Track(executed_s=executed_s[1:])}
    (decision,) = plan(observe(dead(0), healthy(1)), fewer).decisions
    assert decision.verdict == "executed"


def test_what_the_caller_chose_and_what_the_limits_forbid_is_suppressed_at_every_level():
    flat = training(select_losses=[1.0] + [0.9995] * 10, patience_chosen=True)
    decision, slower = plan(observe(healthy(0, 1.0), training=flat), {}).decisions
    assert (decision.kind, decision.verdict) == ("early_stop", "suppressed")
    assert "chose" in decision.reason
    assert (slower.kind, slower.verdict) == ("adapt_learning_rate", "executed")
    lost = SlotObservation("worker-0", "quarantined", 1.0)
    (decision,) = plan(observe(lost, healthy(1, 1.0), max_nodes=2), {}).decisions
    assert (decision.kind, decision.verdict) == ("deploy_spare", "suppressed")


def test_a_condition_that_is_not_acted_on_is_told_once_while_it_lasts():
    loop = Loop(autonomy=0.1)
    for second in range(50):
        loop.at_s = float(second)
        loop.look(dead(0, 0.0, 0.1), healthy(1, 0.1))
    assert loop.told() == [("restart_node", "worker-0", "recommended")]


def test_a_flickering_condition_is_told_once_a_minute():
    loop, seen = Loop(autonomy=0.1), []
    for second in range(180):
        loop.at_s = float(second)
        slot = dead(0, loop.at_s, 0.1) if second % 2 else healthy(0, 0.1)
        seen += [second for _ in loop.look(slot).decisions]
    assert seen == [1, 61, 121]


def test_what_is_long_gone_is_forgotten():
    loop = Loop(autonomy=0.1)
    loop.look(dead(0, 0.0, 0.1))
    loop.at_s = 100.0
    assert loop.look(healthy(0, 0.1)).memory == {}


def test_a_condition_has_to_last_before_it_is_acted_on():
    loop = Loop()
    assert loop.look(healthy(0, digest_matches=False)).due_s == 1.0
    loop.at_s = 0.9
    loop.look(healthy(0))
    loop.at_s = 1.1
    loop.look(healthy(0, digest_matches=False))
    assert loop.decisions == []
    loop.at_s = 2.1
    loop.look(healthy(0, digest_matches=False))
    assert loop.told() == [("resync_node", "worker-0", "executed")]


def test_the_memory_that_was_passed_in_is_not_changed():
    memory: dict = {}
    plan(observe(dead(0)), memory)
    assert memory == {}


@pytest.mark.parametrize("apart_s", [60.0, 700.0])
def test_the_course_of_a_training_does_not_depend_on_how_long_its_rounds_take(apart_s):
    memory, verdicts = {}, []
    for number in range(12):
        flat = training(
            select_losses=[1.0] * (6 + 5 * number),
            adapted_at=1 + 5 * number,
            learning_rate=0.1,
            patience_chosen=True,
        )
        seen = observe(healthy(0, 0.9), training=flat, at_s=NOW_S + number * apart_s)
        planned = plan(seen, memory)
        memory = planned.memory
        verdicts += [d.verdict for d in planned.decisions if d.kind == "adapt_learning_rate"]
    assert verdicts == ["executed"] * 12
