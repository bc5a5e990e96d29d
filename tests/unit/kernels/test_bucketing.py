"""Buckets: a seeded order cut into pairs, and their means."""

import numpy as np
import pytest

from flow_nexus_neural.kernels.bucketing import bucket_means, buckets, n_buckets


@pytest.mark.parametrize("n", [1, 2, 5, 11, 12])
def test_every_vector_is_in_one_bucket_of_two_at_most(n):
    made = buckets(n, 7)
    assert sorted(k for bucket in made for k in bucket) == list(range(n))
    assert max(map(len, made)) <= 2
    assert len(made) == n_buckets(n)


def test_the_seed_decides_and_other_seeds_decide_otherwise():
    assert buckets(11, 3) == buckets(11, 3)
    assert len({str(buckets(11, seed)) for seed in range(20)}) > 15
    partners = [next(b for b in buckets(11, seed) if 0 in b) for seed in range(200)]
    assert {k for bucket in partners for k in bucket} == set(range(11))


def test_a_mean_is_that_of_its_members_and_the_inputs_stay():
    rows = [np.array([1.0, 2.0], "f4"), np.array([3.0, 6.0], "f4"), np.array([5.0, 0.0], "f4")]
    one, two = bucket_means(rows, [[0, 2], [1]])
    assert (one.tolist(), two.tolist()) == ([3.0, 1.0], [3.0, 6.0])
    assert two is not rows[1]
    assert rows[0].tolist() == [1.0, 2.0]


def test_two_of_the_largest_numbers_have_a_finite_mean():
    huge = np.full(2, np.finfo("f4").max, "f4")
    (mean,) = bucket_means([huge, huge], [[0, 1]])
    assert np.isfinite(mean).all()
