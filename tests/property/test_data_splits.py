"""What holds for the parts of any data set, in time order or not, of any size."""

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_nexus_neural.data.part_sizes import FULL_ROWS, PARTS, SELECT_ROWS, SplitRule
from flow_nexus_neural.data.series import Series, windows_in
from flow_nexus_neural.data.splits import split_by_time, split_stratified
from flow_nexus_neural.errors import InvalidDataset

WITHOUT = "there is no validation loss and no best round"
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
    )
    return rng.integers(0, moments, count).astype(np.float64), series, rule


@settings(derandomize=True, max_examples=150, deadline=None)
@given(histories())
def test_parts_in_time_order_are_apart_by_the_gap_and_lose_only_purged_rows(history):
    time, series, rule = history
    count = len(time)
    try:
        split = split_by_time(np.arange(count), time, series, rule)
    except InvalidDataset:
        return
    used = concatenated(split)
    assert len(set(used.tolist())) == len(used) == count - split.purged
    present = [split.rows[part] for part in PARTS if len(split.rows[part])]
    for earlier, later in itertools.pairwise(present):
        assert time[earlier].max() < time[later].min()
        for one in np.unique(series):
            own = np.sort(time[series == one])
            before, after = earlier[series[earlier] == one], later[series[later] == one]
            if len(before) and len(after):
                passed = (own >= time[before].max()).sum() - (own >= time[after].min()).sum()
                assert passed > rule.gap
    if count < FULL_ROWS:
        says_what_there_is(split, count)
        in_windows = Series(series, np.lexsort((time, series)), time, ordered=True, warnings=[])
        windows = windows_in(split.rows["select"], in_windows, rule.window)
        assert bool(len(windows)) is bool(len(split.rows["select"]))
    if count < SELECT_ROWS:
        assert len(split.rows["select"]) == 0


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
