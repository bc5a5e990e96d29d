"""Kept versions on disk: read back as they were, forgotten when they are not kept, refused when altered."""

import sqlite3

import pytest

from flow_nexus_neural.engine.storage.kept_rows import delete_kept, read_kept, write_kept
from flow_nexus_neural.engine.storage.schema import make_tables
from flow_nexus_neural.engine.storage.version_rows import load_version, stored_alone
from flow_nexus_neural.errors import StoreCorrupt
from tests.unit.engine.building import bundle, committed, network


@pytest.fixture
def connection():
    opened = sqlite3.connect(":memory:", isolation_level=None)
    make_tables(opened)
    opened.execute("INSERT INTO clusters VALUES ('dnc_1', 'n', 'now', NULL, '{}', '{}')")
    yield opened
    opened.close()


def version(number):
    weights = {"worker-0": 1.0}
    group = network(blob="b", moments_blob="m", server_blob="s", stored_step=9)
    return committed([group], bundle(weights, version=number), version=number, best={"c0": "b"})


def test_a_version_is_read_back_without_what_only_a_training_needs(connection):
    write_kept("dnc_1", version(3), [3])(connection)
    stored = read_kept(connection, "dnc_1", 3)
    assert stored == stored_alone(version(3))
    group = stored.networks["c0"]
    assert (group.blob, group.moments_blob, group.server_blob) == ("b", None, None)
    assert (stored.best, stored.kept) == ({}, ())
    loaded = load_version(stored, None)
    assert (loaded.bundle, loaded.schema) == (version(3).bundle, version(3).schema)


def test_versions_that_are_not_kept_are_forgotten(connection):
    for number, kept in ((3, [3]), (4, [3, 4]), (5, [3, 5])):
        write_kept("dnc_1", version(number), kept)(connection)
    numbers = connection.execute("SELECT version FROM versions ORDER BY version").fetchall()
    assert numbers == [(3,), (5,)]
    with pytest.raises(StoreCorrupt, match="version 4 is missing"):
        read_kept(connection, "dnc_1", 4)
    delete_kept("dnc_1")(connection)
    assert connection.execute("SELECT COUNT(*) FROM versions").fetchone() == (0,)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("body=replace(body, '0.75', '0.99')", "has changed"),
        ("version=4", "has changed"),
        ("cluster_id='dnc_1', body='{}'", "has changed"),
    ],
)
def test_an_altered_version_is_refused(connection, change, why):
    write_kept("dnc_1", version(3), [3])(connection)
    connection.execute(f"UPDATE versions SET {change}")
    with pytest.raises(StoreCorrupt, match=why):
        read_kept(connection, "dnc_1", 4 if "version" in change else 3)
