"""The decisions of autonomy on disk: the newest are kept, and what was altered is named."""

import sqlite3

import pytest

from flow_nexus_neural.coordination.autonomy.audit import sealed
from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.engine.storage.audit_rows import append_audit, read_audits
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.engine.storage.schema import SCHEMA_VERSION
from flow_nexus_neural.engine.storage.store import Store

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


def chain(n=4):
    made, prev = [], GENESIS
    for number in range(n):
        made.append(sealed(prev, {"seq": number, "rule": "restart_node"}))
        prev = made[-1]["sha"]
    return made


async def stored(tmp_path, entries):
    store = Store.open(tmp_path)
    await store.put(ClusterRow("dnc_1", "x", "now", None, {}, {}))
    await store.append_audit("dnc_1", entries)
    return store


def damage(tmp_path, statement):
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute(statement)
    connection.close()


async def test_entries_come_back_in_order(tmp_path):
    store = await stored(tmp_path, chain())
    found = await store.audit("dnc_1")
    assert (list(found.entries), found.damage) == (chain(), None)
    assert (await store.audit("dnc_2")).entries == ()
    store.close()


async def test_the_newest_are_kept(tmp_path):
    store = await stored(tmp_path, chain())
    store._journal.write(append_audit("dnc_1", [], kept=3))
    found = await store.audit("dnc_1")
    assert ([entry["seq"] for entry in found.entries], found.damage) == ([1, 2, 3], None)
    store.close()


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (
            "UPDATE audit SET body=replace(body, 'restart', 'restarx') WHERE seq=2",
            "entry 2 has sha",
        ),
        ("UPDATE audit SET body='{' WHERE seq=1", "entry 1 is not as it was written"),
        ("UPDATE audit SET sha='' WHERE seq=1", "entry 1 is not as it was written"),
        ("DELETE FROM audit WHERE seq=1", "entry 1 has seq 2"),
    ],
)
async def test_what_was_altered_is_named(tmp_path, statement, named):
    (await stored(tmp_path, chain())).close()
    damage(tmp_path, statement)
    store = Store.open(tmp_path)
    found = await store.audit("dnc_1")
    assert named in found.damage
    loaded = await store.load()
    assert loaded.audits["dnc_1"].damage == found.damage
    store.close()


def test_a_journal_of_the_version_before_gets_the_table(tmp_path):
    Store.open(tmp_path).close()
    damage(tmp_path, "DROP TABLE audit")
    damage(tmp_path, f"PRAGMA user_version={SCHEMA_VERSION - 1}")
    store = Store.open(tmp_path)
    (version,) = store._journal.read(lambda c: c.execute("PRAGMA user_version").fetchone())
    assert version == SCHEMA_VERSION
    assert store._journal.read(read_audits) == {}
    store.close()
