"""What status says of role networks."""

from flow_nexus_neural.engine.state.roles import NO_ROLES
from flow_nexus_neural.engine.versions.role_report import learnt_by, roles_report
from tests.unit.engine.building import bundle, committed, network, slot
from tests.unit.engine.state.test_roles import roles

VERSION = committed([network()], bundle({"worker-0": 1.0}, roles=roles()))


def told_by(name):
    (told,) = learnt_by([slot("worker-0"), slot(name)], VERSION).values()
    return told


def test_both_numbers_of_a_comparison_are_told():
    assert roles_report(NO_ROLES) is None
    assert roles_report(roles()) == {
        "stacker": {
            "state": "net",
            "reason": None,
            "own": 0.4,
            "rival": 0.5,
            "standard_error": 0.01,
            "rows": 90,
        }
    }


def test_a_node_tells_what_its_network_learnt_or_why_nothing():
    told = told_by("aggregator-0")
    assert told == {
        "purpose": "stacker",
        "trained": True,
        "rows": 100,
        "loss": 0.4,
        "digest": "s",
        "reason": None,
    }
    assert told_by("aggregator-1")["reason"] == "node_died"
    late = told_by("validator-0")
    assert (late["purpose"], late["trained"]) == ("confidence", False)
    assert late["reason"].startswith(f"version {VERSION.version} holds no network of this node")


def test_workers_and_untrained_clusters_have_nothing_to_tell():
    assert learnt_by([slot("worker-0")], VERSION) is None
    assert learnt_by([slot("aggregator-0")], None) is None
