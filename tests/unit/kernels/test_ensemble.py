import math

import numpy as np
import pytest

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.ensemble import TargetScale, calibrate, fuse


def logits(*per_slot):
    """[K, R, 1] logits of probabilities given as one list per slot."""
    p = np.array(per_slot, dtype=np.float64)
    return np.log(p / (1 - p))[:, :, None]


def log_vectors(*per_slot):
    """[K, 1, C] logits of one probability vector per slot."""
    return np.log(np.array(per_slot, dtype=np.float64))[:, None, :]


EQUAL = (1.0, 1.0, 1.0)


def test_mean_averages_probabilities():
    fused = fuse("mean", logits([0.2], [0.4], [0.9]), EQUAL, "binary")
    assert fused.values == pytest.approx([0.5])
    assert fused.decisions.tolist() == [1]
    assert fused.probabilities == pytest.approx(np.array([[0.5, 0.5]]))
    assert fused.consensus == pytest.approx([1 / 3])
    # pairs: .2, .7, .5
    assert fused.node_agreement == pytest.approx([1 - 1.4 / 3])
    assert fused.node_values == pytest.approx(np.array([[0.2], [0.4], [0.9]]))
    assert fused.node_decisions.tolist() == [[0], [0], [1]]


def test_majority_is_the_share_of_votes():
    fused = fuse("majority", logits([0.45], [0.45], [0.99]), EQUAL, "binary")
    assert fused.values == pytest.approx([1 / 3])  # although the mean is .63
    assert fused.decisions.tolist() == [0]
    assert fused.consensus == pytest.approx([2 / 3])


def test_a_vote_of_exactly_one_half_is_for_class_one():
    fused = fuse("majority", np.zeros((1, 1, 1)), [1.0], "binary")
    assert fused.decisions.tolist() == [1]
    assert fused.values == pytest.approx([1 - 1e-6])


@pytest.mark.parametrize(("second", "decision"), [(0.7, 1), (0.51, 0)])
def test_an_even_split_is_decided_by_the_mean_and_reported_as_one_half(second, decision):
    fused = fuse("majority", logits([0.4], [second]), (1.0, 1.0), "binary")
    assert fused.values.tolist() == [0.5]
    assert fused.decisions.tolist() == [decision]


def test_unanimous_votes_are_clipped_one_millionth_from_certainty():
    fused = fuse("majority", logits([0.9, 0.1], [0.8, 0.2]), (1.0, 1.0), "binary")
    assert fused.values.tolist() == [1 - 1e-6, 1e-6]


@pytest.mark.parametrize("aggregation", ["weighted", "ensemble"])
def test_weighted_pools_logits(aggregation):
    fused = fuse(aggregation, logits([0.8], [0.4]), (3.0, 1.0), "binary")
    pooled = 0.75 * math.log(4) + 0.25 * math.log(2 / 3)
    assert fused.values == pytest.approx([1 / (1 + math.exp(-pooled))])
    assert fused.consensus == pytest.approx([0.75])


def test_one_huge_logit_cannot_outvote_the_others_for_ever():
    answers = np.array([[[1e30]], [[-5.0]], [[-5.0]], [[-5.0]]])
    fused = fuse("weighted", answers, (1.0,) * 4, "binary")
    assert fused.values[0] < 0.5  # 13.8 - 15 < 0


def test_a_weight_of_zero_silences_a_slot_in_the_weighted_answer():
    alone = fuse("weighted", logits([0.3]), (1.0,), "binary")
    beside = fuse("weighted", logits([0.3], [0.99]), (1.0, 0.0), "binary")
    assert beside.values == pytest.approx(alone.values)


def test_slots_that_did_not_answer_do_not_agree():
    # Four slots of weight 1 were asked, three answered, two of them decide as the fused answer.
    fused = fuse("mean", logits([0.2], [0.3], [0.6]), EQUAL, "binary", expected_weight=4.0)
    assert fused.decisions.tolist() == [0]
    assert fused.consensus == pytest.approx([0.5])
    assert fused.values == pytest.approx([1.1 / 3])


def test_a_single_slot_agrees_with_itself():
    fused = fuse("mean", logits([0.2, 0.7]), [0.25], "binary")
    assert fused.node_agreement.tolist() == [1.0, 1.0]
    assert fused.consensus.tolist() == [1.0, 1.0]
    assert fused.values == pytest.approx([0.2, 0.7])


def test_consensus_and_agreement_never_fall_to_zero():
    opposite = np.array([[[1e9]], [[-1e9]]])
    fused = fuse("mean", opposite, (1.0, 1.0), "binary", expected_weight=1e9)
    assert fused.node_agreement.tolist() == [1e-6]
    assert fused.consensus.tolist() == [1e-6]


def test_records_are_fused_independently():
    both = fuse("mean", logits([0.2, 0.9], [0.4, 0.7]), (1.0, 1.0), "binary")
    assert both.values == pytest.approx([0.3, 0.8])
    assert both.decisions.tolist() == [0, 1]
    assert both.node_agreement == pytest.approx([0.8, 0.8])


def test_multiclass_mean_averages_the_vectors():
    fused = fuse("mean", log_vectors([0.7, 0.2, 0.1], [0.1, 0.5, 0.4]), (1.0, 1.0), "multiclass")
    assert fused.probabilities == pytest.approx(np.array([[0.4, 0.35, 0.25]]))
    assert fused.decisions.tolist() == [0]
    assert fused.values == pytest.approx([0.4])
    assert fused.node_values == pytest.approx(np.array([[0.7], [0.5]]))
    # half the L1 distance: (.6 + .3 + .3) / 2
    assert fused.node_agreement == pytest.approx([0.4])


def test_multiclass_votes_tie_by_the_mean_vector():
    answers = log_vectors([0.6, 0.4, 0.0001], [0.1, 0.9, 0.0001])
    fused = fuse("majority", answers, (1.0, 1.0), "multiclass")
    assert fused.probabilities == pytest.approx(np.array([[0.5, 0.5, 0.0]]))
    assert fused.decisions.tolist() == [1]
    assert fused.values == pytest.approx([0.5])


def test_a_class_without_votes_does_not_win_a_tie():
    answers = log_vectors([0.4, 0.25, 0.35], [0.25, 0.4, 0.35])
    fused = fuse("majority", answers, (1.0, 1.0), "multiclass")
    assert fused.decisions.tolist() == [0]  # class 2 has the largest mean but no vote


def test_multiclass_weighted_is_the_geometric_pool():
    fused = fuse(
        "weighted", log_vectors([0.7, 0.2, 0.1], [0.1, 0.5, 0.4]), (1.0, 3.0), "multiclass"
    )
    raw = np.array([0.7**0.25 * 0.1**0.75, 0.2**0.25 * 0.5**0.75, 0.1**0.25 * 0.4**0.75])
    assert fused.probabilities == pytest.approx((raw / raw.sum())[None])


def test_regression_values_come_in_the_targets_unit():
    answers = np.array([[[0.0]], [[1.0]], [[5.0]]])
    scale = TargetScale(mean=10.0, sd=2.0)
    assert fuse("mean", answers, EQUAL, "regression", scale=scale).values == pytest.approx([14.0])
    assert fuse("majority", answers, EQUAL, "regression", scale=scale).values.tolist() == [12.0]
    weighted = fuse("weighted", answers, (1.0, 1.0, 2.0), "regression", scale=scale)
    assert weighted.values == pytest.approx([15.5])  # (10 + 12 + 2 * 20) / 4
    assert weighted.decisions is None
    assert weighted.probabilities is None
    assert weighted.node_values.tolist() == [[10.0], [12.0], [20.0]]


def test_regression_agreement_is_the_distance_in_standard_deviations_cut_at_one():
    answers = np.array([[[0.0]], [[1.0]], [[9.0]]])
    fused = fuse("mean", answers, EQUAL, "regression", scale=TargetScale(sd=3.0))
    # pairs: 1/2 sd-distance .5, cut 1, cut 1
    assert fused.node_agreement == pytest.approx([1 - 2.5 / 3])


def test_regression_consensus_needs_the_same_sign_or_closeness():
    answers = np.array([[[1.0]], [[-0.1]], [[-2.0]], [[3.0]]])
    scale = TargetScale(tau=0.7)
    fused = fuse("mean", answers, (1.0,) * 4, "regression", scale=scale)
    assert fused.values == pytest.approx([0.475])
    assert fused.consensus == pytest.approx([0.75])  # -0.1 is within .7 of .475, -2 is not
    strict = fuse("mean", answers, (1.0,) * 4, "regression")
    assert strict.consensus == pytest.approx([0.5])


def test_nobody_answering_is_an_error_that_can_be_retried():
    with pytest.raises(QuorumLost):
        fuse("mean", np.empty((0, 1, 1)), [], "binary")


def test_answers_without_any_weight_are_an_error():
    with pytest.raises(QuorumLost, match="weight"):
        fuse("weighted", logits([0.4]), [0.0], "binary")


@pytest.mark.parametrize(
    ("answers", "weights", "task"),
    [
        (np.full((1, 1, 1), np.nan), [1.0], "binary"),
        (np.full((1, 1, 1), np.inf), [1.0], "regression"),
        (np.zeros((2, 1, 1)), [1.0], "binary"),
        (np.zeros((1, 1, 1)), [-1.0], "binary"),
        (np.zeros((1, 1, 1)), [np.nan], "binary"),
        (np.zeros((1, 1, 3)), [1.0], "binary"),
        (np.zeros((1, 1, 1)), [1.0], "multiclass"),
        (np.zeros((1, 1)), [1.0], "binary"),
    ],
)
def test_answers_that_make_no_sense_are_refused(answers, weights, task):
    with pytest.raises(ValueError, match=r"fit|finite"):
        fuse("mean", answers, weights, task)


def pushed_down(fused, weights, **more):
    return calibrate(fused, Calibrator("platt", 1.0, -1.0), weights, **more)


def test_calibration_is_applied_to_every_slot_as_to_the_answer():
    answers = np.array([0.4, 0.4, 0.4]).reshape(3, 1, 1)
    raw = fuse("mean", answers, [1, 1, 1], "binary")
    made = pushed_down(raw, [1, 1, 1])
    assert raw.decisions.tolist() == [1]
    assert made.decisions.tolist() == [0]
    assert made.values == pytest.approx(1 / (1 + math.exp(0.6)))
    assert made.node_values[:, 0] == pytest.approx([made.values[0]] * 3)
    assert (made.consensus.tolist(), made.node_agreement.tolist()) == ([1.0], [1.0])


def test_slots_that_did_not_answer_do_not_agree_with_a_calibrated_answer_either():
    raw = fuse("mean", np.zeros((2, 1, 1)), [1, 1], "binary", expected_weight=4)
    assert pushed_down(raw, [1, 1], expected_weight=4).consensus.tolist() == [0.5]


def test_a_temperature_moves_no_decision_of_classes():
    logits = np.random.Generator(np.random.PCG64(1)).standard_normal((3, 20, 4))
    raw = fuse("weighted", logits, [1, 2, 3], "multiclass")
    made = calibrate(raw, Calibrator("temperature", 0.3, 0.0), [1, 2, 3])
    assert made.decisions.tolist() == raw.decisions.tolist()
    assert made.consensus == pytest.approx(raw.consensus)
    assert (made.values < raw.values).all()
    assert made.probabilities.sum(axis=1) == pytest.approx(np.ones(20))


def test_values_cannot_be_calibrated():
    raw = fuse("mean", np.zeros((1, 1, 1)), [1], "regression")
    with pytest.raises(ValueError, match="regression"):
        pushed_down(raw, [1])


LOW = DecisionRule(threshold=0.3)


@pytest.mark.parametrize("aggregation", ["mean", "weighted", "ensemble"])
def test_the_combination_and_every_slot_are_decided_by_one_rule(aggregation):
    answers = logits([0.35], [0.5], [0.2])
    fused = fuse(aggregation, answers, EQUAL, "binary", rule=LOW)
    assert fused.decisions.tolist() == [1]
    assert fused.node_decisions[:, 0].tolist() == [1, 1, 0]
    assert fused.consensus == pytest.approx([2 / 3])
    usual = fuse(aggregation, answers, EQUAL, "binary")
    assert usual.decisions.tolist() == [0]
    assert usual.values.tolist() == fused.values.tolist()
    assert usual.node_agreement.tolist() == fused.node_agreement.tolist()


def test_a_majority_counts_votes_at_the_threshold_and_not_the_share_against_it():
    fused = fuse("majority", logits([0.35], [0.1], [0.2]), EQUAL, "binary", rule=LOW)
    assert fused.values == pytest.approx([1 / 3])
    assert fused.decisions.tolist() == [0]  # though a third of the votes is more than 0.3
    assert fused.consensus == pytest.approx([2 / 3])
    fused = fuse("majority", logits([0.35], [0.31], [0.01]), EQUAL, "binary", rule=LOW)
    assert (fused.values.tolist(), fused.decisions.tolist()) == ([pytest.approx(2 / 3)], [1])


@pytest.mark.parametrize(("second", "decision"), [(0.2, 0), (0.28, 1)])
def test_an_even_split_is_decided_by_the_mean_at_the_threshold(second, decision):
    fused = fuse("majority", logits([0.34], [second]), (1.0, 1.0), "binary", rule=LOW)
    assert fused.decisions.tolist() == [decision]


def test_votes_for_one_of_several_classes_weigh_too():
    rule = DecisionRule(class_weight=(1.0, 1.0, 4.0))
    answers = log_vectors([0.7, 0.1, 0.2], [0.8, 0.15, 0.05])
    fused = fuse("majority", answers, (1.0, 1.0), "multiclass", rule=rule)
    assert fused.node_decisions[:, 0].tolist() == [2, 0]
    assert fused.decisions.tolist() == [0]  # the weighted mean: .75 against .125 x 4
    assert fuse("mean", answers, (1.0, 1.0), "multiclass", rule=rule).values == pytest.approx(
        [0.75]
    )


def test_a_calibrated_combination_is_decided_by_the_same_rule():
    raw = fuse("mean", logits([0.6], [0.4]), (1.0, 1.0), "binary", rule=LOW)
    made = calibrate(raw, Calibrator("platt", 1.0, -1.0), (1.0, 1.0), rule=LOW)
    assert made.values[0] == pytest.approx(1 / (1 + np.e))
    assert made.decisions.tolist() == [0]
    assert made.node_decisions[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize("f", [0, 1])
@pytest.mark.parametrize("aggregation", ["mean", "majority", "weighted", "ensemble"])
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_weights_by_record_weigh_each_record_as_if_it_were_alone(task, aggregation, f):
    draws = np.random.default_rng(4)
    answers = draws.standard_normal((4, 5, 3 if task == "multiclass" else 1))
    weights = draws.random((4, 5))
    expected = weights.sum(axis=0) + 0.5
    whole = fuse(aggregation, answers, weights, task, expected_weight=expected, f=f)
    for row in range(5):
        alone = fuse(
            aggregation,
            answers[:, row : row + 1],
            weights[:, row],
            task,
            expected_weight=float(expected[row]),
            f=f,
        )
        assert whole.values[row] == pytest.approx(alone.values[0], rel=1e-12)
        assert whole.consensus[row] == pytest.approx(alone.consensus[0], rel=1e-12)
        assert whole.node_agreement[row] == pytest.approx(alone.node_agreement[0], rel=1e-12)


def test_a_record_for_which_nobody_has_weight_is_refused():
    with pytest.raises(QuorumLost, match="carries weight"):
        fuse("weighted", np.zeros((2, 2, 1)), np.array([[1.0, 0.0], [1.0, 0.0]]), "binary")


def test_weights_without_a_finite_sum_are_refused():
    with pytest.raises(ValueError, match="sum is finite"):
        fuse("weighted", np.zeros((2, 1, 1)), [1e308, 1e308], "binary")
