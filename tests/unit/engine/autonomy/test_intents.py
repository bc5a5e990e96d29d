"""What is told of an action whose server ended in the middle of it."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.coordination.autonomy.planner import Track
from flow_nexus_neural.engine.autonomy.execute import Done
from flow_nexus_neural.engine.autonomy.intents import (
    NOT_KNOWN,
    facts_of,
    outcome_fields,
    resolve_intents,
)
from flow_nexus_neural.engine.state.autonomy_log import AutonomyLog
from tests.unit.engine.autonomy.attended import cluster


def left(made, rule, target, **more):
    """A cluster whose former server ended after this intention."""
    former = AutonomyLog()
    before = facts_of(made, target)
    former.intend({"rule": rule, "target": target, "before": before, "ts": "then", **more})
    made.state.autonomy.restore(former.unwritten, None)
    return made


def restarted(made):
    made.slots["worker-0"].begin_incarnation("node_9")
    made.state.autonomy.note_joined({"worker-0": made.slots["worker-0"].incarnation})


def quarantined(made):
    made.slots["worker-0"].quarantine("segment 3")


def given_up(made):
    made.slots["worker-0"].move("failed")
    made.slots["worker-0"].give_up("five times")


def replaced(made):
    made.slots["worker-1"].stands_in_for = "worker-0"


def learning(made):
    made.state.trainings.append(SimpleNamespace(request={"dataset": "feedback"}))


def begun_in_vain(made):
    made.slots["worker-0"].begin_incarnation("node_9")


def training_of_a_caller(made):
    made.state.trainings.append(SimpleNamespace(request={"dataset": "moons"}))
    made.state.trainings.append(SimpleNamespace(request=None))


@pytest.mark.parametrize(
    ("rule", "target", "happened"),
    [
        ("restart_node", "worker-0", restarted),
        ("quarantine_node", "worker-0", quarantined),
        ("give_up_node", "worker-0", given_up),
        ("deploy_spare", "cluster", replaced),
        ("learn_from_feedback", "cluster", learning),
        ("early_stop", "cluster", None),
    ],
)
@pytest.mark.parametrize("seen", [True, False])
def test_an_effect_that_is_seen_is_told_and_nothing_else_is(rule, target, happened, seen):
    made = left(cluster(), rule, target, change={"like": "worker-0"})
    if seen and happened is not None:
        happened(made)
    resolve_intents(made)
    (entry,) = made.state.autonomy.unwritten
    known = seen and happened is not None
    assert (entry["decision"], entry["intent"]) == ("executed", 0)
    assert entry["ok"] is (True if known else None)
    assert (entry["outcome"] == NOT_KNOWN) is not known
    assert (entry["after"] is not None) is known
    assert made.state.autonomy.unresolved == []


@pytest.mark.parametrize(
    ("rule", "target", "happened"),
    [
        ("restart_node", "worker-0", begun_in_vain),
        ("learn_from_feedback", "cluster", training_of_a_caller),
    ],
)
def test_what_only_looks_like_the_effect_is_not_taken_for_it(rule, target, happened):
    made = left(cluster(), rule, target)
    made.state.autonomy.note_joined({"worker-0": made.slots["worker-0"].incarnation})
    happened(made)
    resolve_intents(made)
    (entry,) = made.state.autonomy.unwritten
    assert (entry["ok"], entry["outcome"], entry["after"]) == (None, NOT_KNOWN, None)


@pytest.mark.parametrize(("happened", "failures"), [(quarantined, 0), (None, 1)])
def test_the_planner_counts_a_failure_unless_the_effect_is_seen(happened, failures):
    key = ("quarantine_node", "worker-0")
    made = left(cluster(), *key)
    made.state.autonomy.remember({key: Track(failures=1)})
    if happened is not None:
        happened(made)
    resolve_intents(made)
    assert made.state.autonomy.planned[key].failures == failures


def test_an_outcome_names_its_intention():
    fields = outcome_fields(4, Done(ok=False, outcome="no"), 2.5)
    assert (fields["intent"], fields["ok"], fields["outcome"]) == (4, False, "no")
    assert fields["duration_ms"] == 2.5
