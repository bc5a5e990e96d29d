"""A file appears whole under its name or not at all, and only where it may."""

import errno
import fcntl
import hashlib
import os
import stat
import sys

import pytest

from flow_nexus_neural.data.output_place import output_place
from flow_nexus_neural.data.writing import OutputFile
from flow_nexus_neural.errors import InvalidArguments, PathNotAllowed, StoreUnavailable

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not offered there")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def place(tmp_path, folder):
    return output_place("out.csv", [folder], tmp_path / "state")


def begun(place, **more):
    return OutputFile(place, **{"overwrite": False, **more})


def test_a_file_appears_only_when_it_is_published(place, folder):
    output = begun(place)
    output.write(b"a,b\n")
    (partial,) = os.listdir(folder)
    assert partial.startswith(".out.csv.")
    assert partial.endswith(".partial")
    output.write(b"1,2\n")
    output.publish()
    assert os.listdir(folder) == ["out.csv"]
    assert (folder / "out.csv").read_bytes() == b"a,b\n1,2\n"
    assert stat.S_IMODE((folder / "out.csv").stat().st_mode) == 0o600
    assert output.n_bytes == output.tell() == 8
    assert output.sha256 == hashlib.sha256(b"a,b\n1,2\n").hexdigest()
    assert output.closed


def test_an_abandoned_file_leaves_nothing(place, folder):
    output = begun(place)
    output.write(b"a")
    output.abandon()
    output.abandon()
    assert os.listdir(folder) == []


def test_a_file_that_somebody_else_made_meanwhile_stays(place, folder):
    output = begun(place)
    output.write(b"ours")
    (folder / "out.csv").write_text("theirs")
    with pytest.raises(InvalidArguments, match=r"'out.csv' exists"):
        output.publish()
    assert os.listdir(folder) == ["out.csv"]
    assert (folder / "out.csv").read_text() == "theirs"


def test_a_file_made_between_the_last_look_and_the_naming_stays(place, folder, monkeypatch):
    output = begun(place)
    monkeypatch.setattr(output, "_check_name", lambda: (folder / "out.csv").write_text("theirs"))
    with pytest.raises(InvalidArguments, match="exists"):
        output.publish()
    assert (folder / "out.csv").read_text() == "theirs"
    assert os.listdir(folder) == ["out.csv"]


@pytest.mark.parametrize("there", [False, True])
def test_where_the_file_system_has_no_links_a_file_is_still_not_replaced(
    place, folder, monkeypatch, there
):
    def no_links(*_arguments, **_more):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    output = begun(place)
    output.write(b"ours")
    monkeypatch.setattr(output, "_check_name", lambda: None)
    if there:
        (folder / "out.csv").write_text("theirs")
        with pytest.raises(InvalidArguments, match="exists"):
            output.publish()
    else:
        output.publish()
    assert os.listdir(folder) == ["out.csv"]
    assert (folder / "out.csv").read_text() == ("theirs" if there else "ours")


def test_only_a_regular_file_is_replaced_and_only_when_that_is_allowed(place, folder, tmp_path):
    first = begun(place)
    first.write(b"old")
    first.publish()
    with pytest.raises(InvalidArguments, match="overwrite true"):
        begun(place)
    output = begun(place, overwrite=True)
    output.write(b"new")
    assert (folder / "out.csv").read_text() == "old"
    output.publish()
    assert (folder / "out.csv").read_text() == "new"
    (folder / "out.csv").unlink()
    (tmp_path / "victim").write_text("precious")
    (folder / "out.csv").symlink_to(tmp_path / "victim")
    with pytest.raises(PathNotAllowed, match="no regular file"):
        begun(place, overwrite=True)
    assert (tmp_path / "victim").read_text() == "precious"
    assert os.listdir(folder) == ["out.csv"]


@pytest.mark.parametrize("who", ["somebody else", "its user", "another server", "nobody now"])
def test_only_what_was_written_there_is_replaced_and_only_if_nobody_changed_it(
    place, folder, tmp_path, who
):
    if who == "another server":
        elsewhere = output_place("out.csv", [folder], tmp_path / "other")
        theirs = begun(elsewhere)
        theirs.write(b"precious")
        theirs.publish()
    elif who == "somebody else":
        (folder / "out.csv").write_text("precious")
    else:
        ours = begun(place)
        ours.write(b"old")
        ours.publish()
        if who == "its user":
            (folder / "out.csv").write_text("precious")
    again = lambda: begun(place, overwrite=True)  # noqa: E731
    if who == "nobody now":
        output = again()
        (folder / "out.csv").write_text("precious")  # while it was written
        output.write(b"new")
        again = output.publish
    with pytest.raises(PathNotAllowed, match=r"is not what was written there.*move it away"):
        again()
    assert (folder / "out.csv").read_text() == "precious"
    assert os.listdir(folder) == ["out.csv"]


def test_an_empty_file_is_no_loss_and_a_replaced_one_can_be_replaced_again(place, folder):
    (folder / "out.csv").touch()
    for content in (b"one", b"two", b"three"):
        output = begun(place, overwrite=True)
        output.write(content)
        output.publish()
        assert (folder / "out.csv").read_bytes() == content


def test_a_file_that_must_be_known_is_replaced_only_if_it_is(place, folder):
    def known(head):
        return head.startswith(b"ours ")

    (folder / "out.csv").write_text("thesis")
    for overwrite in (True, False):  # without it, no advice to give it
        with pytest.raises(PathNotAllowed, match="not written by an export: it is not replaced"):
            begun(place, overwrite=overwrite, former=known)
    assert (folder / "out.csv").read_text() == "thesis"
    (folder / "out.csv").write_text("ours 1")
    output = begun(place, overwrite=True, former=known)
    output.write(b"ours 2")
    (folder / "out.csv").write_text("thesis")  # while it was written
    with pytest.raises(PathNotAllowed, match="not replaced"):
        output.publish()
    assert os.listdir(folder) == ["out.csv"]
    assert (folder / "out.csv").read_text() == "thesis"


def test_a_link_that_takes_the_place_of_a_folder_is_not_followed(tmp_path, folder):
    (folder / "sub").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    place = output_place("sub/out.csv", [folder], tmp_path / "state")
    (folder / "sub").rmdir()
    (folder / "sub").symlink_to(outside)
    with pytest.raises(PathNotAllowed, match="replaced by a link"):
        begun(place)
    assert os.listdir(outside) == []


def test_a_folder_that_is_moved_away_takes_the_file_with_it(tmp_path, folder):
    (folder / "sub").mkdir()
    output = begun(output_place("sub/out.csv", [folder], tmp_path / "state"))
    output.write(b"a")
    (folder / "sub").rename(tmp_path / "moved")
    (folder / "sub").symlink_to(tmp_path)
    output.publish()
    assert (tmp_path / "moved" / "out.csv").read_bytes() == b"a"
    assert not (tmp_path / "out.csv").exists()


def test_a_file_that_a_sweeper_took_is_begun_again(place, folder, monkeypatch):
    taken, flock = [], fcntl.flock

    def take_the_first(descriptor, operation):
        if not taken:
            taken.append(1)
            raise OSError(errno.EAGAIN, "taken")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", take_the_first)
    output = begun(place)
    monkeypatch.undo()
    output.write(b"a")
    output.publish()
    assert "out.csv" in os.listdir(folder)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_is_named_and_leaves_nothing(place, folder, monkeypatch, call):
    output = begun(place)

    def full(*_arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(StoreUnavailable, match=r"could not write 'out.csv': No space left"):
        output.write(b"a") if call == "write" else output.publish()
    output.abandon()
    assert os.listdir(folder) == []
