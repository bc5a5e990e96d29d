"""A version answers with its slots' outputs combined once, calibrated where it has a calibrator."""

import numpy as np
import pytest

from flow_nexus_neural.engine.versions.served import serve, serve_groups, target_scale
from flow_nexus_neural.kernels.calibration import Calibrator
from tests.unit.engine.building import bundle, schema

SLOTS = {"worker-0": "c0", "worker-1": "c1"}
LOGITS = np.array([[[0.4], [-1.0]], [[2.0], [0.5]]])  # [2 slots, 2 rows, 1 output]
SOFTER = Calibrator("platt", 0.5, 0.1)


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, "f8")))


def test_the_mean_of_chances_is_served_as_it_is_without_a_calibrator():
    found = serve(bundle({}), schema(), "mean", LOGITS, [1.0, 1.0])
    assert not found.calibrated
    assert found.final is found.raw
    expected = sigmoid(LOGITS[:, :, 0]).mean(axis=0)
    np.testing.assert_allclose(found.final.probabilities[:, 1], expected)


def test_a_calibrator_changes_the_answer_and_leaves_the_raw_one_beside_it():
    made = bundle({}, calibrators={"mean": SOFTER})
    found = serve(made, schema(), "mean", LOGITS, [1.0, 1.0])
    raw = sigmoid(LOGITS[:, :, 0]).mean(axis=0)
    np.testing.assert_allclose(found.raw.probabilities[:, 1], raw)
    expected = sigmoid(0.5 * np.log(raw / (1 - raw)) + 0.1)
    np.testing.assert_allclose(found.final.probabilities[:, 1], expected)
    assert found.calibrated


def test_a_calibrator_of_another_way_to_combine_has_no_effect():
    made = bundle({}, calibrators={"weighted": SOFTER})
    assert not serve(made, schema(), "mean", LOGITS, [1.0, 1.0]).calibrated
    assert serve(made, schema(), "weighted", LOGITS, [1.0, 1.0]).calibrated


def test_values_come_back_in_the_units_of_the_target_and_are_never_calibrated():
    made = bundle({}, calibrators={"mean": SOFTER})
    found = serve(made, schema("regression"), "mean", LOGITS, [1.0, 1.0])
    assert not found.calibrated
    np.testing.assert_allclose(found.final.values, 10.0 + 2.0 * LOGITS[:, :, 0].mean(axis=0))


def test_groups_are_weighted_by_the_weights_of_their_slots():
    made = bundle({"worker-0": 0.25, "worker-1": 0.75})
    by_key = {"c0": LOGITS[0].astype("f4"), "c1": LOGITS[1].astype("f4")}
    found = serve_groups(made, schema("regression"), "weighted", by_key, SLOTS)
    expected = 10.0 + 2.0 * (0.25 * LOGITS[0, :, 0] + 0.75 * LOGITS[1, :, 0])
    np.testing.assert_allclose(found.final.values, expected, rtol=1e-6)


@pytest.mark.parametrize("aggregation", ["mean", "weighted", "ensemble", "majority"])
def test_slots_of_one_group_answer_as_any_one_of_them(aggregation):
    made = bundle({"worker-0": 0.25, "worker-1": 0.75})
    one = LOGITS[0].astype("f4")
    alone = serve_groups(made, schema(), aggregation, {"c0": one}, dict.fromkeys(SLOTS, "c0"))
    both = serve(made, schema(), aggregation, np.stack([one, one]), [0.25, 0.75])
    np.testing.assert_allclose(alone.final.probabilities, both.final.probabilities, rtol=1e-12)


def test_only_a_regression_has_a_scale():
    assert target_scale(schema()) is None
    found = target_scale(schema("regression"))
    assert (found.mean, found.sd, found.tau) == (10.0, 2.0, 0.0)
    assert target_scale(schema("regression"), 0.7).tau == 0.7
