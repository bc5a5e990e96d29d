"""Versions as they are listed, and a version of no cluster."""

import pytest

from flow_nexus_neural.engine.operations.restore_version import refuse_version_alone, version_lines
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.version import KeptVersion
from flow_nexus_neural.errors import InvalidArguments
from tests.unit.engine.building import bundle, cluster_state, committed, live, network


def test_before_the_first_version_there_is_none():
    assert version_lines(live(cluster_state())) == []


def test_the_newest_comes_first_and_says_that_it_serves():
    state = cluster_state()
    old = KeptVersion(2, "noon", "mean", 1, "trn_1", "d", None, 0.5, frozenset({"best"}))
    new = KeptVersion(3, "one", "rollback", 1, "trn_1", "d", 0.9, 0.4, frozenset({"b"}), 2)
    of = bundle({"worker-0": 1.0})
    state.committed = committed([network()], of, kept=(old, new), best={"c0": "best"})
    first, second = version_lines(live(state))
    assert (first.version, first.serving, first.best, first.restored_from) == (3, True, True, 2)
    assert (second.version, second.serving, second.best, second.accuracy) == (2, False, True, None)


def test_a_version_needs_the_cluster_that_it_is_of():
    with pytest.raises(InvalidArguments, match="version belongs to restore"):
        refuse_version_alone(InitRequest(name="x", version=2))
    refuse_version_alone(InitRequest(restore="x", version=2))
