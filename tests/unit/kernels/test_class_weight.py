import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from flow_nexus_neural.kernels.class_weight import (
    balanced_weights,
    threshold_of,
    without_class_weight,
)
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.kernels.probabilities import class_log_probabilities, class_logits
from flow_nexus_neural.vocabulary import THRESHOLD


def test_balanced_weights_are_those_of_an_independent_implementation():
    y = np.repeat([0, 1, 2], [50, 3, 7])
    expected = compute_class_weight("balanced", classes=np.unique(y), y=y)
    found = balanced_weights(np.bincount(y))
    assert found == pytest.approx(expected)
    assert np.asarray(found)[y].mean() == pytest.approx(1.0)


def test_a_class_without_rows_cannot_be_balanced():
    with pytest.raises(ValueError, match="cannot be balanced"):
        balanced_weights(np.array([3, 0]))


@pytest.mark.parametrize("weights", [(0.5, 8.0), (1.0, 4.0, 0.25)])
def test_the_probabilities_of_the_data_come_back_from_those_of_the_weighted_distribution(weights):
    p = np.random.default_rng(2).dirichlet(np.ones(len(weights)), 20)
    weighted = p * weights / (p * weights).sum(axis=1, keepdims=True)
    back = np.exp(class_log_probabilities(without_class_weight(class_logits(weighted), weights)))
    assert back == pytest.approx(p)


def test_without_weights_and_with_equal_ones_nothing_changes():
    x = np.random.default_rng(3).standard_normal((4, 1))
    for weights in ((), (1.0, 1.0), (7.0, 7.0)):
        assert without_class_weight(x, weights).tolist() == x.tolist()


def test_the_threshold_of_weights_decides_as_half_of_the_weighted_distribution_does():
    weights, p = (0.5, 8.0), np.linspace(0.001, 0.999, 999)
    weighted = p * weights[1] / (p * weights[1] + (1 - p) * weights[0])
    rule = DecisionRule(threshold=threshold_of(weights))
    assert rule.decide(np.stack([1 - p, p], axis=1)).tolist() == (weighted >= 0.5).tolist()


def test_the_threshold_stays_where_it_can_decide():
    assert threshold_of(()) == threshold_of((3.0, 3.0)) == 0.5
    assert threshold_of((1e-6, 1e6)) == THRESHOLD.low
    assert threshold_of((1e6, 1e-6)) == THRESHOLD.high
