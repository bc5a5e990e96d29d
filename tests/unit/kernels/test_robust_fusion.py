"""Answers of slots of which some may lie, by hand-computed values."""

import math

import numpy as np
import pytest

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.ensemble import TargetScale, fuse
from flow_nexus_neural.kernels.robust_fusion import (
    UNDECIDED,
    capped_weights,
    clipped_to_trimmed_range,
    require_quorum,
    trimmed_mean,
)

EQUAL = np.ones(4)


def logits(*values):
    """[K, 1, 1] of one logit per slot."""
    return np.array(values, dtype=float)[:, None, None]


def classes(*vectors):
    """[K, 1, C] logits of one probability vector per slot."""
    return np.log(np.array(vectors))[:, None, :]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_the_lowest_and_the_highest_of_each_element_are_left_out():
    answers = np.array([[1.0, 9.0], [2.0, -50.0], [4.0, 1.0], [1e30, 2.0]])
    assert trimmed_mean(answers, 1).tolist() == [3.0, 1.5]
    assert trimmed_mean(answers[:3], 0).tolist() == pytest.approx([7 / 3, -40 / 3])


def test_equal_answers_are_the_mean_to_the_last_bit_whatever_one_more_says():
    one = 0.1 + 0.2
    for lie in (-1e30, 1e30, one):
        assert trimmed_mean(np.array([one, one, lie, one, one]), 1) == one


def test_answers_outside_the_trimmed_range_come_to_its_ends():
    answers = np.array([5.0, 1.0, 3.0, -1e9])
    assert clipped_to_trimmed_range(answers, 1).tolist() == [3.0, 1.0, 3.0, 1.0]
    assert clipped_to_trimmed_range(answers, 0).tolist() == answers.tolist()


def test_no_weight_is_above_the_cap_before_they_are_made_to_sum_to_one():
    found = capped_weights(np.array([6.0, 2.0, 1.0, 1.0]), 1)
    capped = np.array([1 / 3, 0.2, 0.1, 0.1])
    np.testing.assert_allclose(found, capped / capped.sum())
    np.testing.assert_allclose(capped_weights(np.array([3.0, 1.0]), 0), [0.75, 0.25])


@pytest.mark.parametrize(("n", "f"), [(2, 1), (4, 2)])
def test_so_few_answers_that_lies_could_decide_are_refused(n, f):
    with pytest.raises(QuorumLost, match=f"{n} answers cannot outvote {f}"):
        require_quorum(n, f)
    require_quorum(2 * f + 1, f)
    with pytest.raises(QuorumLost):
        fuse("mean", logits(*[1.0] * n), np.ones(n), "binary", f=f)


def test_the_mean_of_two_classes_is_that_of_the_middle_logits():
    found = fuse("mean", logits(0.5, 1.0, 2.0, -40.0), EQUAL, "binary", f=1)
    assert found.values == pytest.approx([sigmoid(0.75)])
    assert found.node_values[3] == pytest.approx([0.0], abs=1e-12)
    assert found.consensus == pytest.approx([0.75])
    plain = fuse("mean", logits(0.5, 1.0, 2.0, -40.0), EQUAL, "binary")
    assert plain.values[0] < 0.6, "the lie does not move the plain mean, so nothing is shown"


def test_the_offset_of_a_liars_class_logits_is_of_no_use_to_it():
    honest = classes([0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.6, 0.3, 0.1])
    lie = np.array([[[1e6, 1e6, 1e6 + 9]]])
    found = fuse("mean", np.concatenate([honest, lie]), EQUAL, "multiclass", f=1)
    np.testing.assert_allclose(found.probabilities[0], [0.6, 0.3, 0.1], rtol=1e-12)


def test_a_class_needs_the_votes_of_more_slots_than_may_lie():
    split = classes([0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.05, 0.05, 0.9])
    found = fuse("majority", split, np.ones(3), "multiclass")
    assert found.decisions.tolist() == [0]
    four = classes([0.7, 0.1, 0.1, 0.1], *np.full((4, 4), 0.1) + 0.6 * np.eye(4)[[1, 2, 3, 3]])
    assert fuse("majority", four[:4], EQUAL, "multiclass", f=1).decisions.tolist() == [UNDECIDED]
    found = fuse("majority", four, np.ones(5), "multiclass", f=1)
    assert found.decisions.tolist() == [3]
    assert found.consensus == pytest.approx([0.4])


def test_a_record_without_a_decision_has_shares_of_votes_and_nobody_agrees():
    four = classes(*np.full((4, 4), 0.1) + 0.6 * np.eye(4))
    found = fuse("majority", four, EQUAL, "multiclass", f=1)
    assert found.probabilities.tolist() == [[0.25] * 4]
    assert found.consensus == pytest.approx([1e-6])
    assert np.isfinite(found.values).all()


def test_an_even_split_is_decided_by_the_middle_logits_and_not_by_a_shout():
    rule = DecisionRule()
    found = fuse("majority", logits(2.0, 1.5, -0.1, -1e9), EQUAL, "binary", f=1, rule=rule)
    assert found.decisions.tolist() == [1]
    assert found.values.tolist() == [0.5]


@pytest.mark.parametrize("aggregation", ["weighted", "ensemble"])
def test_weights_pool_what_is_left_of_the_logits_after_clipping(aggregation):
    weights = np.array([6.0, 2.0, 1.0, 1.0])
    found = fuse(aggregation, logits(4.0, 1.0, 0.5, -6.0), weights, "binary", f=1)
    shares = np.array([1 / 3, 0.2, 0.1, 0.1]) / (1 / 3 + 0.4)
    expected = sigmoid(float(shares @ [1.0, 1.0, 0.5, 0.5]))
    assert found.values == pytest.approx([expected])


@pytest.mark.parametrize(
    ("aggregation", "value"),
    [("mean", 10.3), ("majority", 10.3), ("weighted", 10.2), ("ensemble", 10.2)],
)
def test_values_of_a_regression_are_bounded_likewise(aggregation, value):
    answers = logits(0.0, 0.1, 0.2, 1e30)
    weights = np.array([6.0, 2.0, 1.0, 1.0])
    found = fuse(aggregation, answers, weights, "regression", f=1, scale=TargetScale(10.0, 2.0))
    shares = np.array([1 / 3, 0.2, 0.1, 0.1]) / (1 / 3 + 0.4)
    expected = float(shares @ [10.2, 10.2, 10.4, 10.4]) if value == 10.2 else value
    assert found.values == pytest.approx([expected])
