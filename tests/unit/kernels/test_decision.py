import numpy as np
import pytest

from flow_nexus_neural.kernels.decision import MOST_PROBABLE, TIE, DecisionRule


def pairs(*ones):
    one = np.array(ones)
    return np.stack([1 - one, one], axis=-1)


def test_class_one_is_decided_from_the_threshold_on():
    rule = DecisionRule(threshold=0.3)
    assert rule.decide(pairs(0.29, 0.3 - TIE / 2, 0.3, 0.9)).tolist() == [0, 1, 1, 1]
    assert MOST_PROBABLE.decide(pairs(0.3, 0.5)).tolist() == [0, 1]


def test_of_two_classes_the_threshold_decides_alone():
    rule = DecisionRule(threshold=0.3, class_weight=(100.0, 1.0))
    assert rule.decide(pairs(0.4)).tolist() == [1]


def test_of_more_classes_the_largest_product_of_weight_and_probability_decides():
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    assert DecisionRule().decide(p).tolist() == [0, 1]
    assert DecisionRule(class_weight=(1.0, 1.0, 7.0)).decide(p).tolist() == [2, 2]
    assert DecisionRule(class_weight=(5.0, 5.0, 5.0)).decide(p).tolist() == [0, 1]


def test_equal_classes_go_to_the_first_whatever_the_scale_of_the_weights():
    p = np.array([0.2, 0.4, 0.4])
    for scale in (1.0, 1e6):
        rule = DecisionRule(class_weight=(2 * scale, scale, scale))
        assert rule.decide(p[None] + np.array([0, 0, 1e-15])).tolist() == [0]


def test_decisions_have_the_shape_of_the_votes_of_several_nodes():
    p = pairs(*np.linspace(0, 1, 6)).reshape(2, 3, 2)
    assert DecisionRule(0.3).decide(p).tolist() == [[0, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("task_classes", [2, 3])
def test_no_weights_and_equal_weights_decide_alike(task_classes):
    p = np.random.default_rng(1).dirichlet(np.ones(task_classes), 50)
    equal = DecisionRule(class_weight=(3.0,) * task_classes)
    assert equal.decide(p).tolist() == p.argmax(axis=1).tolist()
