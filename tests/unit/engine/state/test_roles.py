"""The role networks of a bundle: who has one for what, and what of them shapes an answer."""

from dataclasses import replace

from flow_nexus_neural.coordination.role_gates import Gate, closed
from flow_nexus_neural.engine.state.roles import NO_ROLES, Learnt, Roles, confidence_gate
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.stacking import layout_of
from tests.unit.engine.building import bundle, committed, network

OPEN = Gate(used=True, reason=None, own=0.4, rival=0.5, standard_error=0.01, rows=90)


def roles(**more):
    values = {
        "networks": {
            "aggregator-0": network("stacker:aggregator-0", ("aggregator-0",), digest="s")
        },
        "learnt": {
            "aggregator-0": Learnt("stacker", 100, 0.4, "s"),
            "aggregator-1": Learnt("stacker", reason="node_died"),
        },
        "layout": layout_of(["worker-0"], 1, 0),
        "gates": {"stacker": OPEN},
    }
    return Roles(**values | more)


def test_only_trained_networks_are_asked_for_their_purpose():
    assert list(roles().for_purpose("stacker")) == ["aggregator-0"]
    assert roles().for_purpose("student") == {}
    assert roles().learnt["aggregator-0"].trained
    assert not roles().learnt["aggregator-1"].trained


def test_a_purpose_without_an_open_gate_is_not_used():
    assert roles().uses("stacker")
    assert not roles(gates={"stacker": closed("why")}).uses("stacker")
    assert not NO_ROLES.uses("stacker")
    assert roles(gates={confidence_gate("mean"): OPEN}).confident_in("mean")
    assert not roles(gates={confidence_gate("mean"): OPEN}).confident_in("weighted")


def test_every_part_of_it_changes_the_bundle():
    plain = committed([network()], bundle({"worker-0": 1.0}))
    versions = [
        replace(plain, bundle=replace(plain.bundle, roles=one))
        for one in (
            NO_ROLES,
            roles(),
            roles(gates={"stacker": closed("why")}),
            roles(layout=layout_of(["worker-0", "worker-1"], 1, 0)),
            roles(calibrators={"mean": Calibrator("temperature", 0.5, 0.0)}),
            roles(networks={"aggregator-0": network("x", ("aggregator-0",), digest="other")}),
        )
    ]
    assert len({version.sha for version in versions}) == len(versions)


def test_the_files_of_its_networks_must_stay():
    own = network("stacker:aggregator-0", ("aggregator-0",), blob="file-of-the-stacker")
    made = roles(networks={"aggregator-0": own})
    version = committed([network()], bundle({"worker-0": 1.0}, roles=made))
    assert "file-of-the-stacker" in version.blobs
    assert version.loaded_into("aggregator-0") is own
    assert version.network_of("aggregator-0") is None, "it serves no records"
    assert version.loaded_into("worker-0").key == "c0"
