import numpy as np
import pytest

from flow_nexus_neural.data.cross_fitting import by_purpose, held_folds
from flow_nexus_neural.data.rows import Rows


def rows(n, y=None, symbols=None):
    nobody = np.full(n, -1, dtype=np.int32)
    labels = np.arange(n) % 2 if y is None else y
    return Rows(
        x=np.zeros((n, 1), np.float32),
        y=labels.astype(np.float32),
        symbols=nobody if symbols is None else symbols,
        clients=nobody,
    )


def test_every_row_is_held_once_and_never_trained_on_by_the_fold_that_answers_it():
    folds = held_folds(rows(100), 3, seed=5, gap=None)
    assert sorted(np.concatenate([fold.held for fold in folds])) == list(range(100))
    for fold in folds:
        assert not set(fold.train) & set(fold.held)
        assert len(fold.train) + len(fold.held) == 100


def test_a_rare_class_is_in_every_fold_and_purpose():
    y = np.zeros(200)
    y[:20] = 1
    own = rows(200, y)
    assert [int(y[fold.held].sum()) for fold in held_folds(own, 4, 1, None)] == [5, 5, 5, 5]
    assert {
        name: int(y[index].sum()) for name, index in by_purpose(own, 1, ordered=False).items()
    } == {
        "meta": 8,
        "verify": 6,
        "calib": 6,
    }


def test_another_seed_deals_other_rows_and_the_same_seed_the_same():
    first, again, other = (held_folds(rows(60), 3, seed, None)[0].held for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_blocks_of_time_leave_out_the_rows_whose_labels_reach_into_them():
    folds = held_folds(rows(30), 3, seed=1, gap=2)
    assert folds[1].held.tolist() == list(range(10, 20))
    assert folds[1].train.tolist() == [*range(8), *range(22, 30)]


def test_the_gap_counts_rows_of_one_series():
    two = rows(40, symbols=np.arange(40, dtype=np.int32) % 2)
    fold = held_folds(two, 2, seed=1, gap=1)[0]
    assert fold.held.tolist() == list(range(20))
    assert fold.train.tolist() == list(range(22, 40))


@pytest.mark.parametrize("ordered", [True, False])
def test_purposes_share_all_rows_four_to_three_to_three(ordered):
    found = by_purpose(rows(100), 3, ordered=ordered)
    assert [len(found[name]) for name in ("meta", "verify", "calib")] == [40, 30, 30]
    assert sorted(np.concatenate(list(found.values()))) == list(range(100))
    if ordered:
        assert found["meta"].max() < found["verify"].min() < found["calib"].min()
