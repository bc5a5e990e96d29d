"""What holds for the parts of any data set, in time order or not, of any size."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.data.folds import earlier_folds
from flow_nexus_neural.data.part_sizes import (
    FULL_ROWS,
    PARTS,
    SELECT_ROWS,
    SplitRule,
    first_of_last_blocks,
    rows_of_size,
)
from flow_nexus_neural.data.series import Series, windows_in
from flow_nexus_neural.data.splits import split_by_time, split_stratified
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset

WITHOUT = "there is no validation loss and no best round"
of_test = st.none() | st.floats(0.01, 0.7) | st.integers(1, 60)
of_select = st.none() | st.just(0) | st.floats(0.01, 0.3) | st.integers(1, 60)
sizes = st.integers(30, 260) | st.integers(1_900, 2_300)


def concatenated(split):
    return np.concatenate([split.rows[part] for part in PARTS])


def says_what_there_is(split, usable):
    """The warnings name exactly the parts that the split has."""
    text = "\n".join(split.warnings)
    assert (WITHOUT in text) is (len(split.rows["select"]) == 0)
    assert ("train, select and test only" in text) is (
        usable < FULL_ROWS and len(split.rows["select"]) > 0
    )
    assert ("into train and test only" in text) is (
        usable < FULL_ROWS and len(split.rows["select"]) == 0
    )


@st.composite
def histories(draw):
    """Rows of several series at shared and own moments, in any order, with a rule that fits."""
    count = draw(sizes)
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 1 << 32))))
    moments = draw(st.integers(5, 2 * count))
    series = rng.integers(0, draw(st.integers(1, 4)), count)
    window = draw(st.sampled_from([1, 1, 2, 5]))
    rule = SplitRule(
        seed=0,
        gap=draw(st.integers(0, 4)) + window - 1,
        embargo=draw(st.sampled_from([0, 0, 3])),
        folds=draw(st.sampled_from([None, None, 2, 5])),
        window=window,
        test_size=draw(of_test),
        validation_size=draw(of_select),
        stacking=draw(st.booleans()),
    )
    return rng.integers(0, moments, count).astype(np.float64), series, rule


def in_series(time, series):
    return Series(series, np.lexsort((time, series)), time, ordered=True, warnings=[])


def are_apart(earlier, later, time, series, gap):
    """More rows than the gap lie between two parts of a series, whose rows are given."""
    assert time[earlier].max() < time[later].min()
    for one in np.unique(series):
        own = np.sort(time[series == one])
        before, after = earlier[series[earlier] == one], later[series[later] == one]
        if len(before) and len(after):
            passed = (own >= time[before].max()).sum() - (own >= time[after].min()).sum()
            assert passed > gap


@settings(derandomize=True, max_examples=150, deadline=None)
@given(histories())
def test_parts_in_time_order_are_apart_by_the_gap_and_lose_only_purged_rows(history):
    time, series, rule = history
    count = len(time)
    try:
        split = split_by_time(np.arange(count), time, series, rule)
    except (InvalidDataset, InvalidArguments):
        return
    used = concatenated(split)
    assert len(set(used.tolist())) == len(used) == count - split.purged
    present = [split.rows[part] for part in PARTS if len(split.rows[part])]
    for earlier, later in itertools.pairwise(present):
        are_apart(earlier, later, time, series, rule.gap)
    if count < FULL_ROWS:
        says_what_there_is(split, count)
        windows = windows_in(split.rows["select"], in_series(time, series), rule.window)
        assert bool(len(windows)) is bool(len(split.rows["select"]))
    if count < SELECT_ROWS and not rule.validation_size:
        assert len(split.rows["select"]) == 0
    assert len(split.rows["verify"]) == 0
    if not rule.stacking:
        assert len(split.rows["meta"]) == 0


@settings(derandomize=True, max_examples=80, deadline=None)
@given(histories(), of_select)
def test_the_test_in_time_order_is_the_same_whatever_else_is_kept(history, validation_size):
    time, series, rule = history
    other = replace(rule, stacking=not rule.stacking, validation_size=validation_size)
    try:
        one, two = (split_by_time(np.arange(len(time)), time, series, r) for r in (rule, other))
    except (InvalidDataset, InvalidArguments):
        return
    assert one.rows["test"].tolist() == two.rows["test"].tolist()


@settings(derandomize=True, max_examples=80, deadline=None)
@given(sizes, of_test, of_select, st.booleans())
def test_sizes_are_exact_where_every_moment_is_one_row(count, test_size, validation_size, stacking):
    rule = SplitRule(3, test_size=test_size, validation_size=validation_size, stacking=stacking)
    rows, zeros = np.arange(count), np.zeros(count, dtype=np.int64)
    wanted = sum(rows_of_size(size or 0, count) for size in (test_size, validation_size))
    if wanted >= count:
        with pytest.raises(InvalidArguments, match="leave no row to train on"):
            split_by_time(rows, rows.astype(float), zeros, rule)
        return
    if test_size is None and wanted > 0.9 * count:
        return  # the usual test part and this select part are more than there is
    in_time = split_by_time(rows, rows.astype(float), zeros, rule)
    drawn = split_stratified(rows, zeros, rule)
    for split in (in_time, drawn):
        for part, size in (("test", test_size), ("select", validation_size)):
            if size is not None:
                assert len(split.rows[part]) == rows_of_size(size, count)
        assert len(concatenated(split)) == count
        assert len(split.rows["train"]) > 0
    assert [len(in_time.rows[part]) for part in PARTS] == [len(drawn.rows[part]) for part in PARTS]


@settings(derandomize=True, max_examples=150, deadline=None)
@given(histories())
def test_every_earlier_fold_is_a_split_of_the_rows_before_the_end_of_its_test(history):
    time, series, rule = history
    rule = replace(rule, folds=rule.folds or 3)
    usable = np.lexsort((series, time))
    try:
        last = split_by_time(np.arange(len(time)), time, series, rule)
        every = windows_in(usable, in_series(time, series), rule.window)
        folds = earlier_folds(usable, every, in_series(time, series), rule, last.starts)
    except (InvalidDataset, InvalidArguments):
        return
    assert [fold.number for fold in folds] == list(range(1, rule.folds))

    def rows_of(samples):
        return every.rows[every.starts[samples][:, None] + np.arange(rule.window)].ravel()

    tests = [*(rows_of(fold.test) for fold in folds), last.rows["test"]]
    for earlier, later in itertools.pairwise(tests):
        assert time[earlier].max() < time[later].min()
    for fold in folds:
        parts = [part for part in (fold.train, fold.select, fold.test) if len(part)]
        for earlier, later in itertools.pairwise(parts):
            assert earlier.max() < later.min()
            are_apart(rows_of(earlier), rows_of(later), time, series, rule.gap)
        if rule.gap == rule.embargo == 0:
            used = np.concatenate([rows_of(part) for part in parts])
            before = np.flatnonzero(time <= time[rows_of(fold.test)].max())
            assert sorted(used.tolist()) == before.tolist()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(sizes, st.integers(2, 6), st.none() | st.integers(1, 20))
def test_the_tests_of_all_folds_follow_each_other_to_the_end(count, folds, test_rows):
    cuts = [first_of_last_blocks(count, folds, n, test_rows) for n in range(1, folds + 2)]
    assert cuts[-1] == count
    blocks = np.diff([0, *cuts] if test_rows is None else cuts)
    assert set(blocks.tolist()) <= (
        {count // (folds + 1), count // (folds + 1) + 1} if test_rows is None else {test_rows}
    )


@st.composite
def strata_of_rows(draw):
    count = draw(sizes)
    classes = draw(st.integers(1, 6))
    rng = np.random.Generator(np.random.PCG64(draw(st.integers(0, 1 << 32))))
    return rng.integers(0, classes, count)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(strata_of_rows(), st.integers(0, 1 << 32))
def test_drawn_parts_keep_every_row_and_every_class_in_proportion(strata, seed):
    count = len(strata)
    split = split_stratified(np.arange(count), strata, SplitRule(seed))
    assert sorted(concatenated(split).tolist()) == list(range(count))
    says_what_there_is(split, count)
    assert bool(len(split.rows["select"])) is (count >= SELECT_ROWS)
    overall = np.bincount(strata) / count
    for part in PARTS:
        own = split.rows[part]
        if len(own):
            counts = np.bincount(strata[own], minlength=len(overall))
            assert np.abs(counts - overall * len(own)).max() <= len(overall)
    assert set(strata[split.rows["train"]].tolist()) == set(strata.tolist())


@settings(derandomize=True, max_examples=60, deadline=None)
@given(strata_of_rows(), st.integers(0, 1 << 32), st.floats(0.05, 0.9))
def test_rows_that_the_source_reserves_are_exactly_the_test(strata, seed, share):
    count = len(strata)
    in_test = np.arange(count) < max(1, int(share * count))
    by_draw = split_stratified(np.arange(count), strata, SplitRule(seed), in_test)
    assert by_draw.rows["test"].tolist() == np.flatnonzero(in_test).tolist()
    time = np.arange(count, dtype=np.float64)[::-1]
    by_time = split_by_time(np.arange(count), time, np.zeros_like(strata), SplitRule(0), in_test)
    assert set(by_time.rows["test"].tolist()) == set(np.flatnonzero(in_test).tolist())
