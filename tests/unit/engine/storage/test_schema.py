"""A journal has exactly the tables that were made, or is refused as damaged."""

import sqlite3

import pytest

from flow_nexus_neural.engine.storage.journal import Journal
from flow_nexus_neural.engine.storage.journal_errors import translated
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.engine.storage.schema import (
    SCHEMA_VERSION,
    STEPS,
    TABLES,
    check_tables,
    is_new,
    make_tables,
    upgrade_tables,
)
from flow_nexus_neural.errors import ShuttingDown, StoreCorrupt, StoreUnavailable


@pytest.fixture
def connection():
    opened = sqlite3.connect(":memory:", isolation_level=None)
    yield opened
    opened.close()


def test_new_tables_are_those_that_are_expected(connection):
    assert is_new(connection)
    make_tables(connection)
    assert not is_new(connection)
    check_tables(connection)


@pytest.mark.parametrize(
    "damage",
    [
        "ALTER TABLE clusters RENAME COLUMN name TO nane",
        "DROP TABLE history",
        "PRAGMA user_version=0",
    ],
)
def test_other_tables_are_damage(connection, damage):
    make_tables(connection)
    connection.execute(damage)
    with pytest.raises(StoreCorrupt, match=r"state\.db is damaged"):
        check_tables(connection)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_journal_of_an_earlier_version_gets_the_tables_of_this_one(connection, version):
    connection.executescript("".join(STEPS[:version]) + f"PRAGMA user_version={version}")
    with pytest.raises(StoreCorrupt):
        check_tables(connection)
    upgrade_tables(connection)
    check_tables(connection)


def test_a_table_says_how_its_rows_are_laid_out():
    table = TABLES[ClusterRow]
    values = table.values(ClusterRow("c1", "n", "now", None, {"b": 1, "a": 2}, {}))
    assert dict(zip(table.columns, values, strict=True))["spec"] == '{"a":2,"b":1}'


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("SELECT nothing FROM nowhere", StoreCorrupt),
        ("INSERT INTO blobs VALUES ('a', 1, 'x'), ('a', 1, 'x')", StoreCorrupt),
        ("ATTACH '/no/such/place/x' AS x", StoreUnavailable),
    ],
)
def test_what_sqlite_says_is_told_apart(connection, statement, kind):
    make_tables(connection)
    with pytest.raises(kind, match="could not ask"), translated("ask"):
        connection.execute(statement)


def test_a_closed_journal_is_told_apart(connection):
    connection.close()
    with pytest.raises(ShuttingDown), translated("ask"):
        connection.execute("SELECT 1")


@pytest.mark.parametrize("bit", [0, 7])
def test_a_flipped_bit_in_the_text_of_a_table_is_damage(tmp_path, bit):
    """With the highest bit, what sqlite says of it is no text."""
    path = tmp_path / "state.db"
    Journal(path).close()
    content = bytearray(path.read_bytes())
    content[content.index(b"CREATE TABLE slots") + 9] ^= 1 << bit
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match=r"state\.db"):
        Journal(path)


def test_an_index_that_lies_is_made_anew(tmp_path, caplog):
    """An index holds nothing of its own, so damage to it costs nothing."""
    path = tmp_path / "state.db"
    Journal(path).close()
    with sqlite3.connect(path) as connection:
        for number in range(40):
            row = (f"cluster-{number:04}", "n", "now", None, "{}", "{}")
            connection.execute("INSERT INTO clusters VALUES (?, ?, ?, ?, ?, ?)", row)
        root = connection.execute(
            "SELECT rootpage FROM sqlite_schema WHERE name='sqlite_autoindex_clusters_1'"
        ).fetchone()[0]
    connection.close()
    content = bytearray(path.read_bytes())
    at = content.index(b"cluster-0039", (root - 1) * 4096, root * 4096)
    content[at + 8] ^= 1
    path.write_bytes(content)
    journal = Journal(path)
    assert len(journal.load().clusters) == 40
    journal.close()
    assert "indexes are made anew" in caplog.text
