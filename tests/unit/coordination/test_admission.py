"""A new model answers only if it is better by more than chance explains."""

import numpy as np
import pytest

from flow_nexus_neural.coordination.admission import compare_losses


def test_by_hand():
    found = compare_losses([1.0, 1.0, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0])
    assert (found.before, found.after) == (1.0, 0.5)
    assert found.standard_error == pytest.approx(np.std([1, 0.5, 0.5, 0], ddof=1) / 2)
    assert found.admitted
    assert found.reason.startswith("admitted: loss 0.5 of the new model against 1 of the former")


@pytest.mark.parametrize(
    ("before", "after"),
    [([0.5, 0.5], [0.5, 0.5]), ([0.4, 0.4], [0.5, 0.5]), ([0.0, 1.0], [1.0, -0.1])],
)
def test_equal_worse_and_uncertain_models_are_refused(before, after):
    assert not compare_losses(before, after).admitted


def test_equal_models_are_rarely_admitted_by_chance_and_better_ones_almost_always():
    draw = np.random.Generator(np.random.PCG64(1))
    noise = draw.normal(size=(400, 2, 50))
    by_chance = sum(compare_losses(a, b).admitted for a, b in noise)
    assert by_chance < 0.25 * 400
    better = sum(compare_losses(a + 1.0, b).admitted for a, b in noise)
    assert better > 0.99 * 400


def test_losses_of_other_rows_cannot_be_compared():
    for before, after in (([1.0], [1.0]), ([1.0, 2.0], [1.0])):
        with pytest.raises(ValueError, match="cannot be compared"):
            compare_losses(before, after)
