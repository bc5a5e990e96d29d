import numpy as np
import pytest

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.bulyan import bulyan
from tests.unit.kernels.test_robust import GOLDEN, HONEST


def slow_bulyan(x, f):
    """As the paper says it, in float64 and loops."""
    n, left, chosen = len(x), list(range(len(x))), []
    while len(chosen) < n - 2 * f:
        scores = []
        for i in left:
            near = sorted(((x[i] - x[j]) ** 2).sum() for j in left if j != i)
            scores.append(sum(near[: len(left) - f - 1]))
        chosen.append(left.pop(int(np.argmin(scores))))
    selected = np.sort(x[chosen], axis=0)
    median = np.median(selected, axis=0)
    result = []
    for column, middle in zip(selected.T, median, strict=True):
        result.append(sorted(column, key=lambda v: abs(v - middle))[: n - 4 * f])
    return np.mean(result, axis=1), sorted(chosen)


@pytest.mark.parametrize("f", [0, 1, 2])
def test_it_equals_a_slow_one_in_float64(f):
    vectors = GOLDEN["vectors"]
    expected, chosen = slow_bulyan(vectors.astype(np.float64), f)
    found = bulyan(list(vectors), f)
    assert np.allclose(found.vector, expected, atol=1e-5)
    assert sorted(set(range(11)) - set(found.left_out)) == chosen
    assert found.weights is None


def test_a_large_change_of_one_coordinate_does_not_hide_in_a_small_distance():
    honest = HONEST.astype(np.float32)
    liar = honest.mean(axis=0)
    liar[7] += 5  # short beside the spread of 1,000 coordinates: Krum would choose it
    found = bulyan([liar, liar, *honest], 2).vector
    assert abs(found[7] - honest[:, 7].mean()) < np.ptp(honest[:, 7])


def test_too_few_finite_vectors_are_refused_with_the_condition():
    vectors = [np.full(3, np.nan, np.float32), *[np.ones(3, np.float32)] * 10]
    with pytest.raises(QuorumLost, match="needs 11 finite updates for 2 faulty ones, and has 10"):
        bulyan(vectors, 2)
    assert bulyan(vectors, 1).dropped == (0,)
    with pytest.raises(ValueError, match="shape"):
        bulyan([], 0)
