"""What status says of outcomes."""

import pytest

from flow_nexus_neural.engine.operations.feedback_status import feedback_report, feedback_warnings
from flow_nexus_neural.engine.state.feedback import Feedback, InputDrift
from flow_nexus_neural.kernels.drift import Adwin
from flow_nexus_neural.kernels.hedge import HedgeState
from tests.unit.engine.building import bundle, cluster_state, committed, live, network

PRIOR = {"worker-0": 0.5, "worker-1": 0.5}
pytestmark = pytest.mark.anyio
LOST = HedgeState(10, {"worker-0": 8.0, "worker-1": 1.0}, 4.0)


@pytest.fixture
def anyio_backend():
    return "asyncio"


def cluster(**feedback):
    state = cluster_state()
    state.committed = committed([network(slots=tuple(PRIOR))], bundle(PRIOR))
    state.note_feedback(Feedback(**feedback))
    made = live(state)
    made.keep_inputs(InputDrift(3, 12, 300, 0.31, "f1"))
    return made


async def test_before_the_first_version_there_are_no_weights():
    found = await feedback_report(live(cluster_state()), full=True)
    assert (found.recorded, found.weights_source, found.slot_weights) == (0, None, None)


async def test_learnt_weights_are_told_and_that_the_evaluation_is_of_others():
    of = cluster(recorded=12, kept=11, kept_bytes=900, version=3, hedge=LOST)
    found = await feedback_report(of, full=True)
    assert (found.recorded, found.kept, found.kept_bytes) == (12, 11, 900)
    assert (found.weights_source, found.weights_outcomes) == ("outcomes", 10)
    assert found.slot_weights["worker-1"] > 0.9
    assert (await feedback_report(of, full=False)).slot_weights is None
    assert "of its former weights" in feedback_warnings(of)[0]


async def test_drift_of_the_version_in_force_is_told_and_of_a_former_one_is_not():
    window = Adwin((4, 2), (2.0, 1.0), (1.0, 0.5), seen=900, drifts=2, drifted_at=894)
    of = cluster(recorded=300, version=3, hedge=LOST, errors=window, drifted=True)
    of.keep_inputs(InputDrift(3, 300, 300, 0.31, "f1"))
    drift = (await feedback_report(of, full=False)).drift
    assert (drift.found, drift.errors_window, drift.errors_mean, drift.drifts) == (True, 6, 0.5, 2)
    assert (drift.input_index, drift.input_column, drift.input_rows) == (0.31, "f1", 300)
    told = " ".join(feedback_warnings(of))
    assert "errors have risen since version 3 answers" in told
    assert "inputs of 'f1' are not like the training rows (stability index 0.31" in told
    former = cluster(version=2, hedge=LOST, errors=window, drifted=True)
    drift = (await feedback_report(former, full=False)).drift
    assert (drift.found, drift.errors_window, drift.errors_mean, drift.drifts) == (
        False,
        0,
        None,
        2,
    )
    assert "errors have risen" not in " ".join(feedback_warnings(former))


async def test_damage_is_told():
    assert "damaged on disk" in feedback_warnings(cluster(damaged=True))[-1]
    quiet = live(cluster_state())
    assert feedback_warnings(quiet) == []
