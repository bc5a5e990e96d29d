"""Which weights an answer has: the version's, the caller's, or what outcomes made of the version's."""

import pytest

from flow_nexus_neural.engine.prediction.weighting import Weighting, learnt_weights, weights_of
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.feedback import Feedback
from flow_nexus_neural.errors import InvalidArguments
from flow_nexus_neural.kernels.hedge import HedgeState, hedge_weights
from tests.unit.engine.building import bundle, cluster_state, committed, live, network, slot

PRIOR = {"worker-0": 0.75, "worker-1": 0.25}


def cluster(**feedback):
    state = cluster_state()
    state.committed = committed([network(slots=tuple(PRIOR))], bundle(PRIOR))
    for name in PRIOR:
        state.slots.add(slot(name))
    state.note_feedback(Feedback(**feedback))
    return live(state)


def asked(aggregation="weighted", weights=None):
    return PredictRequest(
        cluster_id="dnc_1", input_data=[0, 0], aggregation=aggregation, weights=weights
    )


def test_without_outcomes_they_are_those_of_the_version():
    of = cluster()
    found = weights_of(of, of.committed, asked())
    assert (found.by_slot, found.source, found.outcomes) == (PRIOR, "equal", 0)
    assert found.as_committed


def test_outcomes_of_the_version_move_them_and_those_of_another_do_not():
    lost = HedgeState(10, {"worker-0": 8.0, "worker-1": 1.0}, 4.0)
    of = cluster(version=3, hedge=lost)
    found = learnt_weights(of, of.committed)
    assert found.by_slot == hedge_weights(lost, PRIOR) != PRIOR
    assert (found.source, found.outcomes, found.as_committed) == ("outcomes", 10, False)
    other = cluster(version=2, hedge=lost)
    assert learnt_weights(other, other.committed).by_slot == PRIOR


def test_nodes_that_lose_alike_keep_their_weights_and_what_was_measured_of_them():
    of = cluster(version=3, hedge=HedgeState(9, dict.fromkeys(PRIOR, 3.0), 3.0))
    found = learnt_weights(of, of.committed)
    assert (found.by_slot, found.as_committed, found.outcomes) == (PRIOR, True, 9)


def test_weights_of_the_caller_win_over_outcomes():
    of = cluster(version=3, hedge=HedgeState(10, {"worker-0": 8.0, "worker-1": 1.0}, 4.0))
    found = weights_of(of, of.committed, asked(weights={"worker-1": 2.0}))
    assert (found.by_slot, found.source) == ({"worker-0": 0.0, "worker-1": 1.0}, "caller")
    with pytest.raises(InvalidArguments, match="all 0"):
        weights_of(of, of.committed, asked(weights={"worker-1": 0.0}))
    with pytest.raises(InvalidArguments, match="no effect on aggregation 'mean'"):
        weights_of(of, of.committed, asked("mean", {"worker-1": 1.0}))


@pytest.mark.parametrize("size", [5e-324, 1.0, 1e308])
def test_only_ratios_of_the_caller_s_weights_count(size):
    of = cluster()
    found = weights_of(of, of.committed, asked(weights=dict.fromkeys(PRIOR, size)))
    assert found.by_slot == {"worker-0": 0.5, "worker-1": 0.5}


def test_an_aggregation_without_weights_has_no_source_of_them():
    found = Weighting(PRIOR, "outcomes", 3)
    assert found.told_with("weighted") == found.told_with("ensemble") == ("outcomes", 3)
    assert found.told_with("mean") == found.told_with("majority") == (None, None)
