"""A version as the export formats take it."""

import pytest

from flow_nexus_neural.engine.operations.export import exported_model
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.engine.building import bundle, cluster_state, committed, live, network, plan, state


def version(**more):
    groups = [
        network("c0", ["worker-0", "worker-2"], state=state(plan())),
        network("c1", ["worker-1"], state=state(plan(), seed=2)),
    ]
    weights = {"worker-0": 0.25, "worker-1": 0.5, "worker-2": 0.25}
    return committed(groups, bundle(weights, **more))


def test_slots_are_in_the_order_of_the_bundle_each_with_its_network():
    model = exported_model(live(cluster_state()), version())
    assert model.slots == {"worker-0": "c0", "worker-1": "c1", "worker-2": "c0"}
    assert list(model.networks) == ["c0", "c1"]
    assert model.liars == 0
    assert model.calibrator is None


def test_of_a_robust_bundle_fewer_than_a_third_of_the_slots_may_lie():
    groups = [network("c0", [f"worker-{n}" for n in range(7)], state=state(plan()))]
    weights = {f"worker-{n}": 1 / 7 for n in range(7)}
    robust = committed(groups, bundle(weights, robust=True))
    assert exported_model(live(cluster_state()), robust).liars == 2


def test_tensors_are_contiguous_copies_of_their_own():
    model = exported_model(live(cluster_state()), version())
    for tensor in model.tensors.values():
        assert tensor.flags.c_contiguous
        assert tensor.flags.owndata


def test_a_version_without_its_weights_is_not_exported():
    bare = committed([network("c0")], bundle({"worker-0": 1.0}))
    with pytest.raises(StoreCorrupt, match="weights of network c0 are not held"):
        exported_model(live(cluster_state()), bare)
