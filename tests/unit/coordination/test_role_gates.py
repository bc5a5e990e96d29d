"""A role's network is used only where rows that it was not fitted on say that it helps."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.role_gates import LEAST_ROWS, better, closed, near


def losses(gain, spread, n=100):
    """Losses of a network and of its rival, whose paired difference has this mean and standard deviation."""
    rival = np.full(n, 1.0)
    return rival - gain + spread * np.where(np.arange(n) % 2, 1.0, -1.0), rival


def test_a_gain_of_more_than_one_standard_error_opens_the_gate():
    gate = better(*losses(0.15, 1.0))
    assert (gate.used, gate.reason, gate.rows) == (True, None, 100)
    assert gate.own == pytest.approx(0.85)
    assert gate.rival == pytest.approx(1.0)
    assert gate.standard_error == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("gain", [0.09, 0.0, -0.5])
def test_less_than_that_does_not_and_both_numbers_are_told(gain):
    gate = better(*losses(gain, 1.0))
    assert not gate.used
    assert "standard error" in gate.reason
    assert (gate.own, gate.rival) == (pytest.approx(1 - gain), pytest.approx(1.0))


def test_equal_losses_are_no_gain():
    assert not better(np.ones(80), np.ones(80)).used
    assert not better(np.ones(80), np.ones(80), 0.0).used


def test_a_few_rows_show_nothing():
    own, rival = losses(0.9, 0.0, LEAST_ROWS - 1)
    assert not better(own, rival).used
    assert not near(1.0, 1.0, LEAST_ROWS - 1, higher_is_better=True).used


@pytest.mark.parametrize(
    ("own", "rival", "higher", "used"),
    [
        (0.90, 0.92, True, True),
        (0.89, 0.92, True, False),
        (0.95, 0.92, True, True),
        (0.31, 0.30, False, True),
        (0.33, 0.30, False, False),
    ],
)
def test_a_student_may_be_two_points_behind_its_teacher(own, rival, higher, used):
    gate = near(own + 1e-12 * (1 if higher else -1), rival, 200, higher_is_better=higher)
    assert gate.used is used
    assert (gate.reason is None) is used


def test_a_gate_may_be_closed_without_a_comparison():
    assert closed("why").used is False
    assert closed("why").own is None
