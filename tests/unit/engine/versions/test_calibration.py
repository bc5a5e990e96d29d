"""Weights, calibrators and intervals come from the rows kept for them, and only from those."""

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.engine.versions.calibration import calibrated_bundle
from flow_nexus_neural.kernels.calibration import log_loss
from flow_nexus_neural.kernels.conformal import ConformalScores
from flow_nexus_neural.kernels.loss_weights import loss_weights
from tests.unit.engine.building import bundle, schema

PARTS = ("meta", "calib")
SLOTS = {"worker-0": "c0", "worker-1": "c1"}


def rows(y):
    n = len(y)
    nothing = np.full(n, -1, "i4")
    return Rows(np.zeros((n, 2), "f4"), np.asarray(y), nothing, nothing)


EMPTY = rows(np.zeros(0, "f4"))


def plain():
    return bundle({slot: 0.5 for slot in SLOTS})  # noqa: C420  one share each


def draw(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def overconfident(n, factor, seed):
    """Labels, and the logits of somebody who knows their chances and exaggerates."""
    honest = draw(seed).normal(0, 1.5, n)
    y = (draw(seed + 1).random(n) < 1 / (1 + np.exp(-honest))).astype("f4")
    return (factor * honest)[:, None].astype("f4"), y


def test_without_rows_for_it_nothing_is_weighted_or_corrected():
    logits = {"c0": {}, "c1": {}}
    found = calibrated_bundle(plain(), schema(), SLOTS, logits, {"meta": EMPTY, "calib": EMPTY})
    assert found == plain()
    assert (found.weights_source, found.calibrators) == ("equal", {})


def test_slots_are_weighted_by_their_loss_on_meta_rows():
    good, y = overconfident(400, 1.0, 3)
    bad = -good
    logits = {"c0": {"meta": good}, "c1": {"meta": bad}}
    found = calibrated_bundle(plain(), schema(), SLOTS, logits, {"meta": rows(y), "calib": EMPTY})
    labels = y.astype(np.int64)
    expected = loss_weights([log_loss(good, labels), log_loss(bad, labels)])
    assert list(found.slot_weights.values()) == pytest.approx(list(expected))
    assert found.slot_weights["worker-0"] > 0.9
    assert found.weights_source == "validation loss"


def test_exaggeration_is_taken_back_where_it_helps():
    logits, y = overconfident(1500, 4.0, 5)
    both = {"c0": {"calib": logits}, "c1": {"calib": logits}}
    found = calibrated_bundle(plain(), schema(), SLOTS, both, {"meta": EMPTY, "calib": rows(y)})
    assert set(found.calibrators) == {"mean", "weighted", "ensemble"}
    assert found.calibrators["mean"].scale == pytest.approx(0.25, abs=0.05)
    fresh, y_fresh = overconfident(4000, 4.0, 50)
    before = log_loss(fresh, y_fresh.astype(np.int64))
    after = log_loss(found.calibrators["weighted"].apply(fresh), y_fresh.astype(np.int64))
    assert after < 0.8 * before
    assert found.error_correlation == pytest.approx(1.0)


def test_in_time_order_the_share_of_a_class_in_one_stretch_moves_no_decision():
    honest, y = overconfident(1500, 1.0, 5)
    shifted = honest - 1.0
    parts = {"meta": EMPTY, "calib": rows(y)}
    both = {"c0": {"calib": shifted}, "c1": {"calib": shifted}}
    found = calibrated_bundle(plain(), schema(), SLOTS, both, parts)
    assert found.calibrators["mean"].offset == pytest.approx(1.0, abs=0.2)
    ordered = schema(time_ordered=True)
    found = calibrated_bundle(plain(), ordered, SLOTS, both, parts)
    assert {calibrator.offset for calibrator in found.calibrators.values()} <= {0.0}


def test_honest_chances_are_left_alone():
    logits, y = overconfident(1500, 1.0, 7)
    both = {"c0": {"calib": logits}, "c1": {"calib": logits}}
    found = calibrated_bundle(plain(), schema(), SLOTS, both, {"meta": EMPTY, "calib": rows(y)})
    for calibrator in found.calibrators.values():  # a correction is kept only if it helps
        assert calibrator.scale == pytest.approx(1.0, abs=0.15)


def test_slots_that_err_on_different_rows_are_known_to():
    y = np.tile([0.0, 1.0], 200).astype("f4")
    right = np.where(y > 0.5, 3.0, -3.0)
    errs = draw(1).random((2, 400)) < 0.3
    logits = {
        key: {"calib": np.where(errs[k], -right, right)[:, None].astype("f4")}
        for k, key in enumerate(("c0", "c1"))
    }
    found = calibrated_bundle(plain(), schema(), SLOTS, logits, {"meta": EMPTY, "calib": rows(y)})
    assert found.error_correlation == pytest.approx(np.corrcoef(errs.astype(float))[0, 1])
    assert abs(found.error_correlation) < 0.2


def test_values_get_an_interval_from_their_residuals():
    residual = draw(2).normal(0, 1, 199)
    y = draw(3).normal(0, 1, 199)
    outputs = (y + residual)[:, None].astype("f4")
    both = {"c0": {"calib": outputs}, "c1": {"calib": outputs}}
    found = calibrated_bundle(
        plain(), schema("regression"), SLOTS, both, {"meta": EMPTY, "calib": rows(y.astype("f4"))}
    )
    in_units = np.abs((outputs[:, 0] - y.astype("f4")) * 2.0)
    assert set(found.conformal) == {"mean", "weighted", "ensemble", "majority"}
    half = ConformalScores.of(in_units).threshold()
    for scores in found.conformal.values():
        assert scores.n == 199
        assert scores.threshold() == pytest.approx(half, rel=1e-5)
    assert found.conformal_part == "calib"
    assert found.residual_median == pytest.approx(np.median(in_units), rel=1e-5)
    assert found.calibrators == {}


def test_each_way_to_combine_has_the_interval_of_its_own_residuals():
    y = draw(4).normal(0, 1, 199)
    logits = {
        key: {part: (y + sd * draw(seed).normal(0, 1, 199))[:, None].astype("f4") for part in PARTS}
        for key, sd, seed in (("c0", 0.1, 5), ("c1", 2.0, 6))
    }
    of = dict.fromkeys(PARTS, rows(y.astype("f4")))
    found = calibrated_bundle(plain(), schema("regression"), SLOTS, logits, of)
    good, bad = (logits[key]["calib"][:, 0] for key in ("c0", "c1"))
    middle = ConformalScores.of(np.abs(2.0 * ((good + bad) / 2 - y))).threshold()
    assert found.conformal["mean"].threshold() == pytest.approx(middle, rel=1e-4)
    assert found.conformal["weighted"].threshold() < 0.5 * middle


@pytest.mark.parametrize(("rows_of_part", "known"), [(8, False), (9, True)])
def test_too_few_rows_for_the_level_give_no_sets(rows_of_part, known):
    logits, y = overconfident(rows_of_part, 1.0, 7)
    both = {"c0": {"calib": logits}, "c1": {"calib": logits}}
    found = calibrated_bundle(plain(), schema(), SLOTS, both, {"meta": EMPTY, "calib": rows(y)})
    assert bool(found.conformal) is known
    assert found.conformal_part == ("calib" if known else None)


def test_small_data_score_sets_on_the_rows_that_chose_the_round_and_calibrate_nothing():
    logits, y = overconfident(300, 4.0, 7)
    both = {"c0": {"select": logits}, "c1": {"select": logits}}
    parts = {"meta": EMPTY, "calib": EMPTY, "select": rows(y)}
    found = calibrated_bundle(plain(), schema(), SLOTS, both, parts)
    assert found.conformal_part == "select"
    p = 1 / (1 + np.exp(-logits[:, 0].astype(float)))
    right = np.where(y > 0.5, p, 1 - p)
    least = -found.conformal["mean"].threshold()
    assert least == pytest.approx(np.sort(right)[::-1][271 - 1])  # ceil(301 * 9 / 10)
    assert (found.calibrators, found.residual_median, found.error_correlation) == ({}, None, None)


def test_values_that_err_alike_are_known_to():
    outputs = draw(2).normal(0, 1, (199, 1)).astype("f4")
    both = {"c0": {"calib": outputs}, "c1": {"calib": outputs}}
    y = rows(np.zeros(199, "f4"))
    found = calibrated_bundle(
        plain(), schema("regression"), SLOTS, both, {"meta": EMPTY, "calib": y}
    )
    assert found.error_correlation == pytest.approx(1.0)
