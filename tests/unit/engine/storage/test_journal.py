"""Transactions of the journal are whole, durable when they return, and in the database itself soon after."""

import shutil
import sqlite3
import stat
from dataclasses import replace

import pytest

from flow_nexus_neural.coordination.ledger import GENESIS, make_entry
from flow_nexus_neural.engine.storage.journal import (
    Journal,
    append,
    drop_blobs,
    name_blobs,
    upsert,
)
from flow_nexus_neural.engine.storage.rows import BlobRow, ClusterRow, SlotRow
from flow_nexus_neural.errors import ShuttingDown, StoreCorrupt, StoreUnavailable

CLUSTER = ClusterRow("c1", "n", "now", None, {"seed": 0}, {})
STRAY = SlotRow("c9", "worker-0", "node_1", 1, None, "healthy", {})
SHA = "ab" * 32


def entry(seq=0, prev=GENESIS, **fields):
    return make_entry(prev, {"seq": seq, "kind": "control", "cluster_id": "c1", **fields})


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "state.db")
    yield opened
    opened.close()


def test_writes_are_applied_together_or_not_at_all(journal):
    with pytest.raises(StoreCorrupt, match="contradict what is stored"):
        journal.write(upsert(CLUSTER), name_blobs([(SHA, 1, "weights")]), upsert(STRAY))
    stored = journal.load()
    assert (stored.clusters, stored.blobs) == ((), ())
    journal.write(upsert(CLUSTER))
    assert journal.load().clusters == (CLUSTER,)


def test_a_failure_before_the_commit_stores_nothing_and_the_journal_goes_on(tmp_path):
    failing = []

    def at(point):
        if point in failing:
            raise StoreUnavailable("full")

    journal = Journal(tmp_path / "state.db", at)
    failing.append("before_commit")
    with pytest.raises(StoreUnavailable):
        journal.write(upsert(CLUSTER))
    failing.clear()
    assert journal.load().clusters == ()
    journal.write(upsert(CLUSTER))
    assert journal.load().clusters == (CLUSTER,)
    journal.close()


def test_what_is_written_is_in_the_database_when_the_log_is_lost(journal, tmp_path):
    journal.write(upsert(CLUSTER))
    shutil.copy(tmp_path / "state.db", tmp_path / "copy.db")  # without its log
    copy = Journal(tmp_path / "copy.db")
    assert copy.load().clusters == (CLUSTER,)
    copy.close()


def test_another_connection_does_not_see_what_is_not_committed(tmp_path):
    seen = []

    def at(point):
        other = sqlite3.connect(tmp_path / "state.db")
        seen.append((point, other.execute("SELECT count(*) FROM clusters").fetchone()[0]))
        other.close()

    journal = Journal(tmp_path / "state.db", at)
    journal.write(upsert(CLUSTER))
    journal.close()
    assert seen == [("before_commit", 0), ("after_commit", 1)]


def test_an_entry_is_added_once_and_only_at_the_end_of_its_own_chain(journal):
    first = entry()
    second = entry(1, first["entry_sha"])
    journal.write(upsert(CLUSTER), append("c1", first), append("c1", first))
    for wrong in (
        append("c1", entry(event="another first")),
        append("c1", entry(1, "cd" * 32)),
        append("c1", entry(2, first["entry_sha"])),
        append("c2", entry()),
    ):
        with pytest.raises(StoreCorrupt, match="does not continue"):
            journal.write(wrong)
    journal.write(append("c1", second))
    assert journal.load().ledgers == {"c1": (first, second)}


def test_a_file_is_named_once_and_dropped(journal):
    journal.write(name_blobs([(SHA, 1, "weights")]), name_blobs([(SHA, 2, "rows")]))
    assert journal.load().blobs == (BlobRow(SHA, 1, "weights"),)
    journal.write(drop_blobs([SHA, "cd" * 32]))
    assert journal.load().blobs == ()


def test_a_question_is_answered_from_one_state_and_leaves_no_transaction(journal):
    journal.write(upsert(CLUSTER))
    assert journal.read(lambda c: c.in_transaction and c.execute("SELECT 7").fetchone()) == (7,)
    with pytest.raises(LookupError):
        journal.read(lambda c: {}["nothing"])
    journal.write(upsert(replace(STRAY, cluster_id="c1")))


def test_damage_to_an_index_is_repaired_for_it_holds_nothing_of_its_own(journal, tmp_path, caplog):
    journal.write(upsert(CLUSTER))
    journal.close()
    damaged = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    name = "sqlite_autoindex_clusters_1"
    page = damaged.execute("SELECT rootpage FROM sqlite_schema WHERE name=?", (name,)).fetchone()
    size = damaged.execute("PRAGMA page_size").fetchone()[0]
    damaged.close()
    content = bytearray((tmp_path / "state.db").read_bytes())
    end = page[0] * size
    content[end - 4 : end] = b"\x00c9\x00"  # an entry of the index says another key
    (tmp_path / "state.db").write_bytes(content)
    reopened = Journal(tmp_path / "state.db")
    assert reopened.load().clusters == (CLUSTER,)
    reopened.close()
    assert "its indexes are made anew" in caplog.text


def test_the_files_are_private_also_when_they_were_not(tmp_path):
    path = tmp_path / "state.db"
    Journal(path).close()
    path.chmod(0o644)
    journal = Journal(path)
    journal.write(upsert(CLUSTER))
    modes = {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    journal.close()
    assert modes == {0o600}


def test_a_journal_that_cannot_be_made_or_is_closed_says_so(journal, tmp_path):
    with pytest.raises(StoreUnavailable):
        Journal(tmp_path / "no such folder" / "state.db")
    journal.close()
    journal.close()
    for call in (lambda: journal.write(upsert(CLUSTER)), journal.load):
        with pytest.raises(ShuttingDown):
            call()
