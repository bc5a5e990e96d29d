"""What autonomy sees: slots, what they serve, and the running training."""

from types import SimpleNamespace

import pytest

from flow_nexus_neural.engine.autonomy.observe import observation
from flow_nexus_neural.engine.state.feedback import Feedback
from tests.unit.engine.autonomy.attended import cluster
from tests.unit.engine.building import bundle, committed, network, point, training


def test_slots_are_seen_with_their_state_and_their_autonomy():
    made = cluster()
    made.slots["worker-1"].move("failed")
    made.state.autonomy.see_failed(["worker-1"], 12.0)
    seen = observation(made)
    assert [(s.slot, s.state, s.autonomy, s.failed_since_s) for s in seen.slots] == [
        ("worker-0", "healthy", 0.8, None),
        ("worker-1", "failed", 0.8, 12.0),
        ("worker-2", "healthy", 0.8, None),
    ]
    assert (seen.daa_enabled, seen.max_nodes, seen.at_s) == (True, 8, 50.0)
    assert seen.training is None


def test_a_slot_that_is_being_started_by_somebody_is_returning():
    made = cluster(1)
    made.slots["worker-0"].move("failed")
    assert not observation(made).slots[0].returning
    made.slots["worker-0"].await_return(expected=True)
    assert observation(made).slots[0].returning


def test_weights_are_held_against_those_in_force():
    made = cluster(2)
    assert [s.digest_matches for s in observation(made).slots] == [None, None]
    version = committed([network(slots=("worker-0", "worker-1"))], bundle({"worker-0": 1.0}))
    made.state.commit(version)
    made.slots["worker-0"].note_served("serve1", "d0")
    made.slots["worker-1"].note_served("serve1", "older")
    assert [s.digest_matches for s in observation(made).slots] == [True, False]
    made.state.begin_install(version)
    assert [s.digest_matches for s in observation(made).slots] == [None, None]


def test_a_running_training_is_seen_with_its_losses():
    made = cluster(2)
    running = training()
    running.history += [point(1, val_loss=0.7), point(2, val_loss=None)]
    made.begin_run(
        SimpleNamespace(training=running, shards={}, least_workers=1, delivered=[], is_steered=True)
    )
    seen = observation(made).training
    assert seen.select_losses == [0.7, None]
    assert (seen.healthy_workers, seen.min_workers) == (2, 1)


def test_a_training_that_would_not_follow_is_not_seen():
    made = cluster(2)
    running = training()
    running.history += [point(1, val_loss=0.7)]
    made.begin_run(SimpleNamespace(training=running, shards={}, is_steered=False))
    assert observation(made).training is None


@pytest.mark.parametrize(
    ("admitted", "width", "is_seen"),
    [
        (None, 120, True),
        (False, 120, False),
        (False, 149, False),
        (False, 150, True),
        (False, 60, True),  # errors have risen since: other outcomes count now
    ],
)
def test_drift_whose_model_was_refused_is_seen_again_with_new_outcomes(admitted, width, is_seen):
    made = cluster(1)
    version = committed([network(slots=("worker-0",))], bundle({"worker-0": 1.0}))
    made.state.commit(version)
    errors = SimpleNamespace(width=width, mean=0.7, drifts=1)
    made.state.note_feedback(Feedback(version=version.version, errors=errors, drifted=True))
    ended = training()
    learning = SimpleNamespace(outcomes=70, held_out=30, admitted=admitted)
    ended.note_learning(learning if admitted is not None else None)
    made.state.trainings.append(ended)
    assert (observation(made).drift is not None) is is_seen
