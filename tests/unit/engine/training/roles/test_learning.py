"""What several nodes of one role make together."""

from types import SimpleNamespace

import numpy as np

from flow_nexus_neural.engine.state.roles import NO_ROLES, Learnt
from flow_nexus_neural.engine.training.roles.learning import RoleLearning, mean_outputs, with_taught
from flow_nexus_neural.engine.training.roles.lesson import Taught
from flow_nexus_neural.engine.versions.members import RoleWork
from tests.unit.engine.building import bundle, network, slot


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


def test_a_node_that_was_not_there_says_so_and_what_was_learnt_stays():
    slots = {
        "aggregator-0": slot("aggregator-0"),
        "validator-0": slot("validator-0", state="failed"),
    }
    of_role = lambda role: [one for one in slots.values() if one.spec.role == role]  # noqa: E731
    cluster = SimpleNamespace(slots=SimpleNamespace(of_role=of_role))
    learnt = with_taught(NO_ROLES, {"aggregator-0": taught(1.0, "a")})
    work = RoleWork(bundle({"worker-0": 1.0}, roles=learnt))
    told = RoleLearning(cluster, (1, 0))._with_absent(work).bundle.roles.learnt
    assert told["aggregator-0"].trained
    assert told["validator-0"].reason.startswith("it was failed when its role was taught")
