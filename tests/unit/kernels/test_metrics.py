import math

import numpy as np
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
)

from flow_nexus_neural.kernels.metrics import (
    area_under_curve,
    classification,
    expected_calibration_error,
    per_class,
    regression,
    reliability,
    wilson_interval,
)


def logits_of(*probabilities):
    p = np.array(probabilities)
    return np.log(p / (1 - p))[:, None]


def test_a_binary_classifier_is_measured_as_computed_by_hand():
    m = classification(logits_of(0.9, 0.6, 0.4, 0.2), np.array([1, 0, 1, 0]), n_classes=2)
    assert m.n == 4
    assert m.loss == pytest.approx(-(math.log(0.9) + 2 * math.log(0.4) + math.log(0.8)) / 4)
    assert m.accuracy == 0.5
    assert m.baseline_accuracy == 0.5
    assert m.balanced_accuracy == 0.5
    assert m.auc == 0.75  # 3 of the 4 pairs are in order
    assert m.brier == pytest.approx((0.01 + 0.36 + 0.36 + 0.04) / 4)
    assert m.confusion == [[1, 1], [1, 1]]
    # Bins of 1/15: .9 right; .6 and .6 (of the second and third) wrong; .8 right.
    assert m.ece == pytest.approx((0.1 + 1.2 + 0.2) / 4)


def test_a_logit_of_zero_decides_for_class_one():
    m = classification(np.zeros((2, 1)), np.array([1, 0]), n_classes=2)
    assert m.confusion == [[0, 1], [0, 1]]
    assert m.auc == 0.5


def test_binary_numbers_equal_those_of_an_independent_implementation():
    rng = np.random.default_rng(5)
    logits = np.round(rng.normal(size=(400, 1)), 1)  # rounding makes ties
    y = (rng.random(400) < 0.3).astype(int)
    p = 1 / (1 + np.exp(-logits[:, 0]))
    m = classification(logits.astype(np.float32), y.astype(np.float32), n_classes=2)
    assert m.loss == pytest.approx(log_loss(y, p), rel=1e-6)
    assert m.auc == pytest.approx(roc_auc_score(y, p), rel=1e-12)
    assert m.brier == pytest.approx(brier_score_loss(y, p), rel=1e-6)
    assert m.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, p >= 0.5))
    assert m.confusion == confusion_matrix(y, p >= 0.5).tolist()


def test_multiclass_numbers_equal_those_of_an_independent_implementation():
    rng = np.random.default_rng(6)
    logits = rng.normal(size=(300, 4)) * 3
    y = rng.integers(0, 3, size=300)  # class 3 never occurs
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    m = classification(logits, y, n_classes=4)
    assert m.loss == pytest.approx(log_loss(y, p, labels=[0, 1, 2, 3]))
    assert m.confusion == confusion_matrix(y, p.argmax(axis=1), labels=[0, 1, 2, 3]).tolist()
    recalls = [np.mean(p.argmax(axis=1)[y == c] == c) for c in range(3)]
    assert m.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert m.brier == pytest.approx(((p - np.eye(4)[y]) ** 2).sum(axis=1).mean())
    assert m.auc is None


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_huge_logits_give_finite_numbers(size):
    right = classification(np.array([[size], [-size]]), np.array([1, 0]), n_classes=2)
    wrong = classification(np.array([[size], [-size]]), np.array([0, 1]), n_classes=2)
    assert (right.loss, right.brier, right.ece) == (0.0, 0.0, 0.0)
    assert wrong.loss == size
    assert wrong.brier == 1.0
    many = classification(np.array([[size, 0.0, -size]]), np.array([2]), n_classes=3)
    assert many.loss == pytest.approx(2 * size)


def test_what_is_not_defined_is_none():
    empty = classification(np.empty((0, 1)), np.empty(0), n_classes=2)
    assert empty.n == 0
    assert [getattr(empty, name) for name in empty.__dataclass_fields__ if name != "n"] == [
        None
    ] * 9
    one_class = classification(np.zeros((3, 1)), np.ones(3), n_classes=2)
    assert one_class.auc is None
    assert one_class.balanced_accuracy is None
    assert one_class.baseline_accuracy == 1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_model_that_does_not_answer_with_numbers_has_no_metrics(bad):
    m = classification(np.array([[0.0], [bad]]), np.array([0, 0]), n_classes=2)
    assert m.loss is None
    assert m.accuracy is None
    assert m.confusion is None
    assert m.baseline_accuracy == 1.0
    assert regression(np.array([bad]), np.array([1.0])).rmse is None


@pytest.mark.parametrize("y", [[2.0], [-1.0], [0.5], [math.nan]])
def test_a_label_that_is_no_class_index_is_refused(y):
    with pytest.raises(ValueError, match="class indices"), np.errstate(invalid="ignore"):
        classification(np.zeros((1, 1)), np.array(y), n_classes=2)


def test_outputs_of_the_wrong_width_are_refused():
    with pytest.raises(ValueError, match="do not fit"):
        classification(np.zeros((2, 2)), np.array([0, 1]), n_classes=2)
    with pytest.raises(ValueError, match="do not fit"):
        classification(np.zeros((2, 3)), np.array([0, 1]), n_classes=4)


def test_the_wilson_interval_has_its_published_values():
    # Newcombe, Statistics in Medicine 1998, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson_interval(29, 29) == pytest.approx((0.8830, 1.0), abs=1e-4)
    assert wilson_interval(0, 0) is None


def test_the_area_counts_ties_half():
    assert area_under_curve(np.array([1.0, 1.0, 2.0]), np.array([0, 1, 1])) == 0.75
    assert area_under_curve(np.zeros(4), np.array([0, 1, 0, 1])) == 0.5


def test_overconfidence_shows_in_the_calibration_error():
    rng = np.random.default_rng(7)
    logits = rng.normal(size=(20_000, 1)) * 2
    y = (rng.random(20_000) < 1 / (1 + np.exp(-logits[:, 0]))).astype(int)
    assert classification(logits, y, n_classes=2).ece < 0.01
    assert classification(3 * logits, y, n_classes=2).ece > 0.08


def test_calibration_bins_include_their_upper_edge_and_both_ends():
    confidence = np.array([0.0, 1.0, 1 / 15])
    hits = np.array([False, True, False])
    assert expected_calibration_error(confidence, hits) == pytest.approx(1 / 15 / 3)
    # 1/15 shares a bin with .05, so their errors of +1/15 and -.95 offset one another.
    confidence, hits = np.array([0.05, 1 / 15]), np.array([True, False])
    assert expected_calibration_error(confidence, hits) == pytest.approx((0.95 - 1 / 15) / 2)


def test_the_bins_of_a_reliability_say_what_was_claimed_and_what_was_so_and_give_its_error():
    rng = np.random.default_rng(3)
    confidence = np.append(rng.random(500), [np.nan, 1.0, 1 / 15])
    hits = rng.random(503) < 0.6
    found = reliability(confidence, hits)
    assert found.n == sum(one.n for one in found.per_bin) == 502
    for one in found.per_bin:
        inside = (confidence > one.low) & (confidence <= one.high)
        assert one.n == inside.sum()
        assert one.confidence == pytest.approx(confidence[inside].mean())
        assert one.accuracy == pytest.approx(hits[inside].mean())
    gaps = [one.n * abs(one.confidence - one.accuracy) for one in found.per_bin]
    assert found.ece == pytest.approx(sum(gaps) / found.n)


def test_bins_without_a_claim_are_left_out():
    found = reliability(np.array([0.99, 0.98]), np.array([True, False]))
    assert [(one.n, one.high) for one in found.per_bin] == [(2, 1.0)]


def test_a_regressor_is_measured_in_the_targets_own_unit():
    y = np.array([1.0, -1.0, 2.0, 0.0])
    values = np.array([[1.5], [0.5], [2.0], [-1.0]])
    m = regression(values, y, sd=2.0, mean=0.0)
    assert m.loss == pytest.approx((0.25 + 2.25 + 0 + 1) / 4)
    assert m.mae == pytest.approx(2 * (0.5 + 1.5 + 0 + 1) / 4)
    assert m.rmse == pytest.approx(2 * math.sqrt(3.5 / 4))
    assert m.r2 == pytest.approx(r2_score(y, values[:, 0]))
    assert m.directional_accuracy == pytest.approx(2 / 3)  # the target 0 has no direction
    assert m.baseline_directional_accuracy == pytest.approx(2 / 3)
    assert m.directional_interval == pytest.approx(wilson_interval(2, 3))


def test_directions_are_those_of_the_unstandardised_target():
    # Standardised -0.1 and 0.1 around a mean of 0.05 with sd 1 are -0.05 and 0.15.
    m = regression(np.array([0.0, 0.0]), np.array([-0.1, 0.1]), sd=1.0, mean=0.05)
    assert m.directional_accuracy == 0.5


def test_a_target_of_one_sign_has_no_directional_accuracy():
    m = regression(np.array([0.1, 0.2]), np.array([0.1, 0.3]), sd=1.0, mean=10.0)
    assert m.directional_accuracy is None
    assert m.directional_interval is None
    assert m.baseline_directional_accuracy is None


def test_a_constant_target_has_no_explained_variance():
    assert regression(np.array([1.0, 2.0]), np.array([1.0, 1.0])).r2 is None


def test_rows_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="compared"):
        regression(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="compared"):
        regression(np.zeros(2), np.zeros(2), sd=0.0)


def test_exact_zeros_of_a_target_stay_zeros_after_scaling():
    rain = np.where(np.arange(200) % 2, 0.0, np.arange(200) / 10.0)
    scaled = ((rain - rain.mean()) / rain.std()).astype("f4")
    found = regression(scaled, scaled, sd=rain.std(), mean=rain.mean())
    assert found.directional_accuracy is None, "no value is below 0, so no direction can be wrong"
    changes = rain - 5.0 * (rain > 9.0)
    of_changes = np.where(np.arange(200) % 3, changes, -changes)
    scaled = ((of_changes - of_changes.mean()) / of_changes.std()).astype("f4")
    found = regression(scaled, scaled, sd=of_changes.std(), mean=of_changes.mean())
    assert found.directional_accuracy == 1.0


def test_each_class_is_measured_as_an_independent_implementation_does():
    draw = np.random.Generator(np.random.PCG64(8))
    truth, given = draw.integers(0, 3, 300), draw.integers(0, 3, 300)
    found = per_class(confusion_matrix(truth, given).tolist())
    precision, recall, f1, rows = precision_recall_fscore_support(truth, given)
    assert [c.precision for c in found] == pytest.approx(list(precision))
    assert [c.recall for c in found] == pytest.approx(list(recall))
    assert [c.f1 for c in found] == pytest.approx(list(f1))
    assert [c.rows for c in found] == list(rows)


def test_a_class_that_never_occurs_and_is_never_given_has_no_metrics():
    (_, nothing) = per_class([[5, 0], [0, 0]])
    assert (nothing.rows, nothing.precision, nothing.recall, nothing.f1) == (0, None, None, None)
    assert per_class(None) == []


def test_decisions_that_were_made_otherwise_are_counted_as_made():
    found = classification(np.zeros((4, 1)), np.zeros(4), n_classes=2, predicted=np.zeros(4, int))
    assert found.accuracy == 1.0
    assert classification(np.zeros((4, 1)), np.zeros(4), n_classes=2).accuracy == 0.0


@pytest.mark.parametrize("n", range(1, 60))
def test_an_interval_of_none_or_all_reaches_the_proportion_itself(n):
    assert wilson_interval(0, n)[0] == 0.0
    assert wilson_interval(n, n)[1] == 1.0


def test_everything_that_is_decided_follows_the_decisions_and_nothing_else_does():
    p, y = np.array([0.9, 0.6, 0.4, 0.2]), np.array([1, 0, 1, 0])
    usual = classification(logits_of(*p), y, n_classes=2)
    low = classification(logits_of(*p), y, n_classes=2, predicted=(p >= 0.3).astype(np.int64))
    assert low.confusion == [[1, 1], [0, 2]]
    assert (low.accuracy, low.balanced_accuracy) == (0.75, 0.75)
    # The confidence of the third row is .4, of the class that was decided and not of the likelier one.
    assert low.ece == pytest.approx((0.1 + 0.6 + 0.6 + 0.2) / 4)
    same = ("loss", "auc", "brier", "baseline_accuracy", "n")
    assert [getattr(low, name) for name in same] == [getattr(usual, name) for name in same]
