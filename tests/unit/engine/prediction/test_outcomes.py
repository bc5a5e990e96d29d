"""What a cluster learns from single outcomes, without nodes and without a disk."""

import math

import numpy as np
import pytest

from flow_nexus_neural.engine.prediction.outcomes import Gathered, learnt
from flow_nexus_neural.engine.state.feedback import Feedback, RecordedOutcome
from flow_nexus_neural.kernels.decision import DecisionRule
from tests.unit.engine.building import bundle, cluster_state, committed, live, network

EQUAL = {"worker-0": 0.5, "worker-1": 0.5}


def logit(p):
    return math.log(p / (1 - p))


def cluster(**bundled):
    state = cluster_state()
    state.committed = committed([network(slots=tuple(EQUAL))], bundle(EQUAL, **bundled))
    return live(state)


def outcome(p, version=3, value=1.0):
    logits = {slot: (logit(one),) for slot, one in p.items()}
    return RecordedOutcome("prd", 0, version, "s", None, value, logits, np.zeros(2, "f4"), "now")


def test_an_outcome_charges_each_node_its_own_brier_score():
    found = learnt(cluster(), Feedback(), outcome({"worker-0": 0.9, "worker-1": 0.2}))
    assert (found.recorded, found.version, found.hedge.rounds) == (1, 3, 1)
    assert found.hedge.losses == pytest.approx({"worker-0": 0.01, "worker-1": 0.64})


def test_class_weights_of_the_training_are_taken_off_as_in_predictions():
    weighted = cluster(rule=DecisionRule(0.5, (1.0, 4.0)))
    found = learnt(weighted, Feedback(), outcome({"worker-0": 0.8, "worker-1": 0.5}))
    assert found.hedge.losses["worker-0"] == pytest.approx(0.25)  # odds of 4, weighted by 4


def test_an_outcome_of_another_version_is_counted_and_teaches_no_weight():
    before = learnt(cluster(), Feedback(), outcome({"worker-0": 0.9, "worker-1": 0.2}))
    after = learnt(cluster(), before, outcome({"worker-0": 0.1}, version=2))
    assert (after.recorded, after.hedge) == (2, before.hedge)


def test_the_first_outcome_of_a_new_version_begins_anew():
    old = Feedback(recorded=5, version=2, hedge=learnt(cluster(), Feedback(), outcome(EQUAL)).hedge)
    found = learnt(cluster(), old, outcome({"worker-0": 0.9, "worker-1": 0.2}))
    assert (found.recorded, found.version, found.hedge.rounds) == (6, 3, 1)


def test_a_node_that_serves_no_longer_teaches_nothing():
    found = learnt(cluster(), Feedback(), outcome({"worker-9": 0.9}))
    assert (found.recorded, found.hedge.rounds) == (1, 0)


def test_reasons_are_counted_and_few_of_them_told():
    gathered = Gathered()
    for n in range(6):
        gathered.refuse(f"reason {n}")
    gathered.refuse("reason 0")
    told = gathered.warnings
    assert told[0] == "2 outcomes not recorded: reason 0"
    assert (len(told), told[-1]) == (5, "2 outcomes not recorded for other reasons")


def test_outcomes_are_counted_and_not_the_calls_that_brought_them():
    gathered = Gathered(of_former=1)
    gathered.refuse("unknown", 3)
    gathered.refuse("nothing was given", 0)
    told, former = gathered.warnings
    assert told == "3 outcomes not recorded: unknown"
    assert former.startswith("1 outcome recorded of a version that is not in force any more")
