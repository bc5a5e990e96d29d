"""Who is needed for a sum of masked updates."""

from flow_nexus_neural.coordination.secure_sum import LEAST_CLIENTS, threshold_of


def test_more_than_a_half_takes_masks_off_so_that_no_two_groups_can():
    for n in range(LEAST_CLIENTS, 65):
        assert 2 * threshold_of(n) > n
        assert threshold_of(n) <= n
    assert [threshold_of(n) for n in (3, 4, 5, 8)] == [2, 3, 3, 5]
