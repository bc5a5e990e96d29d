"""How many rows each part gets."""

import pytest

from flow_nexus_neural.data.part_sizes import (
    PARTS,
    SplitRule,
    first_of_last_blocks,
    possible_starts,
    rows_of_size,
)
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments


def sizes(rows, reserved=None, **rule):
    """Rows per part, as they are preferred."""
    starts = possible_starts(rows, SplitRule(0, **rule), reserved)[0]
    ends = (*starts[1:], rows - (reserved or 0))
    return [end - start for start, end in zip(starts, ends, strict=True)]


@pytest.mark.parametrize(
    ("size", "rows", "meant"),
    [(0.2, 500, 100), (0.29, 100, 29), (0.001, 100, 1), (1, 100, 1), (40.0, 30, 40), (0, 100, 0)],
)
def test_a_size_below_one_is_a_share_and_any_other_a_number_of_rows(size, rows, meant):
    assert rows_of_size(size, rows) == meant


def test_no_row_is_kept_for_a_purpose_that_does_not_exist():
    assert sizes(10_000) == [7900, 800, 0, 0, 500, 800]
    assert sizes(10_000, stacking=True) == [6900, 800, 1000, 0, 500, 800]
    assert sizes(10_000, verifying=True) == [7200, 800, 0, 700, 500, 800]
    assert sizes(10_000, stacking=True, verifying=True) == [6200, 800, 1000, 700, 500, 800]
    assert PARTS[3] == "verify"


@pytest.mark.parametrize("rows", [30, 199, 200, 1_999])
def test_below_two_thousand_rows_a_second_network_changes_nothing(rows):
    assert sizes(rows, stacking=True) == sizes(rows)


def test_a_given_size_is_exact_and_the_other_parts_keep_their_proportions():
    assert sizes(10_000, test_size=0.31) == [5925, 600, 0, 0, 375, 3100]
    assert sizes(10_000, validation_size=0) == [8652, 0, 0, 0, 548, 800]
    assert sizes(10_000, validation_size=800) == sizes(10_000)
    assert sizes(1_000, test_size=0.5, validation_size=0.25) == [250, 250, 0, 0, 0, 500]
    assert sizes(100, validation_size=10) == [70, 10, 0, 0, 0, 20]
    assert sizes(100, test_size=1) == [99, 0, 0, 0, 0, 1]


def test_reserved_rows_are_the_test_and_sizes_divide_the_others():
    assert sizes(1_000, reserved=500) == [450, 50, 0, 0, 0, 0]
    assert sizes(1_000, reserved=500, validation_size=0.2) == [400, 100, 0, 0, 0, 0]


@pytest.mark.parametrize("rule", [{"test_size": 0.2}, {"folds": 3}])
def test_a_test_part_cannot_be_cut_beside_reserved_rows(rule):
    with pytest.raises(InvalidArguments, match="the data have 500 test rows of their own"):
        sizes(1_000, reserved=500, **rule)


def test_sizes_that_leave_nothing_to_train_on_are_named():
    with pytest.raises(
        InvalidArguments, match=r"test_size=60 and validation_size=0\.4 leave no row"
    ):
        sizes(100, test_size=60, validation_size=0.4)
    with pytest.raises(
        InvalidArguments, match="test_size=100 leave no row to train on: there are 50"
    ):
        sizes(50, test_size=100)


def test_fewer_than_thirty_rows_are_too_few_whatever_sizes_are_given():
    with pytest.raises(DataTooSmall, match="29 usable rows"):
        sizes(29, test_size=1)


def test_the_last_fold_of_equal_blocks_has_the_last_block():
    assert [first_of_last_blocks(1_000, 4, number, None) for number in range(1, 6)] == [
        200, 400, 600, 800, 1_000,
    ]  # fmt: skip
    assert sizes(1_000, folds=4) == [720, 80, 0, 0, 0, 200]
    assert [first_of_last_blocks(1_000, 3, number, 50) for number in range(1, 5)] == [
        850, 900, 950, 1_000,
    ]  # fmt: skip
