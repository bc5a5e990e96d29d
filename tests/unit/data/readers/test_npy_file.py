import numpy as np
import pytest

from flow_nexus_neural.data.opening import DataRoots
from flow_nexus_neural.data.readers.npy_file import read_npy
from flow_nexus_neural.errors import InvalidDataset, LimitExceeded
from tests.unit.data.reading import read_path

ROWS = 1_000_000


def test_a_plain_npy_has_its_target_last(root):
    path = root / "a.npy"
    np.save(path, np.arange(8.0).reshape(2, 4))
    table, target = read_path(path, ROWS)
    assert target == "target"
    assert table.columns["target"].tolist() == [3, 7]
    assert list(table.columns) == ["f0", "f1", "f2", "target"]


def test_an_array_that_claims_more_than_its_file_holds_is_refused(root):
    path = root / "a.npy"
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 3), }"
    header = header.ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + b"\0" * 64)
    with pytest.raises((InvalidDataset, LimitExceeded)):
        read_path(path, ROWS)


@pytest.mark.parametrize("damage", [b"]", b'"', b"(", b"\xff"])
def test_a_damaged_array_header_is_refused(root, damage):
    path = root / "a.npy"
    np.save(path, np.arange(6.0).reshape(3, 2))
    content = path.read_bytes()
    for place in (20, 40, 90):
        path.write_bytes(content[:place] + damage + content[place + 1 :])
        with pytest.raises(InvalidDataset, match="plain array"):
            read_path(path, ROWS)


def test_an_archive_called_npy_is_told_from_an_array(root):
    np.savez(root / "a.npz", X=np.zeros(3))
    path = (root / "a.npz").rename(root / "a.npy")
    with (
        pytest.raises(InvalidDataset, match=r"not a \.npy file"),
        DataRoots([root]).open(path) as file,
    ):
        read_npy(file, ROWS)
