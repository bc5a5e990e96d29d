import numpy as np
import pytest

from flow_nexus_neural.kernels.probabilities import (
    class_log_probabilities,
    class_logits,
    log_softmax,
    logit,
    sigmoid,
    softmax,
)


def test_sigmoid_and_logit_undo_each_other():
    x = np.linspace(-13, 13, 53)
    assert logit(sigmoid(x)) == pytest.approx(x, abs=1e-9)


def test_sigmoid_of_huge_logits_is_zero_or_one():
    assert sigmoid(np.array([-1e300, 0.0, 1e300])).tolist() == [0.0, 0.5, 1.0]


def test_logit_is_clipped_one_millionth_from_the_ends():
    edge = np.log((1 - 1e-6) / 1e-6)
    assert logit(np.array([0.0, 1.0])) == pytest.approx([-edge, edge])


def test_softmax_is_unchanged_by_a_shift_and_survives_huge_logits():
    x = np.array([[1.0, 2.0, 3.0]])
    assert softmax(x + 1000) == pytest.approx(softmax(x))
    assert softmax(np.array([[1e300, 0.0]])).tolist() == [[1.0, 0.0]]
    assert log_softmax(np.array([[1e3, 0.0]])).tolist() == [[0.0, -1000.0]]


def test_a_single_logit_stands_for_two_classes():
    x = np.array([[0.3], [-40.0], [800.0]])
    pair = class_log_probabilities(x)
    assert pair.shape == (3, 2)
    assert np.exp(pair[:, 1]) == pytest.approx(sigmoid(x[:, 0]))
    assert pair[2, 0] == -800.0
    assert np.exp(pair).sum(axis=1) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("classes", [2, 5])
def test_logits_of_probabilities_give_the_probabilities_again(classes):
    p = np.random.Generator(np.random.PCG64(2)).dirichlet(np.ones(classes), size=(3, 4))
    logits = class_logits(p)
    assert logits.shape == (3, 4, 1 if classes == 2 else classes)
    assert np.exp(class_log_probabilities(logits)) == pytest.approx(p, rel=1e-9)
    assert np.isfinite(class_logits(np.eye(classes))).all()
