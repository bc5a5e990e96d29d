"""Rows on pages that can be read come back, whatever has become of the others."""

import sqlite3
from contextlib import closing

import pytest

from flow_nexus_neural.engine.storage.salvage import salvage

PAGE = 4096
ROWS = 400


@pytest.fixture
def journal(tmp_path):
    place = tmp_path / "state.db"
    with closing(sqlite3.connect(place)) as own, own:
        own.execute("CREATE TABLE things (name TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT")
        rows = [(f"n{k}", f"{k}" * 60) for k in range(ROWS)]
        own.executemany("INSERT INTO things VALUES (?, ?)", rows)
        own.execute("PRAGMA user_version=7")
    return place


def rows_of(place):
    with closing(sqlite3.connect(place)) as own:
        assert own.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert own.execute("PRAGMA user_version").fetchone() == (7,)
        return own.execute("SELECT rowid, name, body FROM things ORDER BY rowid").fetchall()


def spoilt(place, page):
    content = bytearray(place.read_bytes())
    content[page * PAGE : (page + 1) * PAGE] = b"\xff" * PAGE
    place.write_bytes(content)


def test_a_whole_journal_comes_back_whole(journal, tmp_path):
    expected = rows_of(journal)
    assert salvage(journal, tmp_path / "new")
    assert rows_of(tmp_path / "new") == expected


def test_a_bad_page_takes_its_own_rows_only(journal, tmp_path):
    expected, n_pages = rows_of(journal), journal.stat().st_size // PAGE
    good, lost = journal.read_bytes(), []
    for page in range(1, n_pages):
        spoilt(journal, page)
        assert salvage(journal, tmp_path / "new")
        found = rows_of(tmp_path / "new")
        assert set(found) <= set(expected)
        lost.append(len(expected) - len(found))
        journal.write_bytes(good)
    assert sum(0 < n < ROWS / 3 for n in lost) > n_pages / 3  # leaves
    assert 0 in lost  # of an index
    assert lost.count(ROWS) <= 1  # the root alone takes all


def test_without_its_first_page_nothing_can_be_told(journal, tmp_path):
    spoilt(journal, 0)
    assert not salvage(journal, tmp_path / "new")
    assert not (tmp_path / "new").exists()
