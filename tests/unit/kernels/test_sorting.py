from itertools import product

import numpy as np
import pytest

from flow_nexus_neural.kernels.sorting import network, sorted_rows


@pytest.mark.parametrize("n", range(1, 12))
def test_a_network_sorts_every_sequence_of_zeros_and_ones(n):
    """By the zero-one principle it then sorts everything."""
    columns = np.array(list(product([0, 1], repeat=n)), dtype=np.float32).T.copy()
    expected = np.sort(columns, axis=0)
    rows = sorted_rows(columns, range(n), np.empty_like(columns[0]))
    assert np.array_equal(np.array(rows), expected)


@pytest.mark.parametrize("n", range(1, 12))
def test_a_pruned_network_still_finds_the_middle(n):
    columns = np.array(list(product([0, 1], repeat=n)), dtype=np.float32).T.copy()
    expected = np.sort(columns, axis=0)
    middle = {(n - 1) // 2, n // 2}
    rows = sorted_rows(columns, middle, np.empty_like(columns[0]))
    for k in middle:
        assert np.array_equal(rows[k], expected[k])


@pytest.mark.parametrize(
    ("n", "all_ranks", "median"),
    [(5, 9, 8), (8, 19, 17), (11, 37, 31), (16, 63, 53), (32, 191, 157)],
)
def test_networks_have_the_published_size(n, all_ranks, median):
    assert len(network(n, frozenset(range(n)))) == all_ranks
    assert len(network(n, frozenset({(n - 1) // 2, n // 2}))) == median
