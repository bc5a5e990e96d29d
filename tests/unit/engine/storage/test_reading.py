"""Rows are held against their ledger when they are read."""

import sqlite3

import pytest

from flow_nexus_neural.coordination.ledger import GENESIS, make_entry
from flow_nexus_neural.engine.storage.journal import Journal, append, upsert
from flow_nexus_neural.engine.storage.reading import (
    ledger_lengths,
    names_rows,
    owner_of,
    read_stored,
)
from flow_nexus_neural.engine.storage.row_digests import ROWS, digests_of
from flow_nexus_neural.engine.storage.rows import ClusterRow, HistoryRow, SlotRow, TrainingRow

ROWS_OF = {
    name: [
        ClusterRow(name, f"name of {name}", "now", None, {"seed": 0}, {"final": None}),
        SlotRow(name, "worker-0", f"node_{name}", 1, None, "healthy", {}),
        TrainingRow(f"t_{name}", name, 0, "running", {}, {}, "now", None, None),
        HistoryRow(f"t_{name}", name, 1, {"loss": 0.5, "bytes": 10}),
    ]
    for name in ("c1", "c2")
}


def entry(name, rows):
    fields = {"seq": 0, "kind": "control", "cluster_id": name, ROWS: digests_of(rows)}
    return make_entry(GENESIS, fields)


@pytest.fixture
def journal(tmp_path):
    opened = Journal(tmp_path / "state.db")
    for name, rows in ROWS_OF.items():
        opened.write(*map(upsert, rows), append(name, entry(name, rows)))
    yield opened
    opened.close()


@pytest.fixture
def alter(tmp_path):
    def run(statement, *values):
        connection = sqlite3.connect(tmp_path / "state.db")
        connection.execute(statement, values)
        connection.commit()
        connection.close()

    return run


def test_rows_that_the_ledger_names_are_read(journal):
    stored = journal.load()
    assert stored.refused == {}
    assert stored.sealed == {"c1", "c2"}
    assert stored.history == (ROWS_OF["c1"][3], ROWS_OF["c2"][3])  # without their checks


def test_one_cluster_can_be_read_alone(journal):
    stored = journal.load("c2")
    assert [row.cluster_id for row in (*stored.clusters, *stored.slots, *stored.history)] == [
        "c2"
    ] * 3
    assert stored.ledgers.keys() == {"c2"}
    assert journal.load("nobody").clusters == ()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE slots SET incarnation=2 WHERE cluster_id='c1'", "'slots worker-0' has changed"),
        ("UPDATE slots SET node_id='x' WHERE cluster_id='c1'", "has changed"),
        ("UPDATE clusters SET name='x' WHERE cluster_id='c1'", "'clusters' has changed"),
        ("UPDATE history SET point=replace(point, '10', '11') WHERE cluster_id='c1'", "numbers in"),
        ("UPDATE history SET point=replace(point, '0.5', '0.6') WHERE cluster_id='c1'", "changed"),
        (
            "UPDATE history SET point=replace(point, 'check', 'chess') WHERE cluster_id='c1'",
            "changed",
        ),
        ("UPDATE history SET round_number=2 WHERE cluster_id='c1'", "numbers in"),
        ("DELETE FROM trainings WHERE cluster_id='c1'", "'trainings t_c1' is missing"),
        ("DELETE FROM clusters WHERE cluster_id='c1'", "'clusters' is missing"),
        ("UPDATE ledger SET entry_sha='0' WHERE cluster_id='c1'", "not as it was written"),
        ("UPDATE ledger SET body=replace(body, ':', ': ') WHERE cluster_id='c1'", "not as it was"),
        (
            "INSERT INTO slots VALUES ('c1', 'worker-1', 'n', 1, NULL, 'healthy', '{}')",
            "'slots worker-1' is named by no ledger entry",
        ),
    ],
)
def test_what_is_not_as_the_ledger_says_costs_its_cluster_alone(journal, alter, statement, why):
    alter(statement)
    stored = journal.load()
    assert stored.refused.keys() == {"c1"}
    assert why in stored.refused["c1"]


def test_a_text_that_is_no_text_any_more_is_read_and_refused(journal, alter):
    alter("UPDATE clusters SET name=CAST(x'ff' AS TEXT) WHERE cluster_id='c1'")
    assert journal.load().refused.keys() == {"c1"}


def test_rows_of_a_cluster_whose_ledger_names_none_are_read_as_they_are(tmp_path):
    """As older formats left them; the engine decides whether that may be."""
    journal = Journal(tmp_path / "state.db")
    journal.write(upsert(ROWS_OF["c1"][0]))
    stored = journal.load()
    assert stored.refused == {}
    assert stored.sealed == frozenset()
    assert not journal.read(names_rows)
    journal.close()


def test_lengths_and_owners_are_answered_from_the_tables(journal, alter):
    assert journal.read(ledger_lengths) == {"c1": ("name of c1", 1), "c2": ("name of c2", 1)}
    assert journal.read(names_rows)
    assert journal.read(lambda c: owner_of(c, "node_c1")) == "c1"
    assert journal.read(lambda c: owner_of(c, "t_c2")) == "c2"
    assert journal.read(lambda c: owner_of(c, "c1")) is None
    alter("DELETE FROM clusters WHERE cluster_id='c1'")
    assert journal.read(ledger_lengths)["c1"] == (None, 1)
    assert journal.read(read_stored).refused.keys() == {"c1"}
