"""FLTrust by hand: who points away counts for nothing, who is long counts as long as the trusted one."""

import numpy as np
import pytest

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.trusted_update import trust_weighted

TRUSTED = np.array([3.0, 4.0], "f4")


def vectors(*rows):
    return [np.array(row, "f4") for row in rows]


def test_the_published_formula():
    rows = vectors([10.0, 0.0], [0.0, 0.5], [-3.0, -4.0])
    cosines = np.array([0.6, 0.8, 0.0])
    weights = cosines / cosines.sum()
    expected = 5 * (weights[0] * np.array([1.0, 0.0]) + weights[1] * np.array([0.0, 1.0]))
    made = trust_weighted(rows, TRUSTED)
    np.testing.assert_allclose(made.vector, expected, rtol=1e-6)
    np.testing.assert_allclose(made.weights, weights)


@pytest.mark.parametrize("lie", [1e30, -1e30, 3e38])
def test_however_long_the_lies_the_result_is_no_longer_than_the_trusted_vector(lie):
    draw = np.random.default_rng(3)
    rows = [*draw.normal(size=(3, 50)).astype("f4"), *[np.full(50, lie, "f4")] * 9]
    trusted = draw.normal(size=50).astype("f4")
    made = trust_weighted(rows, trusted)
    assert np.isfinite(made.vector).all()
    assert np.linalg.norm(made.vector) <= np.linalg.norm(trusted) * (1 + 1e-5)


def test_where_nobody_points_its_way_the_trusted_vector_is_the_result():
    made = trust_weighted(vectors([-3.0, -4.0], [0.0, 0.0], [-1.0, 0.0]), TRUSTED)
    assert made.vector.tolist() == TRUSTED.tolist()
    assert made.weights.tolist() == [0, 0, 0]


def test_a_vector_that_is_not_finite_counts_for_nothing_and_is_named():
    made = trust_weighted(vectors([np.nan, 1.0], [3.0, 4.0], [np.inf, 0.0]), TRUSTED)
    assert made.vector == pytest.approx(TRUSTED)
    assert (made.weights.tolist(), made.dropped) == ([0, 1, 0], (0, 2))
    with pytest.raises(QuorumLost, match="trusted rows is not finite"):
        trust_weighted(vectors([3.0, 4.0]), np.array([np.nan, 0.0], "f4"))


def test_a_trusted_vector_without_length_moves_nothing():
    made = trust_weighted(vectors([1.0, 1.0]), np.zeros(2, "f4"))
    assert made.vector.tolist() == [0, 0]
