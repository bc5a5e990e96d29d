"""What status says of outcomes."""

from flow_nexus_neural.engine.operations.feedback_status import feedback_report, feedback_warnings
from flow_nexus_neural.engine.state.feedback import Feedback
from flow_nexus_neural.kernels.hedge import HedgeState
from tests.unit.engine.building import bundle, cluster_state, committed, live, network

PRIOR = {"worker-0": 0.5, "worker-1": 0.5}
LOST = HedgeState(10, {"worker-0": 8.0, "worker-1": 1.0}, 4.0)


def cluster(**feedback):
    state = cluster_state()
    state.committed = committed([network(slots=tuple(PRIOR))], bundle(PRIOR))
    state.note_feedback(Feedback(**feedback))
    return live(state)


def test_before_the_first_version_there_are_no_weights():
    found = feedback_report(live(cluster_state()), full=True)
    assert (found.recorded, found.weights_source, found.slot_weights) == (0, None, None)


def test_learnt_weights_are_told_and_that_the_evaluation_is_of_others():
    of = cluster(recorded=12, kept=11, kept_bytes=900, version=3, hedge=LOST)
    found = feedback_report(of, full=True)
    assert (found.recorded, found.kept, found.kept_bytes) == (12, 11, 900)
    assert (found.weights_source, found.weights_outcomes) == ("outcomes", 10)
    assert found.slot_weights["worker-1"] > 0.9
    assert feedback_report(of, full=False).slot_weights is None
    assert "of its former weights" in feedback_warnings(of)[0]


def test_damage_is_told():
    assert "damaged on disk" in feedback_warnings(cluster(damaged=True))[0]
    assert feedback_warnings(cluster()) == []
