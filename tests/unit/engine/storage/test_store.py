import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading

import anyio
import pytest

from flow_nexus_neural.coordination.ledger import GENESIS, head, make_entry
from flow_nexus_neural.engine.ports import Ports
from flow_nexus_neural.engine.storage.rows import BlobRow
from flow_nexus_neural.engine.storage.store import (
    ClusterRow,
    HistoryRow,
    SlotRow,
    Store,
    TrainingRow,
)
from flow_nexus_neural.errors import (
    ShuttingDown,
    StateDirLocked,
    StoreCorrupt,
    StoreUnavailable,
)
from tests.doubles.limits import HANG_S

CLUSTER = ClusterRow("c1", "trading", "2026-01-01T00:00:00Z", None, {"seed": 0}, {"epoch": 1})
SLOT = SlotRow("c1", "worker-0", "node_1", 1, 4321, "healthy", {"layers": []})
TRAINING = TrainingRow(
    "t1", "c1", 0, "running", {"epochs": 3}, {"round": 0}, "2026-01-01T00:00:01Z", None, None
)


def entry(seq, prev=GENESIS, cluster_id="c1", **fields):
    body = {"seq": seq, "kind": "version", "cluster_id": cluster_id, "cohort": "a"}
    return make_entry(prev, {**body, "parent": seq, "version": seq + 1, **fields})


def chain(n, cluster_id="c1"):
    entries, prev = [], GENESIS
    for seq in range(n):
        entries.append(entry(seq, prev, cluster_id))
        prev = entries[-1]["entry_sha"]
    return entries


@pytest.fixture
def opened(tmp_path):
    store = Store.open(tmp_path)
    yield store
    store.close()


async def begin(store):
    await store.put(CLUSTER)
    await store.put(TRAINING)


async def again(store, tmp_path):
    """What a new server would find."""
    store.close()
    reopened = Store.open(tmp_path)
    try:
        return await reopened.load()
    finally:
        reopened.close()


def rows_of(tmp_path, statement):
    connection = sqlite3.connect(tmp_path / "state.db")
    try:
        return connection.execute(statement).fetchall()
    finally:
        connection.close()


def damage(tmp_path, statement, *values):
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.execute(statement, values)
    connection.commit()
    connection.close()


async def test_a_new_store_is_empty(opened):
    stored = await opened.load()
    assert (
        stored.clusters == stored.slots == stored.trainings == stored.history == stored.blobs == ()
    )
    assert stored.ledgers == stored.refused == {}


async def test_everything_comes_back_after_a_restart(opened, tmp_path):
    await begin(opened)
    await opened.put(SLOT)
    point = HistoryRow("t1", "c1", 1, {"train_loss": 0.5})
    await opened.commit_version([entry(0)], [TRAINING, point], blobs=[("ab" * 32, 10, "state")])
    stored = await again(opened, tmp_path)
    assert stored.clusters == (CLUSTER,)
    assert stored.slots == (SLOT,)
    assert stored.trainings == (TRAINING,)
    assert stored.ledgers == {"c1": (entry(0),)}
    assert stored.history == (point,)
    assert stored.blobs == (BlobRow("ab" * 32, 10, "state"),)


async def test_a_row_put_again_replaces_the_one_with_its_key(opened):
    await begin(opened)
    await opened.put(SLOT)
    newer = SlotRow("c1", "worker-0", "node_2", 2, None, "recovering", {"layers": [1]})
    await opened.put(newer)
    ended = ClusterRow("c1", "trading", CLUSTER.created_at, "2026-02-01", {}, {})
    await opened.put(ended)
    stored = await opened.load()
    assert stored.slots == (newer,)
    assert stored.clusters == (ended,)
    assert stored.trainings == (TRAINING,)


async def test_rows_come_back_in_the_order_in_which_they_were_first_written(opened):
    for name in ("z", "a", "m"):
        await opened.put(ClusterRow(name, name, "now", None, {}, {}))
    await opened.put(ClusterRow("z", "again", "now", None, {}, {}))
    assert [row.cluster_id for row in (await opened.load()).clusters] == ["z", "a", "m"]


async def test_numbers_that_are_not_finite_are_stored_as_null(opened):
    await begin(opened)
    await opened.commit_version([entry(0)], [HistoryRow("t1", "c1", 1, {"loss": float("nan")})])
    assert (await opened.load()).history[0].point == {"loss": None}


async def test_a_version_is_stored_whole_or_not_at_all(opened):
    await begin(opened)
    stray = HistoryRow("no such training", "c1", 1, {})
    advanced = TrainingRow("t1", "c1", 0, "running", {}, {"round": 1}, "now", None, None)
    with pytest.raises(StoreCorrupt):
        await opened.commit_version([entry(0)], [advanced, stray], blobs=[("ab" * 32, 1, "state")])
    stored = await opened.load()
    assert stored.ledgers == {}
    assert stored.blobs == ()
    assert stored.trainings == (TRAINING,)
    await opened.commit_version([entry(0)])
    assert len((await opened.load()).ledgers["c1"]) == 1


async def test_an_entry_that_does_not_continue_the_chain_is_refused(opened):
    await begin(opened)
    first, second = chain(2)
    with pytest.raises(StoreCorrupt, match="does not continue"):
        await opened.commit_version([second])
    await opened.commit_version([first])
    forged = entry(1, "ab" * 32)
    for bad in (entry(0, metrics={}), forged, entry(2, first["entry_sha"])):
        with pytest.raises(StoreCorrupt, match="does not continue"):
            await opened.commit_version([bad])
    await opened.commit_version([second])
    assert head((await opened.load()).ledgers["c1"]).next_seq == 2


async def test_committing_again_changes_nothing(opened):
    await begin(opened)
    for sealed in chain(2):
        await opened.commit_version([sealed])
        await opened.commit_version([sealed])
    await opened.commit_version(chain(3))
    await opened.commit_version(chain(3)[:1])
    assert (await opened.load()).ledgers["c1"] == tuple(chain(3))


async def test_a_commit_may_name_new_blobs_and_drop_old_ones_at_once(opened):
    await begin(opened)
    await opened.commit_version([entry(0)], blobs=[("aa" * 32, 1, "state")])
    second = chain(2)[1]
    await opened.commit_version([second], blobs=[("bb" * 32, 2, "state")], dropped=["aa" * 32])
    assert (await opened.load()).blobs == (BlobRow("bb" * 32, 2, "state"),)


async def test_the_second_of_two_entries_being_wrong_keeps_the_first_out_too(opened):
    await begin(opened)
    with pytest.raises(StoreCorrupt):
        await opened.commit_version([entry(0), entry(1, "ab" * 32)])
    assert (await opened.load()).ledgers == {}


async def test_an_entry_of_another_cluster_is_refused(opened):
    await begin(opened)
    with pytest.raises(StoreCorrupt):
        await opened.commit_version([entry(0, cluster_id="c2")])


async def test_rows_of_an_unknown_cluster_are_refused(opened):
    with pytest.raises(StoreCorrupt, match="FOREIGN KEY"):
        await opened.put(SLOT)


async def test_a_training_ordinal_is_used_once(opened):
    await begin(opened)
    twin = TrainingRow("t2", "c1", 0, "running", {}, {}, "now", None, None)
    with pytest.raises(StoreCorrupt, match="UNIQUE"):
        await opened.put(twin)


async def test_blobs_are_named_once_and_dropped(opened):
    await opened.commit_version([], blobs=[("aa" * 32, 1, "schema"), ("bb" * 32, 2, "rows")])
    await opened.commit_version([], blobs=[("aa" * 32, 1, "schema")])
    await opened.commit_version([], dropped=["aa" * 32, "cc" * 32])
    assert (await opened.load()).blobs == (BlobRow("bb" * 32, 2, "rows"),)


async def test_a_damaged_ledger_refuses_its_cluster_and_no_other(opened, tmp_path):
    for cluster_id in ("c1", "c2"):
        await opened.put(ClusterRow(cluster_id, "n", "now", None, {}, {}))
        for sealed in chain(3, cluster_id):
            await opened.commit_version([sealed])
    opened.close()
    ((body,),) = rows_of(tmp_path, "SELECT body FROM ledger WHERE cluster_id='c1' AND seq=1")
    changed = {**json.loads(body), "cohort": "b"}
    damage(
        tmp_path, "UPDATE ledger SET body=? WHERE cluster_id='c1' AND seq=1", json.dumps(changed)
    )
    reopened = Store.open(tmp_path)
    try:
        stored = await reopened.load()
    finally:
        reopened.close()
    assert set(stored.refused) == {"c1"}
    assert "ledger entry 1 has entry_sha" in stored.refused["c1"]
    assert set(stored.ledgers) == {"c2"}
    assert len(stored.clusters) == 2


@pytest.mark.parametrize("text", ["{torn", "[]", "7", ""])
async def test_a_ledger_entry_that_is_no_object_is_named(opened, tmp_path, text):
    await begin(opened)
    for sealed in chain(2):
        await opened.commit_version([sealed])
    damage(tmp_path, "UPDATE ledger SET body=? WHERE seq=1", text)
    assert "ledger entry 1" in (await opened.load()).refused["c1"]


async def test_a_hole_in_a_ledger_is_named(opened, tmp_path):
    await begin(opened)
    for sealed in chain(3):
        await opened.commit_version([sealed])
    damage(tmp_path, "DELETE FROM ledger WHERE seq=1")
    assert "ledger entry 1 has seq 2 instead of 1" in (await opened.load()).refused["c1"]


def test_a_second_server_is_refused_and_told_who_holds_the_directory(opened, tmp_path):
    with pytest.raises(StateDirLocked) as refusal:
        Store.open(tmp_path)
    assert str(os.getpid()) in refusal.value.message
    assert refusal.value.details["pid"] == str(os.getpid())


def test_a_refused_server_does_not_take_the_lock_from_its_holder(opened, tmp_path):
    for _ in range(2):
        with pytest.raises(StateDirLocked):
            Store.open(tmp_path)


def test_another_process_is_refused_until_the_first_one_closes(opened, tmp_path):
    program = (
        "import sys; from pathlib import Path; from flow_nexus_neural.engine.storage.store import Store\n"
        "from flow_nexus_neural.errors import StateDirLocked\n"
        "try: Store.open(Path(sys.argv[1])).close()\n"
        "except StateDirLocked as refusal: sys.exit(refusal.message)\n"
    )

    def attempt():
        return subprocess.run(
            [sys.executable, "-c", program, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )

    refused = attempt()
    assert refused.returncode == 1
    assert f"process {os.getpid()}" in refused.stderr
    opened.close()
    assert attempt().returncode == 0


def test_opening_removes_unfinished_files_only(opened, tmp_path):
    opened.close()
    (tmp_path / "tmp" / "half.safetensors").write_bytes(b"half")
    kept = tmp_path / "blobs" / "kept"
    kept.write_bytes(b"whole")
    Store.open(tmp_path).close()
    assert list((tmp_path / "tmp").iterdir()) == []
    assert kept.exists()


def test_the_directory_and_its_files_are_private(tmp_path):
    place = tmp_path / "deep" / "state"
    Store.open(place).close()
    assert stat.S_IMODE(place.stat().st_mode) == 0o700
    assert stat.S_IMODE((place / "state.db").stat().st_mode) == 0o600
    assert stat.S_IMODE((place / "LOCK").stat().st_mode) == 0o600


def test_the_journal_is_in_the_mode_whose_cost_was_measured(opened, tmp_path):
    connection = opened._journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_file_that_is_no_journal_is_refused_and_the_lock_given_back(tmp_path):
    (tmp_path / "state.db").write_bytes(b"this is not a database" * 200)
    for _ in range(2):  # the second time would say "locked" had the first kept the lock
        with pytest.raises(StoreCorrupt):
            Store.open(tmp_path)


def test_damaged_pages_are_found_at_the_start_and_cost_the_rows_on_them(opened, tmp_path):
    for number in range(50):
        anyio.run(
            opened.put,
            ClusterRow(f"c{number}", "n" * 200, "now", None, {"x": "y" * 500}, {}),
        )
    opened.close()
    path = tmp_path / "state.db"
    content = bytearray(path.read_bytes())
    for page in range(len(content) // 4096 - 4, len(content) // 4096):
        content[page * 4096 : page * 4096 + 64] = b"\xff" * 64
    path.write_bytes(content)
    again = Store.open(tmp_path)
    stored = anyio.run(again.load)
    again.close()
    assert 0 < len(stored.clusters) < 50
    assert any("state.db was damaged" in complaint for complaint in stored.complaints)
    assert (tmp_path / "state.db.damaged-1").read_bytes() == bytes(content)
    Store.open(tmp_path).close()  # what is left is whole
    assert not (tmp_path / "state.db.damaged-2").exists()


def test_a_journal_of_a_newer_version_is_left_alone(opened, tmp_path):
    opened.close()
    damage(tmp_path, "PRAGMA user_version=99")
    with pytest.raises(StoreCorrupt, match="schema 99"):
        Store.open(tmp_path)
    assert rows_of(tmp_path, "PRAGMA user_version") == [(99,)]


async def test_a_closed_store_says_so(opened):
    opened.close()
    opened.close()
    with pytest.raises(ShuttingDown):
        await opened.load()
    with pytest.raises(ShuttingDown):
        await opened.put(CLUSTER)


async def test_a_full_disk_stores_nothing_of_the_call_and_the_store_goes_on(opened):
    await begin(opened)
    connection = opened._journal._connection
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count={pages + 1}")
    large = ClusterRow("c2", "n", "now", None, {"x": "y" * 100_000}, {})
    with pytest.raises(StoreUnavailable, match="full") as refusal:
        await opened.put(large)
    assert refusal.value.retryable
    assert (await opened.load()).clusters == (CLUSTER,)
    connection.execute("PRAGMA max_page_count=1000000")
    await opened.put(large)
    assert len((await opened.load()).clusters) == 2


async def test_a_write_that_is_cancelled_while_it_runs_is_finished_first(tmp_path):
    entered, go_on = threading.Event(), threading.Event()

    def pause(point):
        if point == "before_commit":
            entered.set()
            assert go_on.wait(timeout=HANG_S)

    store = Store.open(tmp_path, Ports(fail_point=pause))
    with anyio.fail_after(HANG_S):
        async with anyio.create_task_group() as group:
            group.start_soon(store.put, CLUSTER)
            await anyio.to_thread.run_sync(entered.wait)
            group.cancel_scope.cancel()
            go_on.set()
        await store.put(SLOT)
        stored = await store.load()
    store.close()
    assert stored.clusters == (CLUSTER,)
    assert stored.slots == (SLOT,)


async def test_a_write_that_is_cancelled_before_it_begins_stores_nothing(opened):
    with anyio.CancelScope() as scope:
        scope.cancel()
        await opened.put(CLUSTER)
    assert (await opened.load()).clusters == ()


async def test_writes_of_many_tasks_are_all_kept(opened):
    await opened.put(CLUSTER)
    async with anyio.create_task_group() as group:
        for number in range(20):
            slot = SlotRow("c1", f"worker-{number}", f"n{number}", 1, None, "healthy", {})
            group.start_soon(opened.put, slot)
    assert len((await opened.load()).slots) == 20


async def test_the_points_of_a_transaction_come_in_order(tmp_path):
    points = []
    store = Store.open(tmp_path, Ports(fail_point=points.append))
    await store.put(CLUSTER)
    store.close()
    assert points == ["before_commit", "after_commit"]
