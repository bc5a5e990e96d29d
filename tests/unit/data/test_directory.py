import json

import pytest

from flow_nexus_neural.data import directory
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded, PathNotAllowed
from tests.unit.data.reading import read_folder

HEADER = ["a", "y"]


def test_every_file_is_a_client_called_by_its_stem(write_csv, root, settings):
    write_csv("d/bob.csv", HEADER, [(1, 0), (2, 1)])
    write_csv("d/ann.csv", HEADER, [(3, 1)])
    (root / "d" / "notes.md").write_text("no data")
    (root / "d" / ".hidden.csv").write_text("a,y\n9,9\n")
    table, target, files = read_folder(root / "d", settings)
    assert (table.clients, table.client_of.tolist()) == (("ann", "bob"), [0, 1, 1])
    assert table.columns["a"].tolist() == [3.0, 1.0, 2.0]
    assert (target, table.in_test) == (None, None)
    assert [name for name, _ in files] == ["ann.csv", "bob.csv"]


def test_files_under_test_are_the_test_rows_of_their_client(write_csv, root, settings):
    write_csv("d/train/ann.csv", HEADER, [(1, 0), (2, 1)])
    write_csv("d/train/bob.csv", HEADER, [(3, 0)])
    write_csv("d/test/bob.csv", HEADER, [(4, 1)])
    write_csv("d/test/cid.csv", HEADER, [(5, 1)])
    table, _, files = read_folder(root / "d", settings)
    assert table.clients == ("ann", "bob", "cid")
    assert table.columns["a"].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert table.in_test.tolist() == [False, False, False, True, True]
    assert len(files) == 4


def test_train_without_test_reserves_nothing(write_csv, root, settings):
    write_csv("d/train/ann.csv", HEADER, [(1, 0)])
    table, _, _ = read_folder(root / "d", settings)
    assert (table.clients, table.in_test) == (("ann",), None)


def test_only_a_train_and_a_test_file_are_parts_and_no_clients(write_csv, root, settings):
    write_csv("d/test.csv", HEADER, [(9, 1)])
    write_csv("d/train.csv", HEADER, [(1, 0), (2, 1)])
    table, _, _ = read_folder(root / "d", settings)
    assert table.clients == ()
    assert table.columns["a"].tolist() == [1.0, 2.0, 9.0]
    assert table.in_test.tolist() == [False, False, True]


def test_the_label_column_is_what_all_files_call_it(root, settings):
    (root / "d").mkdir()
    for name, key in (("ann", "y"), ("bob", "y")):
        (root / "d" / f"{name}.json").write_text(json.dumps({"X": [[1], [2]], key: [0, 1]}))
    assert read_folder(root / "d", settings)[1] == "y"
    (root / "d" / "cid.json").write_text(json.dumps({"X": [[1], [2]], "labels": [0, 1]}))
    with pytest.raises(InvalidDataset, match="name their labels differently"):
        read_folder(root / "d", settings)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "holds no data file"),
        (["train/a.csv", "b.csv"], "has data files beside train/"),
        (["test/a.csv"], "has test/ but no data file in train/"),
        (["a.csv", "a.tsv"], "two files for client 'a'"),
    ],
)
def test_a_directory_that_can_be_read_in_two_ways_is_refused(
    write_csv, root, settings, files, words
):
    (root / "d").mkdir()
    for name in files:
        write_csv(f"d/{name}", HEADER, [(1, 0)])
    with pytest.raises(InvalidDataset, match=words):
        read_folder(root / "d", settings)


def test_a_directory_called_like_a_file_is_not_read(root, settings):
    (root / "d" / "a.csv").mkdir(parents=True)
    with pytest.raises(InvalidDataset, match=r"'a\.csv' is not a file"):
        read_folder(root / "d", settings)


def test_a_link_out_of_the_data_roots_is_refused(root, settings, tmp_path):
    outside = tmp_path / "secret.csv"
    outside.write_text("a,y\n1,0\n")
    (root / "d").mkdir()
    (root / "d" / "a.csv").symlink_to(outside)
    with pytest.raises(PathNotAllowed, match=r"'secret\.csv' leads out of the data roots"):
        read_folder(root / "d", settings)


def test_too_many_files_are_refused(write_csv, root, settings, monkeypatch):
    monkeypatch.setattr(directory, "MAX_FILES", 2)
    for name in "abc":
        write_csv(f"d/{name}.csv", HEADER, [(1, 0)])
    with pytest.raises(LimitExceeded, match="more than 2 files"):
        read_folder(root / "d", settings)
