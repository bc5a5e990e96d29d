"""A flipped bit in any column of any table, or in any kind of file, is named and costs one cluster at most.

Which tables, columns and kinds of files there are is asked of the journal, so that a new one is flipped too.
"""

import shutil
import sqlite3
from contextlib import closing

import anyio
import pytest

from flow_nexus_neural.engine.storage.verification import KINDS, verify
from flow_nexus_neural.errors import NeuralError
from tests.doubles.seeded import run_seeded
from tests.doubles.tables import cells
from tests.sim.gossiping import LINKED
from tests.sim.scheduled import scheduled_world
from tests.sim.test_damaged_state import flipped
from tests.sim.test_learning_from_outcomes import records, told, told_of
from tests.sim.test_privacy import LOUD, ROUND

OF_NO_CONSEQUENCE = {
    ("blobs", "sha"): "no file of that name",
    ("slots", "pid"): "of a process that is gone",
}
RUNNING = {"epochs": 60, "patience": 60}


async def everything(place):
    """A directory with a row in every table and a file of every kind; ids of its clusters."""
    async with scheduled_world(place, modes=LINKED) as w:
        outcomes = await told_of(w, 2, name="outcomes")
        await w.train(outcomes, epochs=2)
        await told(w, outcomes, records(12, 1))
        w.kill("worker-1")
        await anyio.sleep(4.0)  # it comes back, and the audit log says so
        raft = await w.cluster(3, name="raft", consensus="raft")
        await w.train(raft, epochs=2, aggregation_method="fedadam")
        private = await w.cluster(4, name="private")
        await w.train(private, privacy=LOUD, epochs=2, **ROUND)
        running = {
            "scaffold": {"aggregation_method": "scaffold", "optimizer": "sgd"},
            "gossip": {},
        }
        ids = [outcomes, raft, private]
        for name, train in running.items():
            more = {"consensus": "gossip", "topology": "ring"} if name == "gossip" else {}
            cluster = await w.cluster(3, name=name, **more)
            await w.start(cluster, **RUNNING, **train)
            await w.rounds(cluster, 2)
            ids.append(cluster)
    return ids


async def seen(place):
    """What a server that changes nothing says of every cluster: status, and an answer; or its refusal."""
    found = {}
    async with scheduled_world(place, modes=LINKED, read_only=True) as w:
        for line in (await w.engine.clusters()).clusters:
            try:
                status = await w.status(line.cluster_id)
                answer = await w.predict(line.cluster_id)
            except NeuralError as refusal:
                found[line.cluster_id] = refusal.message
            else:
                told_ = (status.history, status.evaluation, status.training, status.learnt)
                numbers = (answer.prediction, answer.predictions, answer.confidences, told_)
                found[line.cluster_id] = (numbers, (*status.warnings, *answer.warnings))
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    place = tmp_path_factory.mktemp("flipped") / "state"
    ids = run_seeded(everything, place)
    assert verify(place).damages == []
    before = run_seeded(seen, copied(place, place.parent / "read"))
    assert set(before) == set(ids)
    assert all(isinstance(told_, tuple) for told_ in before.values()), before
    return place, before


def copied(place, to):
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(place, to)
    return to


def columns(place):
    """Every column that has a value in some row, as (table, column)."""
    with closing(sqlite3.connect(place / "state.db")) as own:
        tables = [n for (n,) in own.execute("SELECT name FROM sqlite_schema WHERE type='table'")]
        found = {}
        for table in tables:
            for _, column, *_ in own.execute(f"PRAGMA table_info({table})").fetchall():
                query = f"SELECT rowid, {column} FROM {table} WHERE {column} IS NOT NULL"
                rows = own.execute(f"{query} ORDER BY rowid").fetchall()
                found[table, column] = rows[len(rows) // 2] if rows else None
    return found


def flip(journal, table, column, rowid, value):
    """One bit of one value, so that it is still one of its type."""
    if isinstance(value, str):
        at = len(value) // 2
        new = value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
    else:
        new = value ^ 1 << 20  # no number of another row
    with closing(sqlite3.connect(journal)) as own, own:
        own.execute(f"UPDATE {table} SET {column}=? WHERE rowid=?", (new, rowid))


def named_files(place):
    """By kind, a file that a row names."""
    with closing(sqlite3.connect(place / "state.db")) as own:
        rows = own.execute("SELECT kind, sha FROM blobs ORDER BY rowid").fetchall()
    return {kind: place / "blobs" / sha[:2] / f"{sha}.safetensors" for kind, sha in rows}


def test_there_is_a_row_in_every_table_and_a_file_of_every_kind(whole):
    place, _ = whole
    found = columns(place)
    assert {table for (table, _), row in found.items() if row is None} <= {
        table for (table, _), row in found.items() if row is not None
    }
    assert set(named_files(place)) == KINDS


def test_a_flipped_bit_of_any_column_or_file_is_named_with_what_it_is_in(whole, tmp_path):
    place, before = whole
    copy = copied(place, tmp_path / "copy")
    journal, good = copy / "state.db", (place / "state.db").read_bytes()
    unnamed = []
    for (table, column), row in columns(place).items():
        if row is None:
            continue
        flip(journal, table, column, *row)
        damages = verify(copy).damages
        if not damages:
            unnamed.append((table, column))
        else:
            (first, *_) = damages
            assert first.cluster is not None or first.field, (table, column)
            assert first.expected != first.found
        journal.write_bytes(good)
    assert set(unnamed) <= set(OF_NO_CONSEQUENCE)
    for kind, file in named_files(copy).items():
        content = file.read_bytes()
        flipped(file, len(content) // 2, 3)
        (first, *_) = verify(copy).damages
        assert file.stem in first.field, kind
        file.write_bytes(content)
    marker = copy / "COMMITS"
    flipped(marker, marker.stat().st_size // 2, 1)
    assert "COMMITS" in verify(copy).damages[0].field
    assert set(before)


@pytest.mark.parametrize(
    "which", cells(("contents and files", "the rest"), telling=("contents and files",))
)
def test_it_costs_one_cluster_at_most_and_no_wrong_number_is_told(whole, tmp_path, which):
    place, before = whole
    found = {place_: row for place_, row in columns(place).items() if row is not None}
    last = {table: (table, column) for table, column in found}  # of each table, what it is made for
    for where, row in found.items():
        if (where in last.values()) == (which == "the rest"):
            continue
        copy = copied(place, tmp_path / "copy")
        flip(copy / "state.db", *where, *row)
        one_at_most(before, run_seeded(seen, copy), where)
    for kind, file in named_files(place).items() if which != "the rest" else ():
        copy = copied(place, tmp_path / "copy")
        own = copy / file.relative_to(place)
        flipped(own, own.stat().st_size // 2, 3)
        one_at_most(before, run_seeded(seen, copy), kind)


def one_at_most(before, now, where):
    """All clusters but one are as they were; that one is refused, or says what is lost, or is as it was."""
    other = [name for name, told_ in before.items() if now.get(name) != told_]
    assert len(other) <= 1, (where, {name: now.get(name) for name in other})
    for name in other:
        told_ = now.get(name)
        if isinstance(told_, tuple):
            numbers, warnings = told_
            same = numbers == before[name][0]
            assert same or set(warnings) - set(before[name][1]), (where, told_, before[name])
