"""A folder is there whole under its name or not at all, and replaces only what this program wrote."""

import errno
import json
import os

import pytest

from flow_nexus_neural.data import folder_writing, unfinished
from flow_nexus_neural.data.folder_writing import Former, write_folder
from flow_nexus_neural.data.output_place import output_place
from flow_nexus_neural.errors import (
    InvalidArguments,
    InvalidDataset,
    PathNotAllowed,
    StoreUnavailable,
)

FILES = {"a.txt": b"one", "manifest.json": b'["a.txt"]'}


def listed(index):
    names = json.loads(index)
    if not isinstance(names, list):
        raise InvalidDataset("manifest.json is another program's")
    return names


@pytest.fixture
def root(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def write(root, name="model", files=FILES, *, overwrite=False, checked=lambda files: None):
    place = output_place(name, [root], root.parent / "state", "path", folder=True)
    former = Former("manifest.json", listed)
    write_folder(place, files, overwrite=overwrite, former=former, checked=checked)


def content(root, name="model"):
    return {file.name: file.read_bytes() for file in (root / name).iterdir()}


def test_the_check_sees_what_is_on_the_disk_before_the_folder_has_its_name(root):
    seen = []

    def checked(files):
        seen.append((dict(files), (root / "model").exists()))

    write(root, checked=checked)
    assert seen == [(FILES, False)]
    assert content(root) == FILES
    assert os.listdir(root) == ["model"]


def test_a_refused_check_leaves_nothing_and_the_former_folder_as_it_was(root):
    write(root)

    def refuse(files):
        raise StoreUnavailable("no")

    with pytest.raises(StoreUnavailable):
        write(
            root,
            files={"b.txt": b"two", "manifest.json": b'["b.txt"]'},
            overwrite=True,
            checked=refuse,
        )
    assert content(root) == FILES
    assert os.listdir(root) == ["model"]


@pytest.mark.parametrize("swaps", [True, False])
def test_only_overwrite_replaces_a_folder_and_only_one_of_this_kind(root, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(folder_writing, "_exchanged", lambda *names: False)
    new = {"b.txt": b"two", "manifest.json": b'["b.txt"]'}
    write(root)
    with pytest.raises(InvalidArguments, match="exists"):
        write(root, files=new)
    write(root, files=new, overwrite=True)
    assert content(root) == new
    (root / "mine").mkdir()
    (root / "mine" / "thesis.txt").write_text("years of work")
    for overwrite in (True, False):
        with pytest.raises(PathNotAllowed, match=r"holds no 'manifest\.json'"):
            write(root, "mine", overwrite=overwrite)
    (root / "file").write_text("x")
    with pytest.raises(PathNotAllowed, match="is no folder"):
        write(root, "file", overwrite=True)
    assert sorted(os.listdir(root)) == ["file", "mine", "model"]
    assert (root / "mine" / "thesis.txt").exists()


def test_a_full_disk_leaves_nothing(root, monkeypatch):
    def full(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folder_writing.os, "write", full)
    with pytest.raises(StoreUnavailable, match="No space left"):
        write(root)
    assert os.listdir(root) == []


def test_what_a_killed_process_left_is_removed_and_what_another_one_writes_is_not(root):
    (root / ".model.0123456789abcdef.flow-nexus-neural.partial").mkdir()
    (root / ".model.0123456789abcdef.flow-nexus-neural.partial" / "a.txt").write_text("half")
    other = root / ".other.fedcba9876543210.flow-nexus-neural.partial"
    other.mkdir()
    held = os.open(other, os.O_RDONLY)
    try:
        assert unfinished.lock(held)
        write(root)
        assert sorted(os.listdir(root)) == [other.name, "model"]
    finally:
        os.close(held)


def test_a_folder_that_was_swept_before_its_lock_is_begun_again(root, monkeypatch):
    lock = unfinished.lock

    def after_a_sweep(descriptor):
        monkeypatch.setattr(unfinished, "lock", lock)
        (swept,) = root.iterdir()
        swept.rmdir()
        return lock(descriptor)

    monkeypatch.setattr(unfinished, "lock", after_a_sweep)
    write(root)
    assert os.listdir(root) == ["model"]


def test_there_is_no_way_out_of_the_roots(root, tmp_path):
    (root / "link").symlink_to(tmp_path)
    for path in ("../model", "link/model", str(tmp_path / "model"), ".hidden"):
        with pytest.raises(PathNotAllowed, match=r"^path_not_allowed: path|^path "):
            write(root, path)
    with pytest.raises(InvalidArguments, match="path: there is no directory 'none'"):
        write(root, "none/model")


@pytest.mark.parametrize(
    ("index", "extra"),
    [
        (b'{"name": "a browser extension"}', "src/precious.js"),
        (b'["a.txt"]', "src/precious.js"),
        (b'["a.txt"]', "notes.md"),
        (b'["a.txt", "src"]', "src/precious.js"),
    ],
)
def test_overwrite_leaves_a_folder_alone_that_holds_more_than_an_earlier_export(root, index, extra):
    write(root)
    (root / "model" / "manifest.json").write_bytes(index)
    precious = root / "model" / extra
    precious.parent.mkdir(exist_ok=True)
    precious.write_text("years of work")
    with pytest.raises(PathNotAllowed, match="not replaced"):
        write(root, overwrite=True)
    assert precious.read_text() == "years of work"
    assert os.listdir(root) == ["model"]


def test_overwrite_follows_no_link_in_place_of_the_manifest(root):
    write(root)
    (root / "model" / "manifest.json").rename(root / "elsewhere")
    (root / "model" / "manifest.json").symlink_to(root / "elsewhere")
    with pytest.raises(PathNotAllowed, match="not replaced"):
        write(root, overwrite=True)
