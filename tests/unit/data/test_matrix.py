import numpy as np
import pytest

from flow_nexus_neural.data.columns import ColumnChoice, lay_out
from flow_nexus_neural.data.matrix import Matrix, scaled_matrix, without_leaks
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.table import MAX_COLUMNS, Table, TextColumn
from flow_nexus_neural.data.targets import Labels
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded

LABEL = np.array([0.0, 1.0, 0.0, 1.0, 1.0, 0.0])


def matrix_of(columns, train, *, channels=False, **choice):
    table = Table({**columns, "y": LABEL[: len(LABEL)]}, len(LABEL), channels=channels)
    return scaled_matrix(table, lay_out(table, ColumnChoice(**choice)), np.asarray(train))


def labels(values=LABEL, classes=(0, 1)):
    known = None if classes is None else list(classes)
    task = "regression" if known is None else "binary" if len(known) == 2 else "multiclass"
    usable = np.ones(len(values), dtype=bool)
    return Labels("y", task, known, values, usable, 0, is_return=False)


def spec(name, kind="number", width=1):
    return ColumnSpec(name=name, kind=kind, mean=(0.0,) * width, sd=(1.0,) * width)


def test_columns_are_scaled_by_the_training_rows_with_the_vector_first():
    a = np.array([1.0, 3.0, 5.0, 7.0, 1_000.0, -1_000.0])
    vector = np.stack([a, 2 * a], axis=1)
    found = matrix_of({"a": a, "v": vector}, [0, 1, 2, 3])
    assert [spec.name for spec in found.specs] == ["v", "a"]
    assert found.x.shape == (6, 3)
    # Training rows 1, 3, 5, 7 have the mean 4 and the deviation sqrt(5).
    expected = (a - 4) / np.sqrt(5)
    assert found.x[:4, 2] == pytest.approx(expected[:4], abs=1e-6)
    assert found.x[:4, 1] == pytest.approx(expected[:4], abs=1e-6)
    assert found.x[4:, 2].tolist() == [6.0, -6.0]


def test_a_category_has_one_input_for_each_level_of_the_training_rows():
    codes = np.array([0, 1, 0, 1, 2, -1], dtype=np.int32)
    found = matrix_of({"c": TextColumn(codes, ("p", "q", "r"))}, [0, 1, 2, 3])
    assert found.specs[0].levels == ("p", "q")
    assert found.x.tolist() == [[1, -1], [-1, 1], [1, -1], [-1, 1], [-1, -1], [0, 0]]


def test_channels_are_scaled_over_rows_and_steps():
    channel = np.arange(12.0).reshape(6, 2)
    found = matrix_of({"c0": channel, "c1": np.ones((6, 2))}, [0, 1], channels=True)
    # The values 0, 1, 2, 3 of two rows have the mean 1.5 and the deviation sqrt(1.25).
    assert found.x.shape == (6, 2, 2)
    assert found.x[:2, :, 0].ravel() == pytest.approx((np.arange(4) - 1.5) / np.sqrt(1.25))
    assert (found.x[:, :, 1] == 0).all()


def test_sequences_beside_plain_columns_are_refused():
    columns = {"c0": np.ones((6, 2)), "a": np.ones(6)}
    with pytest.raises(InvalidDataset, match="sequences are mixed with plain columns"):
        matrix_of(columns, [0, 1], channels=True)


def test_a_matrix_beyond_the_limit_of_columns_is_refused():
    columns = {"v": np.ones((6, MAX_COLUMNS)), "a": np.arange(6.0)}
    with pytest.raises(LimitExceeded):
        matrix_of(columns, [0, 1])


def test_without_a_leak_the_matrix_is_the_same_one():
    matrix = Matrix(np.array([[1.0], [1], [0], [0], [1], [0]], dtype=np.float32), [spec("a")])
    assert without_leaks(matrix, labels(), np.arange(6), ()) is matrix


def test_a_column_that_equals_the_label_in_training_rows_is_left_out_of_all_rows():
    rows = np.arange(4)  # it equals the label here, and not later
    leak = np.array([-1, 1, -1, 1, -1, 1], dtype=np.float32)
    other = np.array([1, 2, 3, 4, 5, 6], dtype=np.float32)
    matrix = Matrix(np.stack([leak, other], axis=1), [spec("leak"), spec("other")])
    found = without_leaks(matrix, labels(), rows, ())
    assert found.x.tolist() == other[:, None].tolist()
    assert [one.name for one in found.specs] == ["other"]
    assert found.excluded == [{"name": "leak", "reason": "suspected leak"}]
    assert found.warnings == ["'leak' is left out: its correlation with the target is above 0.999"]
    kept = without_leaks(matrix, labels(), rows, ("leak",))
    assert kept.x.tolist() == matrix.x.tolist()
    assert kept.warnings == ["'leak' is almost the label: it may be a leak"]
    assert without_leaks(matrix, labels(), np.arange(6), ()) is matrix


def test_a_step_of_a_vector_or_of_a_sequence_is_kept_with_a_warning():
    leak = LABEL.astype(np.float32)
    noise = np.array([1, 2, 3, 4, 5, 6], dtype=np.float32)
    both = np.stack([leak, noise], axis=1)
    vector = without_leaks(Matrix(both, [spec("v", "vector", 2)]), labels(), np.arange(6), ())
    assert vector.x.shape == (6, 2)
    assert vector.warnings == ["'v' is almost the label: it may be a leak"]
    sequence = Matrix(both[:, :, None], [spec("c")])
    found = without_leaks(sequence, labels(), np.arange(6), ())
    assert found.x.shape == (6, 2, 1)
    assert found.warnings == ["a step of a sequence is almost the label"]


def test_when_every_column_is_a_leak_nothing_is_guessed():
    matrix = Matrix(LABEL.astype(np.float32)[:, None], [spec("a")])
    with pytest.raises(InvalidDataset, match="every feature is almost the label"):
        without_leaks(matrix, labels(), np.arange(6), ())
