"""Slots weigh by what they lose, never less than a floor, and by equal shares where nothing is known."""

import math

import pytest

from flow_nexus_neural.kernels.loss_weights import loss_weights


def test_weights_follow_the_exponential_of_the_loss():
    weights = loss_weights([0.5, 0.6])
    assert weights == pytest.approx([1 / (1 + math.exp(-1)), math.exp(-1) / (1 + math.exp(-1))])


def test_equal_losses_give_equal_weights_and_so_does_knowing_nothing():
    assert loss_weights([0.4] * 5) == pytest.approx([0.2] * 5)
    assert loss_weights([None] * 5) == pytest.approx([0.2] * 5)
    assert loss_weights([math.nan] * 5) == pytest.approx([0.2] * 5)


def test_a_bad_slot_keeps_the_floor_before_renormalising():
    weights = loss_weights([0.1, 99.0])
    assert weights == pytest.approx([1 / 1.05, 0.05 / 1.05])
    many = loss_weights([0.1] + [99.0] * 19)  # 1 / (2 K) = .025 < .05
    assert many[1] == pytest.approx(0.025 / (1 + 19 * 0.025))


def test_a_slot_without_a_loss_gets_its_equal_share():
    weights = loss_weights([0.5, None, 0.6, 0.5])
    assert weights[1] == pytest.approx(0.25)
    assert weights[0] == weights[3] > weights[2]
    assert weights.sum() == pytest.approx(1.0)


def test_an_infinite_loss_is_worse_than_an_unknown_one():
    weights = loss_weights([0.5, None, math.inf])
    assert weights[2] < weights[1] < weights[0]


def test_no_slots_have_no_weights():
    assert loss_weights([]).shape == (0,)
