"""Only the files that an index names are read, each no longer than it says, and none through a link out."""

import json

import pytest

from flow_nexus_neural.data.folder_reading import read_folder
from flow_nexus_neural.errors import (
    DatasetNotFound,
    InvalidDataset,
    LimitExceeded,
    PathNotAllowed,
)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data" / "model"
    folder.mkdir(parents=True)
    (folder / "index").write_text(json.dumps({"a": 3}))
    (folder / "a").write_bytes(b"abc")
    return tmp_path / "data"


def read(root, path="model", limit=100):
    return read_folder(path, [root], "index", json.loads, limit)


def test_the_named_files_are_read_from_any_root(root, tmp_path):
    assert read(root)["a"] == b"abc"
    assert read_folder("model", [tmp_path, root], "index", json.loads, 100)["a"] == b"abc"
    assert read(root, str(root / "model"))["a"] == b"abc"


def test_what_is_larger_missing_besides_or_elsewhere_is_refused(root, tmp_path):
    folder = root / "model"
    with pytest.raises(LimitExceeded, match="1 files of 3 bytes; the limit is 2") as too_large:
        read(root, limit=2)
    assert too_large.value.hint.startswith("no flag raises this limit")
    (folder / "a").write_bytes(b"abcd")
    with pytest.raises(InvalidDataset, match="'a' has 4 bytes, more than the 3"):
        read(root)
    (folder / "a").unlink()
    with pytest.raises(InvalidDataset, match="'a' is missing"):
        read(root)
    (tmp_path / "secret").write_bytes(b"abc")
    (folder / "a").symlink_to(tmp_path / "secret")
    with pytest.raises(PathNotAllowed, match="leads out of the data roots"):
        read(root)
    (folder / "b").write_bytes(b"")
    with pytest.raises(InvalidDataset, match="'b' is not part"):
        read(root)
    (folder / "index").unlink()
    with pytest.raises(InvalidDataset, match="is no export of this program: it holds 'a', 'b'"):
        read(root)
    with pytest.raises(InvalidDataset, match="is no folder"):
        read(root, "model/b")
    with pytest.raises(DatasetNotFound):
        read(root, "none")
    with pytest.raises(PathNotAllowed):
        read(root, "../secret")
