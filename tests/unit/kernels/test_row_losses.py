"""Losses row by row, by hand."""

import math

import numpy as np
import pytest

from flow_nexus_neural.kernels.row_losses import LARGEST, row_losses


def test_two_classes_by_one_logit():
    found = row_losses(np.array([[0.0], [2.0]], "f4"), np.array([1.0, 0.0], "f4"), "binary")
    assert found == pytest.approx([math.log(2), math.log(1 + math.exp(2))])


def test_several_classes_by_their_logits():
    logits = np.log(np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]]))
    found = row_losses(logits, np.array([0, 1]), "multiclass")
    assert found == pytest.approx([-math.log(0.7), -math.log(0.1)])


def test_values_by_the_squared_error():
    found = row_losses(np.array([[1.0], [2.0]]), np.array([1.5, 2.0], "f4"), "regression")
    assert found == pytest.approx([0.25, 0.0])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30, -3e38])
def test_a_useless_model_loses_the_most_and_never_infinitely_much(bad):
    found = row_losses(np.array([[bad], [0.5]], "f4"), np.array([0.5, 0.5], "f4"), "regression")
    assert found.tolist() == [LARGEST, 0.0]
    classes = row_losses(np.array([[bad, 0.0, 0.0]]), np.array([1]), "multiclass")
    assert 0 <= classes[0] <= LARGEST
