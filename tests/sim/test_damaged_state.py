"""Whatever is altered in a state directory is noticed and named, or has no effect on any answer.

Every case opens a copy of one directory in which bytes or digits were changed, and compares what is reported
of every cluster with what was reported before. `serving.bundle_sha` stands for everything that shapes an
answer; the weights themselves are held against their digests when they are read.
"""

import json
import logging
import os
import random  # noqa: TID251  which bytes are changed
import re
import shutil
import sqlite3
from pathlib import Path

import pytest

from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.storage.journal import Journal
from flow_nexus_neural.errors import StoreCorrupt, StoreError
from tests.sim.simulated import world

KEPT = Path(__file__).parents[1] / "fixtures" / "state_dirs" / "3" / "state"
OPEN_COLUMNS = {
    "clusters": ("spec", "state"),
    "slots": ("spec",),
    "trainings": ("spec", "progress"),
    "history": ("point",),
    "ledger": ("body",),
}
AGES_AGO_S = 1e9
VOLATILE = ("uptime", "uptime_seconds", "memory_usage", "memory_bytes", "memory_source")


@pytest.fixture(autouse=True)
def heard(caplog):
    caplog.set_level(logging.WARNING)


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """A state directory that a server opened and closed, and what is reported of it."""
    import anyio

    place = tmp_path_factory.mktemp("settled") / "state"
    shutil.copytree(KEPT, place)
    for _ in range(2):  # the first ends the training that ran
        reports, lines = anyio.run(reported, place)
    assert all(isinstance(report, dict) for report in reports.values())
    assert "unreadable" not in lines.values()
    return place, reports


async def reported(state_dir):
    """What is reported of every cluster, or why that is refused; and the list of clusters."""
    async with world(state_dir) as w:
        lines = {line.cluster_id: line.status for line in (await w.engine.clusters()).clusters}
        reports = {}
        for cluster_id in lines:
            try:
                report = (await w.status(cluster_id)).model_dump(mode="json")
            except StoreCorrupt as refusal:
                reports[cluster_id] = refusal.message
            else:
                reports[cluster_id] = {k: v for k, v in report.items() if k not in VOLATILE}
    return reports, lines


def files_of(state_dir):
    return set((state_dir / "blobs").rglob("*.safetensors"))


def make_old(state_dir):
    """Files so old that a sweep would take them, were they not named."""
    for file in files_of(state_dir):
        os.utime(file, (AGES_AGO_S, AGES_AGO_S))


async def noticed(state_dir, before, caplog):
    """Open a damaged directory. True when the damage was named, False when it changed nothing at all."""
    make_old(state_dir)
    files = files_of(state_dir)
    caplog.clear()
    refusal = None
    try:
        reports, lines = await reported(state_dir)
    except* StoreError as refusals:
        refusal = leaf(refusals)
    if refusal is not None:
        assert re.search(r"state\.db|journal|COMMITS", refusal.message), refusal.message
        assert files_of(state_dir) == files
        return True
    said = "\n".join(record.getMessage() for record in caplog.records)
    changed = False
    for cluster_id, report in before.items():
        assert cluster_id in reports, f"{cluster_id} is gone without a word"
        now = reports[cluster_id]
        if now == report:
            continue
        changed = True
        assert cluster_id in said
        if isinstance(now, str):
            assert cluster_id in now
            assert lines[cluster_id] == "unreadable"
        else:
            assert any("lost" in warning for warning in now["warnings"]), (report, now)
    if changed:
        assert files_of(state_dir) == files
    return changed or bool(said)


def leaf(group):
    """The only failure in a group of groups."""
    while isinstance(group, BaseExceptionGroup):
        (group,) = group.exceptions
    return group


def flipped(path, offset, bit):
    content = bytearray(path.read_bytes())
    content[offset] ^= 1 << bit
    path.write_bytes(content)


def copy_of(place, tmp_path, name="copy"):
    copy = tmp_path / name
    shutil.copytree(place, copy)
    return copy


@pytest.mark.parametrize("seed", range(8))
async def test_a_flipped_bit_in_the_database_is_named_or_without_effect(
    settled, tmp_path, caplog, seed
):
    place, before = settled
    draw = random.Random(seed)
    size = (place / "state.db").stat().st_size
    ranges = [(0, 100), (100, 4096), *([(4096, size)] * 3)]
    for number, (start, stop) in enumerate(ranges):
        copy = copy_of(place, tmp_path, str(number))
        flipped(copy / "state.db", draw.randrange(start, stop), draw.randrange(8))
        await noticed(copy, before, caplog)


@pytest.mark.parametrize("seed", range(4))
async def test_a_flipped_bit_in_the_commit_marker_or_a_checkpoint_is_named_or_without_effect(
    settled, tmp_path, caplog, seed
):
    place, before = settled
    draw = random.Random(seed)
    for number in range(3):
        copy = copy_of(place, tmp_path, str(number))
        file = copy / "COMMITS" if number == 0 else draw.choice(sorted(files_of(copy)))
        flipped(file, draw.randrange(file.stat().st_size), draw.randrange(8))
        await noticed(copy, before, caplog)


def rows_with_digits(state_dir):
    """Every open part of every row, as (table, rowid, column, text)."""
    with sqlite3.connect(state_dir / "state.db") as connection:
        found = [
            (table, rowid, column, text)
            for table, columns in OPEN_COLUMNS.items()
            for column in columns
            for rowid, text in connection.execute(f"SELECT rowid, {column} FROM {table}")
        ]
    connection.close()
    return found


def change_digit(state_dir, row, draw):
    table, rowid, column, text = row
    at = draw.choice([match.start() for match in re.finditer(r"\d", text)])
    digit = str((int(text[at]) + draw.randrange(1, 10)) % 10)
    with sqlite3.connect(state_dir / "state.db") as connection:
        connection.execute(
            f"UPDATE {table} SET {column}=? WHERE rowid=?",
            (text[:at] + digit + text[at + 1 :], rowid),
        )
    connection.close()


@pytest.mark.parametrize("seed", range(6))
async def test_every_changed_digit_of_a_row_costs_its_cluster_alone(
    settled, tmp_path, caplog, seed
):
    place, before = settled
    draw = random.Random(seed)
    rows = rows_with_digits(place)
    by_table = {table: [row for row in rows if row[0] == table] for table in OPEN_COLUMNS}
    for number in range(7):
        table = draw.choice(list(OPEN_COLUMNS)) if number else "clusters"
        copy = copy_of(place, tmp_path, str(number))
        change_digit(copy, draw.choice(by_table[table]), draw)
        assert await noticed(copy, before, caplog)
        reports, lines = await reported(copy)
        refused = [name for name, status in lines.items() if status == "unreadable"]
        assert len(refused) == 1
        assert all(reports[name] == before[name] for name in before if name not in refused)


ALTERED = {
    "scaling": ('"mean":[', '"mean":[1'),
    "class names": ('"classes":[0,1]', '"classes":[1,0]'),
    "serving weights": ('"slot_weights":{', '"slot_weights":{"x":0.5,'),
    "metrics": ('"accuracy":', '"accuracy":0'),
    "traffic": ('"train":', '"train":1'),
}


@pytest.mark.parametrize("what", ALTERED)
async def test_what_shapes_or_describes_an_answer_cannot_be_altered_unnoticed(
    settled, tmp_path, caplog, what
):
    place, before = settled
    copy = copy_of(place, tmp_path)
    old, new = ALTERED[what]
    with sqlite3.connect(copy / "state.db") as connection:
        statement = "UPDATE clusters SET state=replace(state, ?, ?) WHERE name='two networks'"
        assert connection.execute(statement, (old, new)).rowcount == 1
    connection.close()
    assert await noticed(copy, before, caplog)


@pytest.mark.parametrize("table", ["clusters", "slots", "trainings", "history", "ledger"])
async def test_a_missing_row_is_noticed_and_no_file_is_swept(settled, tmp_path, caplog, table):
    place, before = settled
    copy = copy_of(place, tmp_path)
    with sqlite3.connect(copy / "state.db") as connection:
        connection.execute(f"DELETE FROM {table} WHERE rowid=(SELECT MAX(rowid) FROM {table})")
    connection.close()
    assert await noticed(copy, before, caplog)
    assert "no checkpoint file is removed" in caplog.text


async def test_a_row_under_another_id_is_no_cluster_of_its_own(settled, tmp_path, caplog):
    place, before = settled
    copy = copy_of(place, tmp_path)
    with sqlite3.connect(copy / "state.db") as connection:
        connection.execute("UPDATE clusters SET cluster_id='dnc_other' WHERE name='a line'")
    connection.close()
    assert await noticed(copy, before, caplog)
    _, lines = await reported(copy)
    assert [name for name in lines if lines[name] != "unreadable"] == [
        name for name in before if before[name]["name"] != "a line"
    ]


async def test_rows_without_the_ledger_that_names_them_are_refused(settled, tmp_path, caplog):
    place, before = settled
    copy = copy_of(place, tmp_path)
    (copy / "COMMITS").unlink()
    with sqlite3.connect(copy / "state.db") as connection:
        connection.execute("DELETE FROM ledger")
    connection.close()
    assert await noticed(copy, before, caplog)
    _, lines = await reported(copy)
    assert set(lines.values()) == {"unreadable"}


async def test_a_database_that_is_gone_is_told_by_the_names_of_its_clusters(
    settled, tmp_path, caplog
):
    place, before = settled
    copy = copy_of(place, tmp_path)
    (copy / "state.db").unlink()
    assert await noticed(copy, before, caplog)
    async with world(copy) as w:
        lines = {line.name: line.status for line in (await w.engine.clusters()).clusters}
        assert lines == {report["name"]: "unreadable" for report in before.values()}
        with pytest.raises(StoreCorrupt, match="nothing of it is left"):
            await w.status("a line")
        made = await w.engine.init_cluster(InitRequest(name="a line", reuse=True))
        assert made.created
        assert any("cannot be read" in warning for warning in made.warnings)
    assert files_of(copy)


async def test_without_database_and_marker_no_file_is_swept(settled, tmp_path, caplog):
    copy = copy_of(settled[0], tmp_path)
    make_old(copy)
    files = files_of(copy)
    for name in ("state.db", "COMMITS"):
        (copy / name).unlink()
    assert await reported(copy) == ({}, {})
    assert files_of(copy) == files
    assert "no checkpoint file is removed" in caplog.text


async def test_without_damage_the_sweep_takes_what_no_row_names(settled, tmp_path):
    """The control: nothing is kept for ever."""
    copy = copy_of(settled[0], tmp_path)
    stray = copy / "blobs" / "ab" / f"{'ab' * 32}.safetensors"
    stray.parent.mkdir(exist_ok=True)
    stray.write_bytes(b"stray")
    make_old(copy)
    files = files_of(copy)
    await reported(copy)
    assert files_of(copy) == files - {stray}


@pytest.fixture
async def with_log(tmp_path, monkeypatch):
    """A directory as a killed server leaves it that never wrote its log back, and what it reported."""
    monkeypatch.setattr(Journal, "_write_back", lambda _self: None)
    async with world(tmp_path / "live") as w:
        for name in (1, 2):
            cluster = await w.cluster(1, seed=name)
            await w.train(cluster, epochs=2)
        shutil.copytree(tmp_path / "live", tmp_path / "killed")
    monkeypatch.undo()
    killed = tmp_path / "killed"
    assert (killed / "state.db-wal").stat().st_size > 100_000
    reports, _ = await reported(copy_of(killed, tmp_path, "whole"))
    return killed, reports


async def test_a_flipped_bit_in_the_log_loses_no_cluster_without_a_word(with_log, tmp_path, caplog):
    killed, before = with_log
    draw = random.Random(7)
    size = (killed / "state.db-wal").stat().st_size
    outcomes = []
    for number in range(16):
        copy = copy_of(killed, tmp_path, str(number))
        at = draw.randrange(32 if number < 2 else size)
        flipped(copy / "state.db-wal", at, draw.randrange(8))
        outcomes.append(await noticed(copy, before, caplog))
    assert sum(outcomes) > 10


def lost(warnings):
    """Whether a reply says that commits are lost."""
    return any("ledger entries of this cluster are lost" in warning for warning in warnings)


async def test_a_cluster_that_lost_its_last_commits_goes_on_and_every_reply_says_so(
    with_log, tmp_path, caplog
):
    killed, before = with_log
    log = killed / "state.db-wal"
    content = log.read_bytes()
    log.write_bytes(content[:-100])  # the last commit is not whole: a training's end
    assert await noticed(killed, before, caplog)
    for _ in range(2):  # also when it is opened again
        async with world(killed) as w:
            (last,) = [c for c in before if lost((await w.status(c)).warnings)]
            other = next(name for name in before if name != last)
            assert lost((await w.predict(last)).warnings)
            assert not lost((await w.predict(other)).warnings)
    async with world(killed) as w:
        await w.done(last)  # the training whose end is lost ends once more
        await w.train(last, epochs=1)
        numbers = [entry["version"] for entry in await w.versions(last)]
        assert numbers == list(range(1, len(numbers) + 1))


async def test_what_the_server_acknowledged_is_in_the_database_and_not_in_the_log(tmp_path):
    async with world(tmp_path / "live") as w:
        cluster = await w.cluster(1)
        await w.train(cluster, epochs=2)
        log = tmp_path / "live" / "state.db-wal"
        assert log.stat().st_size == 0
        shutil.copytree(tmp_path / "live", tmp_path / "killed")
        (tmp_path / "killed" / "state.db-wal").unlink()
        status = await w.status(cluster)
    async with world(tmp_path / "killed") as w:
        assert (await w.status(cluster)).model_version == status.model_version


async def test_a_commit_that_the_marker_missed_is_no_damage(settled, tmp_path, caplog):
    """A server may be killed between a commit and its line."""
    place, before = settled
    copy = copy_of(place, tmp_path)
    marker = copy / "COMMITS"
    lines = marker.read_bytes().splitlines(keepends=True)
    marker.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    assert not await noticed(copy, before, caplog)
    marker.unlink()
    assert await noticed(copy, before, caplog)
    assert "COMMITS is missing" in caplog.text
    assert not await noticed(copy, before, caplog)


async def test_an_older_format_is_named_by_its_ledger_once_it_was_opened(tmp_path, caplog):
    place = tmp_path / "old"
    shutil.copytree(KEPT.parents[1] / "2" / "state", place)
    await reported(place)
    before, _ = await reported(place)
    assert caplog.text == ""
    with sqlite3.connect(place / "state.db") as connection:
        (text,) = connection.execute("SELECT state FROM clusters WHERE rowid=1").fetchone()
        state = json.loads(text)
        assert state["format"] == 2
        state["committed"]["loss"] = 0.125
        changed = json.dumps(state, sort_keys=True, separators=(",", ":"))
        connection.execute("UPDATE clusters SET state=? WHERE rowid=1", (changed,))
    connection.close()
    assert await noticed(place, before, caplog)
