"""Which keys hold inputs and labels of which part."""

import numpy as np
import pytest

from flow_nexus_neural.data.labelled_arrays import (
    flattening_note,
    label_vector,
    one_label_per_row,
    own_parts,
)
from flow_nexus_neural.data.table import TextColumn
from flow_nexus_neural.errors import InvalidDataset


@pytest.mark.parametrize(
    ("keys", "parts"),
    [
        ("x_train y_train x_test y_test", {"train": "x_train", "test": "x_test"}),
        (
            "test_labels test_data train_labels train_data",
            {"train": "train_data", "test": "test_data"},
        ),
        ("X_train Y_train X_val Y_val", {"train": "X_train", "validation": "X_val"}),
        ("x_train y_train x_test", {"train": "x_train"}),
        ("x_test y_test", {}),
        ("x y", {}),
        ("train_loss test_loss", {}),
        ("x_train_scaled y_train_scaled", {}),
    ],
)
def test_parts_are_told_by_their_keys(keys, parts):
    assert {part: inputs for part, (inputs, _) in own_parts(keys.split()).items()} == parts


@pytest.mark.parametrize("labels", [["a", "b"], [["a"], ["b"]]])
def test_text_labels_may_be_a_column_too(labels):
    assert one_label_per_row(labels, "y", "data") == ["a", "b"]


def test_rows_of_several_labels_are_told_from_one_hot_ones():
    with pytest.raises(InvalidDataset, match="one-hot"):
        one_label_per_row([[0, 1], [1, 0]], "y", "data")
    with pytest.raises(InvalidDataset, match="several labels per row"):
        one_label_per_row([[1, 1], [1, 0]], "y", "data")
    with pytest.raises(InvalidDataset, match="is a list"):
        one_label_per_row([["a", "b"], ["c", "d"]], "y", "data")
    texts = TextColumn(np.zeros(2, dtype=np.int32), ("a",))
    assert label_vector(texts, "y", "data") is texts


def test_only_what_is_flattened_is_said_to_be():
    assert flattening_note((5, 8, 8)) == flattening_note((5, 8, 8, 1)) == ()
    assert flattening_note((5, 8, 8, 3)) == (
        "inputs of shape [8, 8, 3] are flattened to 192 columns",
    )
