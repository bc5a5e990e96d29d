import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import (
    IDENTITY,
    Calibrator,
    fit_platt,
    fit_temperature,
    gated,
    log_loss,
)
from flow_nexus_neural.kernels.metrics import classification


def known_probabilities(n, seed=0):
    """Logits whose probabilities are exactly right, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 1)) * 1.5
    y = (rng.random(n) < 1 / (1 + np.exp(-logits[:, 0]))).astype(np.int64)
    return logits, y


def test_temperature_finds_the_minimum_of_the_log_loss():
    logits, y = known_probabilities(3000)
    fitted = fit_temperature(3 * logits, y)
    best = log_loss(fitted.apply(3 * logits), y)
    for factor in (0.99, 1.01):
        nearby = Calibrator("temperature", fitted.scale * factor, 0.0)
        assert log_loss(nearby.apply(3 * logits), y) > best
    assert fitted.scale == pytest.approx(1 / 3, rel=0.1)
    assert fitted.offset == 0.0


def test_temperature_of_many_classes_undoes_overconfidence():
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4000, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    y = (rng.random(4000)[:, None] > p.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(4 * logits, y).scale == pytest.approx(0.25, rel=0.1)


def test_platt_equals_an_independent_logistic_regression():
    logits, y = known_probabilities(20_000)
    fitted = fit_platt(2 * logits + 1, y)
    oracle = LogisticRegression(C=1e12, tol=1e-10).fit(2 * logits + 1, y)
    # The smoothed targets differ from 0 and 1 by 1 / 10,000.
    assert fitted.scale == pytest.approx(oracle.coef_[0, 0], rel=2e-3)
    assert fitted.offset == pytest.approx(oracle.intercept_[0], rel=2e-3)


def test_platt_on_smoothed_targets_is_finite_when_classes_are_separable():
    fitted = fit_platt(np.array([[-2.0], [-1.0], [1.0], [2.0]]), np.array([0, 0, 1, 1]))
    assert math.isfinite(fitted.scale)
    # Platt's targets are 1/4 and 3/4: the mean answer must meet them.
    z = fitted.apply(np.array([-2.0, -1.0, 1.0, 2.0]))
    assert (1 / (1 + np.exp(-z))).mean() == pytest.approx(0.5)


def test_a_calibrator_never_turns_the_order_of_answers_round():
    logits, y = known_probabilities(500)
    assert fit_platt(-logits, y).scale > 0
    assert fit_temperature(-logits, y).scale > 0


def test_huge_and_separable_logits_do_not_break_the_fit():
    logits = np.array([[-1e30], [1e30]] * 20)
    y = np.array([0, 1] * 20)
    for fit in (fit_temperature, fit_platt):
        assert math.isfinite(fit(logits, y).scale)
        assert math.isfinite(fit(logits, 1 - y).scale)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
def test_the_gate_lets_a_calibrator_pass_that_helps_on_unseen_rows(fit):
    logits, y = known_probabilities(1000)
    chosen = gated(fit, 4 * logits, y)
    assert chosen.kind in {"temperature", "platt"}
    fresh_logits, fresh_y = known_probabilities(5000, seed=9)
    before = classification(4 * fresh_logits, fresh_y, n_classes=2)
    after = classification(chosen.apply(4 * fresh_logits), fresh_y, n_classes=2)
    assert after.loss < before.loss
    assert after.ece < 0.03 < before.ece


def test_the_gate_refuses_a_calibrator_that_only_fits_noise():
    refused = sum(
        gated(fit_platt, *known_probabilities(100, seed=seed)) == IDENTITY for seed in range(40)
    )
    # On logits that are right already two parameters mostly hurt unseen rows.
    assert refused > 20


def regimes(seed, rows=200, length=60):
    """Right logits without skill, and classes whose share turns with regimes of `length` rows on average.

    What the last regimes taught about the share of classes does not hold in the next.
    """
    draw = np.random.Generator(np.random.PCG64([7, seed]))
    turns = np.cumsum(draw.random(rows) < 1 / length) + draw.integers(2)
    y = (draw.random(rows) < np.where(turns % 2, 0.7, 0.3)).astype(np.int64)
    return 0.1 * draw.standard_normal((rows, 1)), y


def test_with_rows_in_time_order_a_share_of_classes_that_lasts_for_a_while_is_no_calibration():
    chosen = {
        ordered: [gated(fit_platt, *regimes(seed), ordered=ordered) for seed in range(40)]
        for ordered in (False, True)
    }
    moved = {
        ordered: sum(abs(one.offset) > 0.3 for one in found) for ordered, found in chosen.items()
    }
    assert moved[True] <= moved[False] / 4


def test_with_rows_in_time_order_what_holds_from_block_to_block_still_passes():
    logits, y = known_probabilities(1000)
    chosen = gated(fit_platt, 4 * logits, y, ordered=True)
    assert chosen.kind == "platt"
    assert chosen.scale == pytest.approx(0.25, abs=0.06)


def test_the_gate_needs_rows_and_both_classes():
    logits, y = known_probabilities(29)
    assert gated(fit_platt, 9 * logits, y) is IDENTITY
    assert gated(fit_platt, np.ones((50, 1)), np.ones(50, dtype=np.int64)) is IDENTITY
    assert gated(fit_platt, np.full((50, 1), np.nan), np.arange(50) % 2) is IDENTITY


def test_labels_may_be_of_any_numeric_type():
    logits, y = known_probabilities(200)
    for fit in (fit_temperature, fit_platt):
        assert fit(logits, y.astype(np.float32)) == fit(logits, y)
        assert gated(fit, 3 * logits, y.astype(np.float32)) == gated(fit, 3 * logits, y)


def test_the_gate_is_deterministic():
    logits, y = known_probabilities(300)
    assert gated(fit_platt, 2 * logits, y) == gated(fit_platt, 2 * logits, y)


def test_a_calibrator_survives_json():
    for calibrator in (IDENTITY, Calibrator("platt", 0.1 + 0.2, -1 / 3)):
        assert Calibrator.from_json(calibrator.to_json()) == calibrator


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "isotonic"},
        {"kind": ["platt"]},
        {"scale": "1"},
        {"scale": 0.0},
        {"scale": -1.0},
        {"scale": None},
        {"offset": math.nan},
        {"scale": math.inf},
        {"scale": True},
    ],
)
def test_a_stored_calibrator_that_is_damaged_is_refused(change):
    with pytest.raises(StoreCorrupt):
        Calibrator.from_json({**IDENTITY.to_json(), **change})
