"""The earlier folds of a walk-forward split, and the whole data that they index."""

import datetime

import numpy as np
import pytest

from flow_nexus_neural.data.folds import Fold
from flow_nexus_neural.errors import InvalidArguments


def series_of(count, **columns):
    """Records whose `a` is their place in time."""
    return [
        {"time": t, "a": float(t), "y": (t // 3) % 2, **{k: f(t) for k, f in columns.items()}}
        for t in range(count)
    ]


def places(data, index):
    """What `a` was of these samples of the whole data."""
    spec = data.schema.columns[0]
    x = data.whole.x[index].reshape(len(index), -1)
    return np.round(x.astype(float) * spec.sd[0] + spec.mean[0]).astype(int)


def test_four_folds_train_on_ever_more_and_test_on_the_second_to_the_fourth_fifth(load):
    data = load(series_of(500), folds=4)
    assert [fold.number for fold in data.folds] == [1, 2, 3]
    assert all(isinstance(fold, Fold) for fold in data.folds)
    for fold in data.folds:
        begin = 100 * fold.number
        select = begin // 10
        assert places(data, fold.train).ravel().tolist() == list(range(begin - select))
        assert places(data, fold.select).ravel().tolist() == list(range(begin - select, begin))
        assert places(data, fold.test).ravel().tolist() == list(range(begin, begin + 100))
        assert {part.dtype for part in (fold.train, fold.select, fold.test)} == {np.dtype("i8")}
    spec = data.schema.columns[0]
    last = np.round(data.parts["test"].x[:, 0].astype(float) * spec.sd[0] + spec.mean[0])
    assert last.tolist() == list(range(400, 500))


def test_folds_of_a_given_size_test_on_the_last_blocks_of_that_many_rows(load):
    data = load(series_of(500), folds=3, test_size=50, validation_size=0)
    tests = [places(data, fold.test).ravel() for fold in data.folds]
    assert [(test[0], test[-1]) for test in tests] == [(350, 399), (400, 449)]
    assert [len(fold.train) for fold in data.folds] == [350, 400]
    assert all(len(fold.select) == 0 for fold in data.folds)
    assert len(data.parts["test"]) == 50
    assert len(data.parts["train"]) == 450


def test_the_gap_and_the_embargo_hold_in_every_fold(load, write_csv):
    write_csv("a.csv", ["time", "a", "y"], [list(row.values()) for row in series_of(500)])
    data = load("a.csv#folds=4&embargo=5&horizon=2")
    for fold in data.folds:
        train, select, test = (
            places(data, part).ravel() for part in (fold.train, fold.select, fold.test)
        )
        # Two rows are dropped before a cut, since their labels lie behind it, and five after it.
        assert select[0] - train[-1] == test[0] - select[-1] == 2 + 5 + 1
        assert len(test) == pytest.approx(498 / 5 - 5, abs=1)


def test_windows_of_a_fold_stay_inside_its_parts_and_those_of_the_whole_cross_them(load):
    data = load(series_of(800), window=8, folds=3)
    assert data.whole.x.shape == (793, 8, 1)
    every = places(data, np.arange(793)).reshape(793, 8)
    assert (every == np.arange(793)[:, None] + np.arange(8)).all()
    for fold in data.folds:
        begin = 200 * fold.number
        test = places(data, fold.test)
        assert (test.min(), test.max(), len(test)) == (begin, begin + 199, 193)
        assert places(data, fold.train).max() < places(data, fold.select).min()
        assert places(data, fold.select).max() == begin - 1 - 7


def test_a_select_part_that_the_gaps_of_an_early_fold_would_empty_is_trained_on(load):
    data = load(series_of(300), window=5, folds=2)
    assert [len(fold.select) for fold in data.folds] == [2]
    data = load(series_of(300), window=8, folds=2)
    assert [len(fold.select) for fold in data.folds] == [0]
    assert len(data.folds[0].train) == 100 - 7 - 7


def test_a_fold_without_a_sample_is_refused_with_its_number(load):
    with pytest.raises(InvalidArguments, match="folds=20: fold 1 has no whole sample in the part"):
        load(series_of(300), window=10, folds=20)
    with pytest.raises(
        InvalidArguments, match="folds=5: fold 1 has no whole sample in the part 'train'"
    ):
        load(series_of(300), folds=5, test_size=60)


def test_the_test_block_has_dates_where_rows_have_them(load):
    day = datetime.date(1950, 1, 1)
    dated = series_of(300, time=lambda t: str(day + datetime.timedelta(days=t)))
    [fold] = load(dated, folds=2).folds
    assert (fold.begins, fold.ends) == ("1950-04-11T00:00:00Z", "1950-07-19T00:00:00Z")
    seconds = series_of(300, time=lambda t: 1_700_000_000 + 60 * t)
    [fold] = load(seconds, folds=2).folds
    assert (fold.begins, fold.ends) == ("2023-11-14T23:53:20Z", "2023-11-15T01:32:20Z")
    [fold] = load(series_of(300), folds=2).folds
    assert (fold.begins, fold.ends) == (None, None)


def test_a_class_that_an_early_fold_never_sees_is_named(load):
    records = [
        {"time": t, "a": float(t), "y": "abc"[t % (2 if t < 150 else 3)]} for t in range(300)
    ]
    data = load(records, folds=2)
    assert any("no training row of fold 1 is of the class 'c'" in text for text in data.warnings)
