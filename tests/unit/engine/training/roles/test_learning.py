"""What several nodes of one role make together."""

import numpy as np

from flow_nexus_neural.engine.state.roles import NO_ROLES, Learnt
from flow_nexus_neural.engine.training.roles.learning import mean_outputs, with_taught
from flow_nexus_neural.engine.training.roles.lesson import Taught
from tests.unit.engine.building import network


def taught(value, digest):
    outputs = {"test": np.full((2, 1), value, "f4")}
    return Taught(Learnt("stacker", 9, 0.1, digest), network(digest=digest), outputs)


UNTAUGHT = Taught(Learnt("stacker", reason="node_died"))


def test_their_outputs_are_averaged_and_those_without_any_do_not_count():
    assert (
        mean_outputs([taught(1.0, "a"), UNTAUGHT, taught(2.0, "b")])["test"].tolist() == [[1.5]] * 2
    )
    assert mean_outputs([UNTAUGHT]) == {}


def test_what_each_learnt_is_kept_whether_or_not_it_has_a_network():
    roles = with_taught(NO_ROLES, {"aggregator-0": taught(1.0, "a"), "aggregator-1": UNTAUGHT})
    assert list(roles.networks) == ["aggregator-0"]
    assert list(roles.learnt) == ["aggregator-0", "aggregator-1"]
    again = with_taught(roles, {"validator-0": Taught(Learnt("confidence", reason="no rows"))})
    assert set(again.learnt) == {"aggregator-0", "aggregator-1", "validator-0"}
