"""What a killed process was writing is removed, at the next start or by whoever writes there next."""

import json
import os
import subprocess
import sys

import pytest

from flow_nexus_neural.data import unfinished
from flow_nexus_neural.data.output_place import output_place
from flow_nexus_neural.data.unfinished import FOLDER, note, note_over, sweep_noted, temporary_name
from flow_nexus_neural.data.writing import OutputFile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="not offered there")

PROGRAM = """
import sys
sys.path[:0] = sys.argv[3:]
from pathlib import Path
from flow_nexus_neural.data.output_place import output_place
from flow_nexus_neural.data.writing import OutputFile
place = output_place("sub/killed.csv", [Path(sys.argv[1])], Path(sys.argv[2]))
output = OutputFile(place, overwrite=False)
output.write(b"half")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    return tmp_path / "data"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def begun(folder, state, name="sub/out.csv"):
    return OutputFile(output_place(name, [folder], state), overwrite=False)


def killed(folder, state):
    """What a process that was killed in the middle of a file leaves; it is seen to be safe before that."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(state), *sys.path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == b"ready\n"
        sweep_noted(state, [folder / "other"])  # of other roots
        begun(folder, state).abandon()
        assert len(os.listdir(folder / "sub")) == 1, "it lives"
        process.kill()
    (left,) = os.listdir(folder / "sub")
    assert left.startswith(".killed.csv.")


def test_the_next_start_removes_it_and_forgets_the_note(folder, state):
    killed(folder, state)
    assert len(os.listdir(state / FOLDER)) == 1
    sweep_noted(state, [folder])
    assert os.listdir(folder / "sub") == []
    assert os.listdir(state / FOLDER) == []


def test_what_a_command_left_is_removed_wherever_its_user_had_it_written(folder, state, tmp_path):
    place = output_place("sub/out.csv", [folder], tmp_path / "copy", notes_dir=state)
    output = OutputFile(place, overwrite=False)
    output.write(b"half")
    assert not (tmp_path / "copy").exists(), "nobody looks there after the command was killed"
    os.close(output._descriptor)  # as its end does
    sweep_noted(state, [])
    assert os.listdir(folder / "sub") == []
    assert os.listdir(state / FOLDER) == []


def test_so_does_whoever_writes_there_next(folder, state):
    killed(folder, state)
    begun(folder, state).publish()
    assert os.listdir(folder / "sub") == ["out.csv"]


def test_files_that_only_look_alike_are_not_swept(folder, state):
    end = ".flow-nexus-neural.partial"
    names = [f".x{end}", f"a.0123456789abcdef{end}", f".csv.0123456789abcdeg{end}"]
    for name in names:
        (folder / name).write_text("mine")
    (folder / ".link.0123456789abcdef.flow-nexus-neural.partial").symlink_to(folder / names[0])
    begun(folder, state, "out.csv").abandon()
    assert len(os.listdir(folder)) == len(names) + 2


@pytest.mark.parametrize("content", ["no json", "[]", '{"root": 1}', '{"root": "/", "folders": 3}'])
def test_a_note_that_says_nothing_is_dropped(folder, state, content):
    (state / FOLDER).mkdir(parents=True)
    (state / FOLDER / "n.json").write_text(content)
    sweep_noted(state, [folder])
    assert os.listdir(state / FOLDER) == []


def test_a_note_leads_neither_out_of_the_roots_nor_through_a_link(folder, state, tmp_path):
    (tmp_path / "out").mkdir()
    left = tmp_path / "out" / ".x.0123456789abcdef.flow-nexus-neural.partial"
    left.write_text("mine")
    (folder / "link").symlink_to(tmp_path / "out")
    (state / FOLDER).mkdir(parents=True)
    for n, told in enumerate(
        (
            {"root": str(tmp_path / "out"), "folders": []},
            {"root": str(folder), "folders": ["link"]},
            {"root": str(folder), "folders": ["gone"]},
            {"root": str(folder), "folders": ["..", "out"]},
        )
    ):
        (state / FOLDER / f"{n}.json").write_text(json.dumps(told))
    sweep_noted(state, [folder])
    assert left.exists()
    assert os.listdir(state / FOLDER) == ["0.json"], "it waits until its root is one again"


def test_a_state_directory_that_is_full_keeps_nothing_from_being_written(
    folder, state, monkeypatch
):
    state.write_text("no directory")
    place = output_place("out.csv", [folder], state)
    assert note(place) is None
    note_over(None)
    monkeypatch.setattr(unfinished, "note_over", lambda noted: None)
    begun(folder, state, "out.csv").publish()
    assert "out.csv" in os.listdir(folder)


def test_what_is_being_swept_cannot_be_begun_meanwhile(folder, monkeypatch):
    """Whoever began it between the look of the sweep and the removal would write into nothing."""
    begun_now = folder / temporary_name("x")
    begun_now.write_text("half")
    unlink, held = os.unlink, []

    def removed(name, **where):
        with begun_now.open() as file:
            held.append(unfinished.lock(file.fileno()))
        unlink(name, **where)

    monkeypatch.setattr(unfinished.os, "unlink", removed)
    directory = os.open(folder, os.O_RDONLY)
    try:
        unfinished.sweep(directory)
    finally:
        os.close(directory)
    assert held == [False]
    assert not begun_now.exists()


def test_a_file_that_was_swept_before_its_lock_is_begun_again(folder, state, monkeypatch):
    lock = unfinished.lock

    def after_a_sweep(descriptor):
        monkeypatch.setattr(unfinished, "lock", lock)
        (swept,) = (folder / "sub").iterdir()
        swept.unlink()
        return lock(descriptor)

    monkeypatch.setattr(unfinished, "lock", after_a_sweep)
    begun(folder, state).publish()
    assert os.listdir(folder / "sub") == ["out.csv"]


def test_a_name_of_another_program_is_none_of_ours(folder, state):
    (folder / ".film.0123456789abcdef.partial").write_text("of another program")
    begun(folder, state, "out.csv").publish()
    assert len(os.listdir(folder)) == 3
