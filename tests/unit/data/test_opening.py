"""What is opened is what was checked, whatever is put in its place meanwhile."""

import os
import socket
import sys
from pathlib import Path

import pytest

from flow_nexus_neural.data import opening
from flow_nexus_neural.data.data_file import DataFile
from flow_nexus_neural.data.opening import DataDirectory, DataRoots
from flow_nexus_neural.data.resolve import resolve
from flow_nexus_neural.errors import InvalidDataset, PathNotAllowed

SECRET = "a,y\n7,1\n"
CSV = "a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40))


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "a.csv").write_text(SECRET)
    return folder


def content_of(found: DataFile | DataDirectory) -> str:
    assert isinstance(found, DataFile)
    return found.stream().read().decode()


def swap(path: Path, target: Path) -> None:
    """Put a link in the place of a file or directory."""
    path.rename(path.with_name(f"{path.name}.old"))
    path.symlink_to(target)


@pytest.mark.parametrize("swapped", ["d/a.csv", "d"])
def test_a_link_swapped_in_after_the_check_is_not_followed(
    root, settings, outside, monkeypatch, swapped
):
    (root / "d").mkdir()
    (root / "d" / "a.csv").write_text(CSV)
    opened = DataRoots.open
    seen: list[str] = []

    def swap_then_open(self: DataRoots, resolved: Path):
        swap(root / swapped, outside / "a.csv" if swapped == "d/a.csv" else outside)
        seen.append(resolved.read_text())  # what opening the checked name again would read
        return opened(self, resolved)

    monkeypatch.setattr(DataRoots, "open", swap_then_open)
    with pytest.raises(InvalidDataset, match="replaced by a link"):
        resolve("d/a.csv", settings)
    assert seen == [SECRET]


def test_a_link_swapped_in_between_two_steps_of_the_way_is_not_followed(root, outside, monkeypatch):
    (root / "d" / "e").mkdir(parents=True)
    (root / "d" / "e" / "a.csv").write_text(CSV)
    true_open = os.open

    def swap_then_open(path, flags, *args, **options):
        if path == "e":
            swap(root / "d" / "e", outside)
        return true_open(path, flags, *args, **options)

    monkeypatch.setattr(opening.os, "open", swap_then_open)
    with (
        pytest.raises(InvalidDataset, match="replaced by a link"),
        DataRoots([root]).open(root / "d" / "e" / "a.csv"),
    ):
        pass


def test_an_entry_swapped_in_after_the_listing_is_checked_like_any_link(root, outside):
    (root / "d").mkdir()
    (root / "d" / "a.csv").write_text(CSV)
    with DataRoots([root]).open(root / "d") as directory:
        assert directory.names() == ["a.csv"]
        swap(root / "d" / "a.csv", outside / "a.csv")
        with pytest.raises(PathNotAllowed, match="leads out of the data roots"):
            directory.open("a.csv").__enter__()


def test_a_directory_that_is_moved_away_is_still_the_one_that_was_opened(root, outside):
    (root / "d").mkdir()
    (root / "d" / "a.csv").write_text(CSV)
    with DataRoots([root]).open(root / "d") as directory:
        swap(root / "d", outside)
        with directory.open("a.csv") as file:
            assert content_of(file) == CSV


@pytest.mark.parametrize("late", [False, True])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_never_waited_for(root, monkeypatch, late):
    path = root / "a.csv"
    path.write_text(CSV)
    true_open, asked = os.open, []

    def swap_then_open(name, flags, *args, **options):
        if name == "a.csv":
            asked.append(flags)
            path.unlink()
            os.mkfifo(path)
        return true_open(name, flags, *args, **options)

    if late:  # after its kind was looked at by name
        monkeypatch.setattr(opening.os, "open", swap_then_open)
    else:
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(InvalidDataset, match="not a regular file"), DataRoots([root]).open(path):
        pass
    assert all(flags & os.O_NONBLOCK for flags in asked)
    assert len(asked) == int(late)


def test_sockets_and_devices_are_refused(root):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(root / "s.csv"))
        with pytest.raises(InvalidDataset, match="not a regular file"):
            DataRoots([root]).open(root / "s.csv").__enter__()
    with pytest.raises(InvalidDataset, match="not a regular file"):
        DataRoots([Path("/dev")]).open(Path("/dev/null")).__enter__()


def test_a_path_outside_the_roots_is_not_opened(root, outside):
    with pytest.raises(PathNotAllowed):
        DataRoots([root]).open(outside / "a.csv").__enter__()


def test_an_entry_that_links_into_another_root_is_read(root, outside):
    (root / "a.csv").symlink_to(outside / "a.csv")
    with (
        DataRoots([root, outside]).open(root) as directory,
        directory.open("a.csv") as file,
    ):
        assert content_of(file) == SECRET


def test_where_the_system_cannot_walk_files_are_opened_by_name(root, outside, monkeypatch):
    monkeypatch.setattr(opening, "CAN_WALK", False)
    (root / "d").mkdir()
    (root / "d" / "a.csv").write_text(CSV)
    os.mkfifo(root / "d" / "b.csv")
    with DataRoots([root]).open(root / "d") as directory:
        assert directory.names() == ["a.csv", "b.csv"]
        with directory.open("a.csv") as file:
            assert content_of(file) == CSV
        with pytest.raises(InvalidDataset, match="not a regular file"):
            directory.open("b.csv").__enter__()
    swap(root / "d" / "a.csv", outside / "a.csv")
    with pytest.raises(InvalidDataset, match="replaced by a link"):
        DataRoots([root]).open(root / "d" / "a.csv").__enter__()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_every_descriptor_is_closed_again(root, outside):
    (root / "d").mkdir()
    (root / "d" / "a.csv").write_text(CSV)
    (root / "d" / "out.csv").symlink_to(outside / "a.csv")
    os.mkfifo(root / "d" / "b.csv")
    before = len(os.listdir("/proc/self/fd"))
    with DataRoots([root]).open(root / "d") as directory, directory.open("a.csv"):
        pass
    for name in ("b.csv", "out.csv", "none.csv", "a.csv/x"):
        with pytest.raises((InvalidDataset, OSError)):
            DataRoots([root]).open(root / "d" / name).__enter__()
    assert len(os.listdir("/proc/self/fd")) == before
