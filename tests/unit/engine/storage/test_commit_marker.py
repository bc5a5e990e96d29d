"""The commit marker: it knows how much was committed, whatever became of the database."""

import pytest

from flow_nexus_neural.engine.storage import commit_marker
from flow_nexus_neural.engine.storage.commit_marker import NAME, CommitMarker, Mark
from flow_nexus_neural.errors import StoreUnavailable


@pytest.fixture
def path(tmp_path):
    return tmp_path / NAME


def opened_again(path):
    marker = CommitMarker(path)
    marker.close()
    return marker


def noted(path, *marks):
    marker = CommitMarker(path)
    for mark in marks:
        marker.note([mark])
    marker.close()


def test_the_last_line_of_each_cluster_counts(path):
    noted(path, Mark("c1", "one", 1), Mark("c2", "two", 1), Mark("c1", "", 2))
    marks = opened_again(path).marks
    assert marks == {"c1": Mark("c1", "one", 2), "c2": Mark("c2", "two", 1)}


def test_a_ledger_never_becomes_shorter_by_a_commit(path):
    noted(path, Mark("c1", "one", 5), Mark("c1", "one", 2))
    assert opened_again(path).marks["c1"].entries == 5


def test_a_database_that_lacks_commits_or_a_cluster_is_told_by_name(path):
    noted(path, Mark("c1", "one", 5), Mark("c2", "two", 3), Mark("c3", "three", 2))
    marker = CommitMarker(path)
    found = marker.compare({"c1": ("one", 4), "c3": ("three", 2)})
    marker.close()
    assert found.gone == {"c2": Mark("c2", "two", 3)}
    assert found.older == {"c1": Mark("c1", "one", 4, lost=1)}


def test_what_was_lost_is_remembered_and_added_up(path):
    noted(path, Mark("c1", "one", 5))
    for entries, lost in ((3, 2), (3, 2), (2, 3)):
        marker = CommitMarker(path)
        assert marker.compare({"c1": ("one", entries)}).older["c1"].lost == lost
        marker.close()
    noted(path, Mark("c1", "one", 9))
    assert opened_again(path).marks["c1"] == Mark("c1", "one", 9, lost=3)


def test_a_database_that_is_ahead_is_in_order(path):
    noted(path, Mark("c1", "one", 5))
    marker = CommitMarker(path)
    found = marker.compare({"c1": ("one", 6), "c2": ("two", 1)})
    marker.close()
    assert not found.gone
    assert not found.older
    assert {m.cluster_id: m.entries for m in opened_again(path).marks.values()} == {
        "c1": 6,
        "c2": 1,
    }


def test_a_line_that_was_not_finished_is_left_out_without_complaint(path):
    noted(path, Mark("c1", "one", 1), Mark("c1", "one", 2))
    path.write_bytes(path.read_bytes()[:-7])
    marker = opened_again(path)
    assert marker.marks["c1"].entries == 1
    assert not marker.damaged
    assert path.read_bytes().endswith(b"\n")


def test_any_flipped_bit_of_a_line_is_noticed_and_the_other_lines_are_read(path):
    noted(path, Mark("c1", "one", 1), Mark("c2", "two", 2))
    content = path.read_bytes()
    first = content.index(b"\n")
    for at in range(first):
        altered = bytearray(content)
        altered[at] ^= 1 << at % 8
        path.write_bytes(altered)
        marker = opened_again(path)
        assert marker.damaged
        assert marker.marks["c2"] == Mark("c2", "two", 2)
        assert not opened_again(path).damaged  # it was written anew


def test_a_long_file_is_written_anew_with_a_line_a_cluster(path, monkeypatch):
    monkeypatch.setattr(commit_marker, "MAX_BYTES", 1000)
    noted(path, *(Mark("c1", "one", number) for number in range(100)))
    assert path.stat().st_size > 1000
    assert opened_again(path).marks["c1"].entries == 99
    assert path.read_bytes().count(b"\n") == 1


def test_a_disk_that_refuses_a_line_costs_nothing_but_the_line(path, monkeypatch, caplog):
    marker = CommitMarker(path)
    with monkeypatch.context() as full:
        full.setattr(commit_marker.os, "write", lambda *_: 3)  # half a line
        marker.note([Mark("c1", "one", 1)])
        full.setattr(commit_marker.os, "open", refuse)
        marker.note([Mark("c1", "one", 2)])
    assert "could not be written" in caplog.text
    marker.note([Mark("c2", "two", 1)])
    marker.close()
    assert {m.entries for m in opened_again(path).marks.values()} == {1, 2}


def refuse(*_):
    raise OSError(28, "No space left on device")


def test_a_marker_that_cannot_be_opened_is_named(path):
    path.mkdir()
    with pytest.raises(StoreUnavailable, match=NAME):
        CommitMarker(path)
