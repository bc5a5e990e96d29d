"""What a stacking network reads, computed by hand."""

import numpy as np
import pytest

from flow_nexus_neural.kernels.stacking import (
    evidence,
    hidden_answers,
    layout_of,
    stacker_features,
)

TWO = {"worker-0": np.array([[1.0], [-2.0]]), "worker-1": np.array([[3.0], [0.0]])}


def parts_of(layout, features):
    """Values per column [R, S, O], masks [R, S], summaries [R, 4 O] and the symbol of features."""
    of_columns = layout.width * (layout.n_outputs + 1)
    columns = features[:, :of_columns].reshape(len(features), layout.width, -1)
    rest = features[:, of_columns:]
    split = 4 * layout.n_outputs
    return columns[:, :, :-1], columns[:, :, -1], rest[:, :split], rest[:, split:]


@pytest.mark.parametrize(("models", "width"), [(1, 16), (15, 16), (16, 24), (17, 24), (24, 32)])
def test_there_are_16_columns_or_the_next_multiple_of_8_above_the_models(models, width):
    layout = layout_of([str(k) for k in range(models)], 3, 2)
    assert layout.width == width
    assert layout.n_features == width * 4 + 12 + 2


def test_columns_masks_summaries_and_symbol_are_those_of_the_answers():
    layout = layout_of(["worker-0", "worker-1"], 1, 2)
    features = stacker_features(layout, TWO, "binary", np.array([1, -1]))
    assert features.dtype == np.float32
    assert features.shape == (2, layout.n_features)
    values, masks, summaries, symbol = parts_of(layout, features)
    assert values[0, :, 0].tolist() == pytest.approx([1.0, 3.0] + [0.0] * 14, abs=1e-6)
    assert masks[0].tolist() == [1.0, 1.0] + [0.0] * 14
    assert summaries[0].tolist() == pytest.approx([2.0, 1.0, 1.0, 3.0], abs=1e-6)
    assert summaries[1].tolist() == pytest.approx([-1.0, 1.0, -2.0, 0.0], abs=1e-6)
    assert symbol.tolist() == [[0.0, 1.0], [0.0, 0.0]]


def test_a_hidden_answer_leaves_its_column_empty_and_counts_in_no_summary():
    layout = layout_of(["worker-0", "worker-1"], 1, 0)
    hidden = np.array([[True, False], [False, False]])
    values, masks, summaries, _ = parts_of(
        layout, stacker_features(layout, TWO, "binary", hidden=hidden)
    )
    assert values[0, :2, 0].tolist() == pytest.approx([0.0, 3.0], abs=1e-6)
    assert masks[0, :2].tolist() == [0.0, 1.0]
    assert summaries[0].tolist() == pytest.approx([3.0, 0.0, 3.0, 3.0], abs=1e-6)


def test_a_hidden_answer_reads_as_one_that_never_came():
    layout = layout_of(["worker-0", "worker-1"], 1, 0)
    hidden = np.array([[True, False], [True, False]])
    without = stacker_features(layout, {"worker-1": TWO["worker-1"]}, "binary")
    assert stacker_features(layout, TWO, "binary", hidden=hidden).tolist() == without.tolist()


def test_a_model_without_a_column_enters_through_the_summaries():
    layout = layout_of(["worker-0"], 1, 0)
    values, masks, summaries, _ = parts_of(layout, stacker_features(layout, TWO, "binary"))
    assert masks[0].sum() == 1
    assert values[0, 1:].any() == np.False_
    assert summaries[0, 0] == pytest.approx(2.0, abs=1e-6)


def test_the_offset_of_class_logits_means_nothing():
    x = np.array([[0.2, 1.0, -3.0]])
    assert evidence(x, "multiclass") == pytest.approx(evidence(x + 7.0, "multiclass"))


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_no_answer_however_large_gives_an_unbounded_feature(task):
    x = np.array([[1e30] * (3 if task == "multiclass" else 1)])
    x[0, 0] = -1e30
    assert np.abs(evidence(x, task)).max() <= 50


def test_nobody_is_no_answer():
    with pytest.raises(ValueError, match="no model"):
        stacker_features(layout_of([], 1, 0), {}, "binary")


def test_a_fifth_of_the_answers_is_hidden_and_every_row_keeps_one():
    hidden = hidden_answers(5, 4000, 6)
    assert hidden.mean() == pytest.approx(0.2, abs=0.02)
    assert not hidden.all(axis=1).any()
    assert not hidden_answers(5, 100, 1).any()
    assert (hidden_answers(5, 4000, 6) == hidden).all()
    assert (hidden_answers(6, 4000, 6) != hidden).any()
