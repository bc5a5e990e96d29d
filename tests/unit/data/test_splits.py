import itertools

import numpy as np
import pytest

from flow_nexus_neural.data.part_sizes import PARTS, SELECT_ROWS, SHARES, SplitRule
from flow_nexus_neural.data.splits import split_by_time, split_stratified
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments, InvalidDataset
from flow_nexus_neural.vocabulary import MIN_ROWS

USED = ("train", "select", "calib", "test")


def two_symbols(length):
    time = np.tile(np.arange(length, dtype=np.float64), 2)
    series = np.repeat([0, 1], length)
    return np.arange(2 * length), time, series


def sizes(split):
    return {part: len(split.rows[part]) for part in PARTS}


def test_two_symbols_of_two_thousand_rows_split_as_documented():
    split = split_by_time(*two_symbols(2_000), SplitRule(0, gap=1))
    assert list(sizes(split).values()) == [3158, 318, 0, 0, 198, 320]
    assert split.purged == 6
    stacked = split_by_time(*two_symbols(2_000), SplitRule(0, gap=1, stacking=True))
    assert list(sizes(stacked).values()) == [2758, 318, 398, 0, 198, 320]
    assert stacked.purged == 8


def test_no_label_of_a_part_reaches_into_a_later_part():
    rows, time, series = two_symbols(1_500)
    for gap in (1, 5, 33):
        split = split_by_time(rows, time, series, SplitRule(0, gap=gap))
        for earlier, later in itertools.pairwise(USED):
            last = {time[row] + gap for row in split.rows[earlier]}
            assert max(last) < time[split.rows[later]].min()


def test_parts_follow_each_other_in_time_even_when_rows_come_shuffled():
    rng = np.random.Generator(np.random.PCG64(3))
    time = rng.permutation(3_000).astype(np.float64)
    split = split_by_time(np.arange(3_000), time, np.zeros(3_000, dtype=np.int64), SplitRule(0))
    assert sum(sizes(split).values()) == 3_000
    for earlier, later in itertools.pairwise(USED):
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
    assert held.purged == 3 * 7 * 2


def test_walk_forward_trains_before_and_tests_after_the_last_fold():
    rows = np.arange(3_000)
    split = split_by_time(
        rows, rows.astype(np.float64), np.zeros(3_000, dtype=np.int64), SplitRule(0, folds=5)
    )
    assert split.rows["test"].tolist() == list(range(2_500, 3_000))
    assert split.rows["train"].max() < 2_500


def test_a_walk_forward_split_needs_an_order():
    with pytest.raises(InvalidArguments, match="time order"):
        split_stratified(np.arange(100), np.zeros(100, dtype=np.int64), SplitRule(0, folds=3))


def test_every_part_keeps_the_shares_of_the_classes():
    strata = np.repeat([0, 1, 2], [2_000, 800, 200])
    split = split_stratified(np.arange(3_000), strata, SplitRule(4))
    assert list(sizes(split).values()) == [2370, 240, 0, 0, 150, 240]
    for part in USED:
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


def test_fewer_than_two_thousand_rows_train_select_and_test_only_and_say_so():
    split = split_stratified(np.arange(1_999), np.arange(1_999) % 2, SplitRule(0))
    assert list(sizes(split).values()) == [1439, 160, 0, 0, 0, 400]
    assert split.warnings == [
        (
            "1999 rows are below 2000: they are split into train, select and test only, without rows for"
            " calibration"
        )
    ]


def test_two_hundred_rows_have_a_select_part_and_one_less_has_none():
    strata = np.zeros(200, dtype=np.int64)
    enough = split_stratified(np.arange(200), strata, SplitRule(0))
    assert list(sizes(enough).values()) == [144, 16, 0, 0, 0, 40]
    assert not any("no validation loss" in warning for warning in enough.warnings)
    few = split_stratified(np.arange(199), strata, SplitRule(0))
    assert list(sizes(few).values()) == [159, 0, 0, 0, 0, 40]
    assert few.warnings == [
        (
            "199 rows are below 2000: they are split into train and test only, without rows for selection"
            " and calibration"
        ),
        "there is no validation loss and no best round: 199 rows are below 200",
    ]


def test_the_select_part_of_few_rows_is_taken_from_train_and_not_from_test(monkeypatch):
    strata = np.arange(300) % 3
    with_select = split_stratified(np.arange(300), strata, SplitRule(5))
    monkeypatch.setitem(SHARES, SELECT_ROWS, SHARES[MIN_ROWS])
    without = split_stratified(np.arange(300), strata, SplitRule(5))
    assert with_select.rows["test"].tolist() == without.rows["test"].tolist()
    both = np.concatenate([with_select.rows["train"], with_select.rows["select"]])
    assert sorted(both.tolist()) == sorted(without.rows["train"].tolist())


def test_few_rows_in_time_order_select_between_train_and_test():
    rows = np.arange(500)
    split = split_by_time(rows, rows.astype(float), np.zeros(500, dtype=int), SplitRule(0, gap=3))
    assert split.rows["train"].tolist() == list(range(357))
    assert split.rows["select"].tolist() == list(range(360, 397))
    assert split.rows["test"].tolist() == list(range(400, 500))
    assert split.purged == 6


def test_a_walk_forward_split_of_few_rows_selects_before_the_last_fold():
    rows = np.arange(500)
    rule = SplitRule(0, folds=4)
    split = split_by_time(rows, rows.astype(float), np.zeros(500, dtype=int), rule)
    assert list(sizes(split).values()) == [360, 40, 0, 0, 0, 100]
    assert split.rows["select"].tolist() == list(range(360, 400))
    assert any("into train, select and test only" in warning for warning in split.warnings)


@pytest.mark.parametrize("rule", [SplitRule(0, gap=20), SplitRule(0, embargo=20)])
def test_a_select_part_that_its_gaps_would_empty_is_not_cut_from_train(rule):
    rows = np.arange(200)
    split = split_by_time(rows, rows.astype(float), np.zeros(200, dtype=int), rule)
    dropped = rule.gap + rule.embargo
    assert sizes(split)["select"] == 0
    assert sizes(split)["train"] + sizes(split)["test"] == 200 - dropped
    assert any("no validation loss and no best round" in warning for warning in split.warnings)


def test_a_select_part_must_hold_a_whole_window_of_one_series():
    rows, time, series = two_symbols(150)  # 24 rows of select, 12 of each series
    for window, has_select in ((12, True), (13, False)):
        split = split_by_time(rows, time, series, SplitRule(0, window=window))
        assert bool(len(split.rows["select"])) is has_select


def test_many_rows_whose_select_part_is_emptied_by_gaps_say_that_nothing_is_validated():
    rows = np.arange(2_000)
    rule = SplitRule(0, gap=90, embargo=80)
    split = split_by_time(rows, rows.astype(float), np.zeros(2_000, dtype=int), rule)
    assert len(split.rows["select"]) == 0
    assert split.warnings == [
        "there is no validation loss and no best round: select or train would hold no sample"
    ]


def test_rows_that_the_source_reserves_take_nothing_from_the_select_part():
    in_test = np.arange(1_000) >= 500
    zeros = np.zeros(1_000, dtype=np.int64)
    split = split_stratified(np.arange(1_000), zeros, SplitRule(0), in_test)
    assert list(sizes(split).values()) == [450, 50, 0, 0, 0, 500]


def test_fewer_than_thirty_rows_are_too_few():
    with pytest.raises(DataTooSmall, match="29 usable rows"):
        split_stratified(np.arange(29), np.zeros(29, dtype=np.int64), SplitRule(0))


def test_rows_that_the_source_reserves_are_the_test_and_nothing_else_is():
    in_test = np.arange(3_000) % 10 == 0
    split = split_stratified(
        np.arange(3_000), np.zeros(3_000, dtype=np.int64), SplitRule(0), in_test
    )
    assert split.rows["test"].tolist() == np.flatnonzero(in_test).tolist()
    assert len(split.rows["train"]) == round(2_700 * 79 / 92)


def test_a_test_part_that_is_not_later_than_train_is_reported():
    rows = np.arange(100)
    in_test = rows < 20
    split = split_by_time(rows, rows.astype(float), np.zeros(100, dtype=int), SplitRule(0), in_test)
    assert any("not earlier than the first test row" in warning for warning in split.warnings)


def test_one_moment_for_all_rows_cannot_be_cut():
    with pytest.raises(InvalidDataset, match="distinct times"):
        split_by_time(np.arange(100), np.zeros(100), np.zeros(100, dtype=int), SplitRule(0))


@pytest.mark.parametrize("rule", [{"gap": 20}, {"window": 21}])
def test_a_select_part_that_was_asked_for_and_cannot_hold_a_sample_is_refused(rule):
    rows = np.arange(300)
    history = rows, rows.astype(float), np.zeros(300, dtype=int)
    with pytest.raises(InvalidArguments, match="validation_size=20 leaves no whole sample"):
        split_by_time(*history, SplitRule(0, validation_size=20, **rule))
    kept = split_by_time(*history, SplitRule(0, validation_size=21, **rule))
    assert len(kept.rows["select"]) == 21 - rule.get("gap", 0)


def test_a_split_without_a_select_part_says_that_it_was_asked_for():
    split = split_stratified(
        np.arange(300), np.zeros(300, dtype=int), SplitRule(0, validation_size=0)
    )
    assert "there is no validation loss and no best round: validation_size is 0" in split.warnings
