"""What was written under a name is remembered by its digest, and by nothing that only looks alike."""

import hashlib
import json
import os

import pytest

from flow_nexus_neural.data import written
from flow_nexus_neural.data.output_place import OutputPlace
from flow_nexus_neural.data.written import FOLDER, is_remembered, remember


@pytest.fixture
def place(tmp_path):
    (tmp_path / "data").mkdir()
    return OutputPlace(tmp_path / "data", (), "a.csv", notes_dir=tmp_path / "state")


def known(place, content):
    place.path.write_bytes(content)
    with place.path.open("rb") as file:
        return is_remembered(place, file.fileno())


def told(place, content):
    remember(place, hashlib.sha256(content).hexdigest())


def test_the_last_two_files_of_a_path_are_known_and_only_there(place, tmp_path):
    assert not known(place, b"1")
    for content in (b"1", b"2", b"3", b"3"):
        told(place, content)
    # The last: about to be published. The one before: still there after a crash.
    assert [known(place, content) for content in (b"1", b"2", b"3")] == [False, True, True]
    elsewhere = OutputPlace(tmp_path / "data", (), "b.csv", notes_dir=tmp_path / "state")
    assert not known(elsewhere, b"3")
    assert not known(OutputPlace(tmp_path / "data", (), "a.csv"), b"3")
    assert len(os.listdir(tmp_path / "state" / FOLDER)) == 1


def test_a_file_stays_known_however_often_its_replacement_failed(place):
    told(place, b"there")
    for content in (b"1", b"2", b"3"):
        assert known(place, b"there")
        told(place, content)
    assert known(place, b"there")


@pytest.mark.parametrize("content", ["", "[]", '{"sha256": 3}', '{"sha256": [1, null]}'])
def test_a_record_that_says_nothing_knows_nothing_and_is_written_anew(place, tmp_path, content):
    told(place, b"1")
    (record,) = (tmp_path / "state" / FOLDER).iterdir()
    record.write_text(content)
    assert not known(place, b"1")
    told(place, b"1")
    assert known(place, b"1")
    assert json.loads(record.read_text())["path"] == str(place.path)


def test_a_disk_without_room_costs_the_replacement_and_nothing_else(place, tmp_path):
    (tmp_path / "state").write_text("no directory")
    told(place, b"1")
    assert not known(place, b"1")


def test_the_oldest_paths_are_forgotten(place, tmp_path, monkeypatch):
    monkeypatch.setattr(written, "MOST_PATHS", 3)
    for n in range(8):
        told(OutputPlace(tmp_path / "data", (), f"{n}.csv", notes_dir=tmp_path / "state"), b"x")
    assert len(os.listdir(tmp_path / "state" / FOLDER)) <= 4
