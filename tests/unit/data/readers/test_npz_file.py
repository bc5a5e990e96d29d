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


def test_a_lone_value_is_no_column(root):
    np.savez(root / "a.npz", a=np.zeros(3), b=np.float64(3))
    with pytest.raises(InvalidDataset, match="'b' is not a plain array file: it is a lone value"):
        read_path(root / "a.npz", ROWS)
