"""A committed version: what it is named by, and who serves it."""

from dataclasses import replace

import numpy as np
import pytest

from flow_nexus_neural.engine.state.version import model_digest
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.conformal import ConformalScores
from tests.unit.engine.building import bundle, committed, network, plan, state


def test_the_bundle_is_named_by_what_shapes_an_answer_and_nothing_else():
    one = bundle({"worker-0": 1.0})
    assert replace(one, parity=0).content == one.content
    for change in (
        {"version": 4},
        {"digests": {"c0": "d1"}},
        {"slot_weights": {"worker-0": 0.5}},
        {"calibrators": {"mean": Calibrator("temperature", 2.0, 0.0)}},
        {"conformal": {"mean": ConformalScores(9, (9,), (1.0,))}},
    ):
        assert replace(one, **change).content != one.content


def test_a_version_is_named_by_everything_that_shapes_or_describes_an_answer():
    """Scaling, class names, metrics, members and the network itself are part of it, like the weights."""
    one = committed([network()], bundle({"worker-0": 1.0}))
    plain = one.schema.model_copy
    for change in (
        {"bundle": replace(one.bundle, slot_weights={"worker-0": 0.5})},
        {"schema": plain(update={"target_mean": 1.5})},
        {"schema": plain(update={"target_sd": 7.0})},
        {"dataset": one.dataset.model_copy(update={"rows": 7})},
        {"networks": {"c0": network(digest="other")}},
        {"networks": {"c0": replace(network(), slots=("worker-9",))}},
        {"accuracy": 0.123},
        {"loss": 0.123},
    ):
        assert replace(one, **change).sha != one.sha, change
    assert replace(one, bundle=replace(one.bundle, parity=0)).sha == one.sha
    assert replace(one, best={"c0": "elsewhere"}).sha == one.sha


def test_one_network_is_the_model_and_several_are_named_together():
    assert model_digest({"c0": "d0"}) == "d0"
    both = model_digest({"c0": "d0", "c1": "d1"})
    assert both not in ("d0", "d1")
    assert both != model_digest({"c0": "d1", "c1": "d0"})


def test_a_training_moves_on_to_what_was_committed_beside_it():
    trained = network(state=state(plan(), 1), version=3, moments_blob="m3")
    beside = network(state=state(plan(), 2), version=4, digest="d4", blob="b4", moments_blob="m4")
    newest = committed([beside], bundle({})).newest(trained)
    assert (newest.version, newest.digest, newest.blob) == (4, "d4", "b4")
    assert newest.moments_blob == "m4"
    assert np.array_equal(newest.state.params, beside.state.params)
    assert np.array_equal(newest.state.moments["m"], trained.state.moments["m"])
    assert committed([trained], bundle({})).newest(beside) is beside
    assert committed([network("c9")], bundle({})).newest(trained) is trained


def test_serving_weights_sum_to_one_whoever_joins_or_leaves():
    one = committed(
        [network(slots=("worker-0", "worker-1"))], bundle({"worker-0": 0.75, "worker-1": 0.25})
    )
    three = one.with_slot("worker-2", "c0")
    assert three.network_of("worker-2").key == "c0"
    assert three.bundle.slot_weights == pytest.approx(
        {"worker-0": 0.6, "worker-1": 0.2, "worker-2": 0.2}
    )
    assert one.network_of("worker-2") is None
    two = three.without_slot("worker-0")
    assert two.network_of("worker-0") is None
    assert two.bundle.slot_weights == pytest.approx({"worker-1": 0.5, "worker-2": 0.5})
    assert two.without_slot("worker-9") is two
    nobody = two.without_slot("worker-1").without_slot("worker-2")
    assert nobody.bundle.slot_weights == {}


def test_slots_of_which_the_caller_gave_weight_zero_share_what_is_left_equally():
    one = committed(
        [network(slots=("worker-0", "worker-1"))], bundle({"worker-0": 0.0, "worker-1": 1.0})
    )
    assert one.without_slot("worker-1").bundle.slot_weights == {"worker-0": 1.0}


def test_a_version_is_served_by_the_slots_that_joined_and_not_by_those_that_were_removed():
    following = committed(
        [network(slots=("worker-0", "worker-1"))],
        bundle({"worker-0": 0.5, "worker-1": 0.5}),
        version=4,
    )
    existing = {"worker-0", "worker-3", "worker-7"}
    merged = following.with_members(
        {"worker-0": "c0", "worker-3": "c0", "worker-7": "c9"}, existing
    )
    assert (merged.version, merged.networks["c0"].slots) == (4, ("worker-0", "worker-3"))
    assert sum(merged.bundle.slot_weights.values()) == pytest.approx(1)
    assert following.with_members({}, {"worker-0", "worker-1"}) == following


def measured_mix():
    """A calibrated version of two network groups, of which something was measured."""
    groups = [network(slots=("worker-0",)), network("c1", slots=("worker-1",))]
    fitted = bundle(
        {"worker-0": 0.75, "worker-1": 0.25},
        weights_source="validation loss",
        calibrators={"mean": Calibrator("temperature", 2.0, 0.0)},
        conformal={"mean": ConformalScores(9, (9,), (1.0,))},
        residual_median=0.5,
        error_correlation=0.5,
    )
    return committed(groups, fitted)


@pytest.mark.parametrize(
    "remixed",
    [
        lambda one: one.with_slot("worker-2", "c0"),
        lambda one: one.without_slot("worker-1"),
        lambda one: one.with_members({}, {"worker-0"}),
        lambda one: one.with_members({"worker-2": "c1"}, {"worker-0", "worker-1", "worker-2"}),
    ],
)
def test_nothing_that_was_measured_of_several_models_stays_for_another_mix_of_them(remixed):
    one = measured_mix()
    assert one.accuracy is not None
    other = remixed(one)
    assert (other.evaluation, other.accuracy, other.loss) == (None, None, None)
    made = other.bundle
    assert (made.calibrators, made.conformal, made.residual_median) == ({}, {}, None)
    # Weights were measured of each by itself: they stay where others leave, and no newcomer has one.
    source = "equal" if "worker-2" in made.slot_weights else "validation loss"
    assert (made.error_correlation, made.weights_source) == (None, source)
    assert len(set(made.slot_weights.values())) == 1
    assert sum(made.slot_weights.values()) == pytest.approx(1)


def test_what_was_measured_comes_back_when_those_that_joined_leave():
    """A start that fails leaves nothing behind."""
    one = measured_mix()
    two = one.with_slot("worker-2", "c0").with_slot("worker-3", "c1")
    assert two.without_slot("worker-3").without_slot("worker-2") is one
    assert two.without_slot("worker-0").without_slot("worker-2").accuracy is None
    assert one.without_slot("worker-1").measured is None


def test_who_joins_or_leaves_changes_nothing_while_all_give_one_answer():
    one = committed(
        [network(slots=("worker-0", "worker-1"))],
        bundle(
            {"worker-0": 0.5, "worker-1": 0.5},
            calibrators={"mean": Calibrator("temperature", 2.0, 0.0)},
        ),
    )
    for other in (one.with_slot("worker-2", "c0"), one.without_slot("worker-1")):
        assert other.accuracy == one.accuracy
        assert other.bundle.calibrators == one.bundle.calibrators
