"""A stacking network's answer in the place of a weighted mean; bounded where nodes may lie."""

import numpy as np
import pytest

from flow_nexus_neural.kernels.decision import MOST_PROBABLE
from flow_nexus_neural.kernels.ensemble import TargetScale, fuse
from flow_nexus_neural.kernels.probabilities import sigmoid
from flow_nexus_neural.kernels.stacked_fusion import with_stacked

LOGITS = np.array([[[1.0]], [[1.5]], [[2.0]], [[-9.0]]])
"""Three honest answers for class 1, and one liar."""
EQUAL = [1.0] * 4


def stacked(value, f, logits=LOGITS, task="binary", scale=None):
    fused = fuse("ensemble", logits, EQUAL, task, scale=scale, f=f)
    return with_stacked(
        fused,
        np.array([[value]]),
        EQUAL,
        expected_weight=None,
        scale=scale,
        rule=MOST_PROBABLE,
        f=f,
    )


def test_among_honest_nodes_its_answer_is_the_prediction():
    made = stacked(-4.0, 0)
    assert made.values[0] == pytest.approx(sigmoid(np.array([-4.0]))[0])
    assert made.decisions.tolist() == [0]
    assert made.consensus[0] == pytest.approx(0.25), "one slot of four decides so"


@pytest.mark.parametrize("lie", [-50.0, 50.0])
def test_where_nodes_may_lie_it_cannot_leave_the_range_of_the_honest_ones(lie):
    low, high = sigmoid(np.array([1.0, 1.5]))
    made = stacked(lie, 1)
    assert low - 1e-9 <= made.values[0] <= high + 1e-9
    assert made.decisions.tolist() == [1], "it overruled all honest nodes"


def test_without_that_bound_a_lying_aggregator_decides():
    assert stacked(-50.0, 0).decisions.tolist() == [0]


def test_a_value_is_in_the_unit_of_the_target_and_bounded_alike():
    scale = TargetScale(mean=10.0, sd=2.0, tau=0.5)
    free, bound = (stacked(5.0, f, task="regression", scale=scale) for f in (0, 1))
    assert free.values.tolist() == [20.0]
    assert bound.values.tolist() == [13.0], "the largest answer without the highest one"
    assert bound.consensus[0] == pytest.approx(0.75), "same sign, or within tau"


def test_probabilities_of_classes_sum_to_one_after_the_bound():
    logits = np.array([[[2.0, 0.0, 0.0]], [[1.0, 0.0, 0.5]], [[2.0, 1.0, 0.0]], [[0.0, 9.0, 0.0]]])
    fused = fuse("ensemble", logits, EQUAL, "multiclass", f=1)
    made = with_stacked(
        fused,
        np.array([[0.0, 0.0, 30.0]]),
        EQUAL,
        expected_weight=None,
        scale=None,
        rule=MOST_PROBABLE,
        f=1,
    )
    assert made.probabilities.sum() == pytest.approx(1.0)
    assert made.decisions.tolist() == [0]


UNANIMOUS = np.log(
    [[[0.35, 0.33, 0.32]], [[0.36, 0.34, 0.30]], [[0.60, 0.39, 0.01]], [[0.5, 0.4, 0.1]]]
)
SPLIT = np.log(
    [[[0.36, 0.34, 0.30]], [[0.36, 0.35, 0.29]], [[0.60, 0.39, 0.01]], [[0.1, 0.8, 0.1]]]
)


@pytest.mark.parametrize("answers", [UNANIMOUS, SPLIT], ids=["all honest", "one slot lies too"])
def test_a_lying_aggregator_does_not_overturn_the_vote_of_all_honest_nodes_on_three_classes(
    answers,
):
    for f, decided in ((1, 0), (0, 1)):
        fused = fuse("ensemble", answers, EQUAL, "multiclass", f=f)
        lie = np.array([[-20.0, 20.0, 0.0]])
        made = with_stacked(
            fused, lie, EQUAL, expected_weight=None, scale=None, rule=MOST_PROBABLE, f=f
        )
        assert made.decisions.tolist() == [decided], f"f={f}"
        assert made.probabilities.argmax(axis=1).tolist() == [decided]
    assert made.probabilities.sum() == pytest.approx(1.0)


def test_of_three_classes_an_aggregator_decides_between_those_that_honest_nodes_vote_for():
    answers = np.log(
        [[[0.6, 0.3, 0.1]], [[0.55, 0.35, 0.1]], [[0.3, 0.6, 0.1]], [[0.35, 0.55, 0.1]]]
    )
    for told, decided in (([5.0, 0.0, 0.0], 0), ([0.0, 5.0, 0.0], 1)):
        fused = fuse("ensemble", answers, EQUAL, "multiclass", f=1)
        made = with_stacked(
            fused,
            np.array([told]),
            EQUAL,
            expected_weight=None,
            scale=None,
            rule=MOST_PROBABLE,
            f=1,
        )
        assert made.decisions.tolist() == [decided]
