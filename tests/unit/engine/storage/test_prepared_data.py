"""The rows of a training, stored by their sha256."""

import json

import numpy as np
import pytest

from flow_nexus_neural.data.prepare import DataRequest, prepare
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.training_record import PreparedDataRef
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.prepared_data import (
    read_prepared,
    stored_request,
    write_prepared,
)
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.settings import Settings


def data(tmp_path, seed=1):
    rows = {"X": [[i % 7, i % 5] for i in range(80)], "y": [i % 2 for i in range(80)]}
    return prepare(DataRequest(dataset=rows, seed=seed), Settings(state_dir=tmp_path))


def test_prepared_rows_read_back_to_the_bit(tmp_path):
    files, made = CheckpointFiles(tmp_path), data(tmp_path)
    again = read_prepared(files, write_prepared(files, "dnc_1", made))
    assert (again.description, again.schema) == (made.description, made.schema)
    assert (again.clients, again.warnings) == (made.clients, made.warnings)
    assert again.parts.keys() == made.parts.keys()
    for part, rows in made.parts.items():
        for name in ("x", "y", "symbols", "clients"):
            one, other = getattr(rows, name), getattr(again.parts[part], name)
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


def test_all_rows_and_the_earlier_folds_read_back_to_the_bit(tmp_path):
    rows = [
        {"time": f"2024-01-{1 + i // 24:02} {i % 24:02}:00", "a": i, "y": i % 2} for i in range(400)
    ]
    made = prepare(DataRequest(rows, folds=3, refit=False), Settings(state_dir=tmp_path))
    files = CheckpointFiles(tmp_path)
    again = read_prepared(files, write_prepared(files, "dnc_1", made))
    assert np.array_equal(again.whole.x, made.whole.x)
    assert np.array_equal(again.whole.last, made.whole.last, equal_nan=True)
    assert len(again.folds) == len(made.folds) == 2
    for one, other in zip(made.folds, again.folds, strict=True):
        assert (one.number, one.begins, one.ends) == (other.number, other.begins, other.ends)
        assert one.begins is not None
        for part in ("train", "select", "test"):
            assert getattr(one, part).dtype == getattr(other, part).dtype == np.int64
            assert np.array_equal(getattr(one, part), getattr(other, part))
    assert again.refit is False


def test_that_roles_need_answers_out_of_fold_reads_back(tmp_path):
    rows = [{"time": f"2024-01-{1 + i % 28:02}", "a": i, "y": i % 2} for i in range(90)]
    made = prepare(DataRequest(rows, admitting=True), Settings(state_dir=tmp_path))
    files = CheckpointFiles(tmp_path)
    again = read_prepared(files, write_prepared(files, "dnc_1", made))
    assert (again.crossing, again.gap) == (True, made.gap)
    assert made.gap is not None


def test_a_file_that_names_neither_all_rows_nor_folds_is_read_without_them(tmp_path):
    files, made = CheckpointFiles(tmp_path), data(tmp_path)
    content, metadata = files.read_with_metadata(write_prepared(files, "dnc_1", made).sha256)
    older = {key: metadata[key] for key in metadata if key not in ("whole", "refit", "folds")}
    again = read_prepared(files, PreparedDataRef(*files.write(content, older)))
    assert (again.whole, again.refit, again.folds) == (None, False, ())
    assert np.array_equal(again.parts["train"].x, made.parts["train"].x)


def test_equal_rows_have_one_name_in_a_cluster_and_another_in_another(tmp_path):
    files = CheckpointFiles(tmp_path)
    one = write_prepared(files, "dnc_1", data(tmp_path))
    assert write_prepared(files, "dnc_1", data(tmp_path)) == one
    assert write_prepared(files, "dnc_2", data(tmp_path)).sha256 != one.sha256
    assert write_prepared(files, "dnc_1", data(tmp_path, seed=2)).sha256 != one.sha256


def test_a_file_that_holds_something_else_is_corrupt(tmp_path):
    files = CheckpointFiles(tmp_path)
    sha, nbytes = files.write({"w": np.zeros(3, "f4")}, {"cohort": "c0"})
    with pytest.raises(StoreCorrupt, match="no prepared data"):
        read_prepared(files, PreparedDataRef(sha, nbytes))


@pytest.mark.parametrize(
    ("dataset", "kept"),
    [
        ("sales.csv", "sales.csv"),
        ("synthetic:xor?rows=500", "synthetic:xor?rows=500"),
        ({"X": [[1]], "y": [0]}, None),
        ([{"a": 1}], None),
        (json.dumps({"X": [[1]], "y": [0]}), None),
        (" " + json.dumps([[1]]), None),
        ("a,b\n" * 400, None),
    ],
)
def test_a_request_is_kept_without_inline_data(dataset, kept):
    found = stored_request(TrainRequest(cluster_id="dnc_1", dataset=dataset, epochs=7))
    assert found["dataset"] == kept
    assert found["epochs"] == 7
    assert "cluster_id" not in found
