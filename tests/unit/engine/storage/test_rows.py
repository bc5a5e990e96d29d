"""Rows have exactly the columns of their tables and cannot be changed once they are made."""

import sqlite3
from dataclasses import FrozenInstanceError, fields

import pytest

from flow_nexus_neural.engine.storage import rows
from flow_nexus_neural.engine.storage.schema import SCHEMA, TABLES

EXAMPLES = (
    rows.ClusterRow("c1", "n", "now", None, {}, {}),
    rows.SlotRow("c1", "worker-0", "node_1", 1, None, "healthy", {}),
    rows.TrainingRow("t1", "c1", 0, "running", {}, {}, "now", None, None),
    rows.HistoryRow("t1", "c1", 1, {}),
)


def columns(table):
    connection = sqlite3.connect(":memory:")
    connection.executescript(SCHEMA)
    found = [name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})")]
    connection.close()
    return found


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda row: type(row).__name__)
def test_a_row_has_the_columns_of_its_table(row):
    names = [field.name for field in fields(row)]
    assert set(columns(TABLES[type(row)].name)) == set(names)


def test_a_blob_is_read_in_the_order_of_its_columns():
    assert list(rows.BlobRow._fields) == columns("blobs")


@pytest.mark.parametrize("row", EXAMPLES, ids=lambda row: type(row).__name__)
def test_a_row_cannot_be_changed(row):
    for field in fields(row):
        with pytest.raises(FrozenInstanceError):
            setattr(row, field.name, None)


def test_nothing_is_wrong_with_what_is_stored_unless_it_is_said():
    stored = rows.Stored((), (), (), {}, (), ())
    assert (stored.refused, stored.older, stored.complaints) == ({}, {}, ())
    assert stored.sealed == frozenset()  # and no ledger is taken to name rows
