import pytest

from flow_nexus_neural.coordination.early_stop import MIN_GAIN, rounds_without_gain


@pytest.mark.parametrize(
    ("losses", "rounds"),
    [
        ([], 0),
        ([None, None], 0),
        ([0.7], 0),
        ([0.7, 0.6, 0.5], 0),
        ([0.7, 0.5, 0.6, 0.5], 2),
        ([0.7, 0.8, 0.9, 0.4], 0),
        ([0.7, None, 0.7], 2),
        ([0.0, 0.0, 0.0], 2),
    ],
)
def test_rounds_are_counted_since_the_loss_was_last_lowered(losses, rounds):
    assert rounds_without_gain(losses) == rounds


def test_a_gain_is_a_share_of_the_loss_whatever_its_unit():
    for unit in (1e-6, 1.0, 1e6):
        assert rounds_without_gain([unit, unit * (1 - 0.9 * MIN_GAIN)]) == 1
        assert rounds_without_gain([unit, unit * (1 - 1.1 * MIN_GAIN)]) == 0


def test_small_gains_add_up():
    slow = [(1 - 0.3 * MIN_GAIN) ** number for number in range(40)]
    assert rounds_without_gain(slow) < 4
