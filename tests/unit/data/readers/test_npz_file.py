import zipfile

import numpy as np
import pytest

from flow_nexus_neural.data.readers import npz_file
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from tests.unit.data.reading import read_path

ROWS = 1_000_000


def test_an_npz_gives_names_symbol_and_label(root):
    path = root / "a.npz"
    np.savez(
        path,
        X=np.arange(6.0).reshape(3, 2),
        y=np.array([0, 1, 0]),
        feature_names=np.array(["p", "q"]),
        symbol=np.array(["B", "A", "B"]),
        timestamp=np.array(["2024-01-01", "2024-01-02", "2024-01-03"], dtype="datetime64[D]"),
    )
    table, target = read_path(path, ROWS)
    assert target == "y"
    assert list(table.columns) == ["p", "q", "symbol", "timestamp", "y"]
    assert table.columns["timestamp"][1] - table.columns["timestamp"][0] == 86_400_000


def test_pickled_objects_are_never_loaded(root):
    path = root / "a.npz"
    np.savez(path, X=np.array([[1], [2]], dtype=object), y=np.array([0, 1]))
    with pytest.raises(InvalidDataset, match="plain array"):
        read_path(path, ROWS)


def test_an_archive_that_unpacks_too_far_is_refused(root, monkeypatch):
    monkeypatch.setattr(npz_file, "MAX_FILE_BYTES", 50_000)
    path = root / "a.npz"
    np.savez_compressed(path, X=np.zeros((10_000, 4)), y=np.zeros(10_000))
    with pytest.raises(LimitExceeded, match="unpacks to"):
        read_path(path, ROWS)


def test_something_else_named_npz_is_refused(root):
    path = root / "a.npz"
    path.write_bytes(b"not a zip")
    with pytest.raises(InvalidDataset, match="not an archive"):
        read_path(path, ROWS)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("X.npy", b"torn")
    with pytest.raises(InvalidDataset):
        read_path(path, ROWS)


def test_a_list_of_members_is_bounded_before_it_is_read(root, monkeypatch):
    path = root / "a.npz"
    np.savez(path, **{f"column_{index}": np.zeros(3) for index in range(20)})
    assert len(read_path(path, ROWS)[0].columns) == 20
    monkeypatch.setattr(npz_file, "MAX_DIRECTORY_BYTES", 1_000)
    with pytest.raises(LimitExceeded, match="lists its members in"):
        read_path(path, ROWS)


def test_members_share_one_budget(root, monkeypatch):
    path = root / "a.npz"
    np.savez(path, X=np.zeros((100, 2)), y=np.zeros(100))
    monkeypatch.setattr(
        "flow_nexus_neural.data.memory.MemoryBudget.__init__.__defaults__", (2_399,)
    )
    with pytest.raises(LimitExceeded, match="more memory than one table may"):
        read_path(path, ROWS)


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_numpy_does_not_write_is_not_unpacked(root, packing):
    path = root / "a.npz"
    np.savez(path, X=np.zeros((3, 2)), y=np.zeros(3))
    with zipfile.ZipFile(path) as sound:
        members = {name: sound.read(name) for name in sound.namelist()}
    with zipfile.ZipFile(path, "w", packing) as other:
        for name, content in members.items():
            other.writestr(name, content)
    with pytest.raises(InvalidDataset, match="packed as numpy does not pack"):
        read_path(path, ROWS)


def test_a_member_that_claims_more_than_it_holds_is_refused(root):
    path = root / "a.npz"
    np.savez(path, X=np.zeros((3, 2)), y=np.zeros(3))
    with zipfile.ZipFile(path) as sound:
        members = {name: sound.read(name) for name in sound.namelist()}
    with zipfile.ZipFile(path, "w") as other:
        for name, content in members.items():
            other.writestr(name, content.replace(b"(3, 2)", b"(99, 2)"))
    with pytest.raises(InvalidDataset, match=r"announces 1584 bytes and has"):
        read_path(path, ROWS)


def saved(root, **arrays):
    np.savez(root / "a.npz", **arrays)
    return read_path(root / "a.npz", ROWS)


def test_a_lone_value_is_no_column_and_named(root):
    table, _ = saved(root, a=np.zeros(3), b=np.float64(3))
    assert list(table.columns) == ["a"]
    assert table.remarks == ("arrays that are not read: 'b' (it is a lone value)",)
    with pytest.raises(InvalidDataset, match="'b' is not a plain array file: it is a lone value"):
        saved(root, b=np.float64(3))


OBJECTS = np.array([{"a": 1}, None, "x"], dtype=object)


@pytest.mark.parametrize(
    "arrays",
    [
        {"X": np.arange(6.0).reshape(3, 2), "y": np.array([0, 1, 0]), "names": OBJECTS},
        {"names": OBJECTS, "a": np.arange(3.0), "b": np.arange(3)},
    ],
)
def test_an_array_of_objects_is_named_and_the_rest_is_read(root, arrays):
    table, _ = saved(root, **arrays)
    assert table.rows == 3
    assert "names" not in table.columns
    assert "arrays that are not read: 'names' (it holds objects" in table.remarks[0]


@pytest.mark.parametrize("missing", ["X", "y"])
def test_objects_as_inputs_or_labels_are_refused_by_name(root, missing):
    arrays = {"X": np.arange(6.0).reshape(3, 2), "y": np.array([0, 1, 0]), missing: OBJECTS}
    with pytest.raises(InvalidDataset, match=f"array '{missing}' is not a plain array file"):
        saved(root, **arrays)


@pytest.mark.parametrize(
    "shape", [(3, 1), (3, 1, 1), (3,)], ids=["column", "deeper column", "vector"]
)
def test_labels_in_one_column_are_labels(root, shape):
    y = np.array([2, 0, 1]).reshape(shape)
    table, target = saved(root, X=np.zeros((3, 2)), y=y)
    assert table.columns[target].tolist() == [2, 0, 1]


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_])
def test_one_hot_labels_are_refused_by_that_word(root, dtype):
    with pytest.raises(InvalidDataset, match="'y' is one-hot, with 3 values per row") as caught:
        saved(root, X=np.zeros((3, 2)), y=np.eye(3, dtype=dtype))
    assert "y.argmax(axis=1)" in caught.value.hint
    with pytest.raises(InvalidDataset, match=r"several labels per row \(shape \[3, 2\]\)"):
        saved(root, X=np.zeros((3, 2)), y=np.arange(6).reshape(3, 2))


@pytest.mark.parametrize(
    ("shape", "columns", "width"),
    [
        ((5,), ["f0"], ()),
        ((5, 3), ["f0", "f1", "f2"], ()),
        ((5, 4, 2), ["c0", "c1"], (4,)),
        ((5, 4, 2, 1), ["c0", "c1"], (4,)),
        ((5, 1, 4, 2), ["c0", "c1"], (4,)),
        ((5, 2, 3, 2), [f"f{index}" for index in range(12)], ()),
        ((5, 2, 1, 2, 2, 2), [f"f{index}" for index in range(16)], ()),
    ],
)
def test_inputs_of_any_rank_are_read(root, shape, columns, width):
    x = np.arange(float(np.prod(shape))).reshape(shape)
    table, _ = saved(root, X=x, y=np.arange(5))
    assert list(table.columns) == [*columns, "y"]
    assert table.columns[columns[0]].shape == (5, *width)
    read = np.stack([table.columns[name] for name in columns], axis=-1)
    assert np.array_equal(read.reshape(5, -1), x.reshape(5, -1))
    assert bool(table.remarks) is (len(columns) > 10)


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("train_x", "train_y", "test_x", "test_y"),
    ],
)
def test_train_and_test_arrays_are_the_users_own_split(root, names):
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 3
    arrays = dict(zip(names, (x[:7], y[:7, None], x[7:], y[7:, None]), strict=True))
    table, target = saved(root, **arrays)
    assert table.in_test.tolist() == [False] * 7 + [True] * 3
    assert table.columns["f1"].tolist() == x[:, 1].tolist()
    assert table.columns[target].tolist() == y.tolist()


def test_validation_arrays_become_training_rows_with_a_word(root):
    x, y = np.arange(20.0).reshape(10, 2), np.arange(10) % 3
    parts = {"train": slice(5), "val": slice(5, 7), "test": slice(7, 10)}
    arrays = {f"x_{part}": x[rows] for part, rows in parts.items()}
    table, _ = saved(root, **arrays, **{f"y_{part}": y[rows] for part, rows in parts.items()})
    assert table.in_test.tolist() == [False] * 7 + [True] * 3
    assert "validation rows given are training rows" in table.remarks[0]
    only_train, _ = saved(root, x_train=x, y_train=y)
    assert only_train.in_test is None


def test_ids_keep_every_digit(root):
    ids = np.array([2**53, 2**53 + 1, 5, 2**63 - 1])
    table, target = saved(root, X=np.zeros((4, 1)), symbol=ids, y=ids)
    for name in ("symbol", target):
        column = table.columns[name]
        assert [column.levels[code] for code in column.codes] == list(map(str, ids.tolist()))
    big = saved(root, a=np.array([2**53, 2**60, -(2**62)]), b=np.zeros(3))[0].columns["a"]
    assert big.tolist() == [2**53, 2**60, -(2**62)]
