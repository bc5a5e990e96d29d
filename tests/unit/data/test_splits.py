import itertools

import numpy as np
import pytest

from flow_nexus_neural.data.splits import (
    PARTS,
    SplitRule,
    split_by_time,
    split_stratified,
)
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments, InvalidDataset


def two_symbols(length):
    time = np.tile(np.arange(length, dtype=np.float64), 2)
    series = np.repeat([0, 1], length)
    return np.arange(2 * length), time, series


def sizes(split):
    return {part: len(split.rows[part]) for part in PARTS}


def test_two_symbols_of_two_thousand_rows_split_as_documented():
    split = split_by_time(*two_symbols(2_000), SplitRule(0, gap=1))
    assert list(sizes(split).values()) == [2478, 318, 398, 278, 198, 320]
    assert split.purged == 10


def test_no_label_of_a_part_reaches_into_a_later_part():
    rows, time, series = two_symbols(1_500)
    for gap in (1, 5, 33):
        split = split_by_time(rows, time, series, SplitRule(0, gap=gap))
        for earlier, later in itertools.pairwise(PARTS):
            last = {time[row] + gap for row in split.rows[earlier]}
            assert max(last) < time[split.rows[later]].min()


def test_parts_follow_each_other_in_time_even_when_rows_come_shuffled():
    rng = np.random.Generator(np.random.PCG64(3))
    time = rng.permutation(3_000).astype(np.float64)
    split = split_by_time(np.arange(3_000), time, np.zeros(3_000, dtype=np.int64), SplitRule(0))
    assert sum(sizes(split).values()) == 3_000
    for earlier, later in itertools.pairwise(PARTS):
        assert time[split.rows[earlier]].max() < time[split.rows[later]].min()
    assert (np.diff(time[split.rows["train"]]) > 0).all()


def test_rows_of_one_moment_are_never_divided():
    time = np.repeat(np.arange(300.0), 10)
    split = split_by_time(np.arange(3_000), time, np.arange(3_000) % 10, SplitRule(0))
    moments = [set(time[split.rows[part]]) for part in PARTS]
    assert sum(len(own) for own in moments) == len(set().union(*moments))


def test_an_embargo_drops_the_first_rows_after_each_cut():
    rows, time, series = two_symbols(2_000)
    plain = split_by_time(rows, time, series, SplitRule(0))
    held = split_by_time(rows, time, series, SplitRule(0, embargo=7))
    assert time[held.rows["test"]].min() == time[plain.rows["test"]].min() + 7
    assert held.purged == 5 * 7 * 2


def test_walk_forward_trains_before_and_tests_after_the_last_fold():
    rows = np.arange(3_000)
    split = split_by_time(
        rows, rows.astype(np.float64), np.zeros(3_000, dtype=np.int64), SplitRule(0, folds=5)
    )
    assert split.rows["test"].tolist() == list(range(2_500, 3_000))
    assert split.rows["train"].max() < 2_500
    assert any("not" in warning and "one by one" in warning for warning in split.warnings)


def test_a_walk_forward_split_needs_an_order():
    with pytest.raises(InvalidArguments, match="time order"):
        split_stratified(np.arange(100), np.zeros(100, dtype=np.int64), SplitRule(0, folds=3))


def test_every_part_keeps_the_shares_of_the_classes():
    strata = np.repeat([0, 1, 2], [2_000, 800, 200])
    split = split_stratified(np.arange(3_000), strata, SplitRule(4))
    assert list(sizes(split).values()) == [1860, 240, 300, 210, 150, 240]
    for part in PARTS:
        shares = np.bincount(strata[split.rows[part]], minlength=3) / len(split.rows[part])
        assert np.abs(shares - [2 / 3, 0.8 / 3, 0.2 / 3]).max() < 0.01


def test_the_draw_follows_the_seed_and_loses_no_row():
    strata = np.arange(5_000) % 7
    first, again, other = (
        split_stratified(np.arange(5_000), strata, SplitRule(seed)) for seed in (1, 1, 2)
    )
    assert all((first.rows[part] == again.rows[part]).all() for part in PARTS)
    assert (first.rows["test"] != other.rows["test"]).any()
    assert sorted(np.concatenate(list(first.rows.values()))) == list(range(5_000))


def test_fewer_than_two_thousand_rows_train_and_test_only_and_say_so():
    split = split_stratified(np.arange(200), np.zeros(200, dtype=np.int64), SplitRule(0))
    assert list(sizes(split).values()) == [160, 0, 0, 0, 0, 40]
    assert any("train and test only" in warning for warning in split.warnings)


def test_fewer_than_thirty_rows_are_too_few():
    with pytest.raises(DataTooSmall, match="29 usable rows"):
        split_stratified(np.arange(29), np.zeros(29, dtype=np.int64), SplitRule(0))


def test_rows_that_the_source_reserves_are_the_test_and_nothing_else_is():
    in_test = np.arange(3_000) % 10 == 0
    split = split_stratified(
        np.arange(3_000), np.zeros(3_000, dtype=np.int64), SplitRule(0), in_test
    )
    assert split.rows["test"].tolist() == np.flatnonzero(in_test).tolist()
    assert len(split.rows["train"]) == round(2_700 * 62 / 92)


def test_a_test_part_that_is_not_later_than_train_is_reported():
    rows = np.arange(100)
    in_test = rows < 20
    split = split_by_time(rows, rows.astype(float), np.zeros(100, dtype=int), SplitRule(0), in_test)
    assert any("not earlier than the first test row" in warning for warning in split.warnings)


def test_one_moment_for_all_rows_cannot_be_cut():
    with pytest.raises(InvalidDataset, match="distinct times"):
        split_by_time(np.arange(100), np.zeros(100), np.zeros(100, dtype=int), SplitRule(0))
