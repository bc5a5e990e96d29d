"""A directory without a journal, an older journal, and how a damage is said."""

import sqlite3
from contextlib import closing

from flow_nexus_neural.engine.storage.journal import Journal
from flow_nexus_neural.engine.storage.state_dir import prepare
from flow_nexus_neural.engine.storage.verification import Damage, Verification, verify


def test_a_directory_without_a_journal_is_not_whole(tmp_path):
    (only,) = verify(tmp_path).damages
    assert str(only) == "state.db: expected a journal, found nothing"


def test_a_new_journal_is_whole_and_tables_of_others_are_not(tmp_path):
    prepare(tmp_path)
    Journal(tmp_path / "state.db").close()
    found = verify(tmp_path)
    assert (found.ok, found.clusters, found.entries, found.files) == (True, 0, 0, 0)
    with closing(sqlite3.connect(tmp_path / "state.db")) as own, own:
        own.execute("CREATE TABLE more (x)")
    (only,) = verify(tmp_path).damages
    assert "its tables are not those that were made" in only.found


def test_a_damage_is_said_with_its_cluster_and_entry():
    damage = Damage("dnc_1", 4, "entry_sha", "aa", "bb")
    assert str(damage) == "cluster dnc_1: entry 4: entry_sha: expected aa, found bb"
    assert not Verification(damages=[damage]).ok
