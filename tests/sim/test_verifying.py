"""Every byte that changes what is stored is named, in the journal and in files; a backup opens and serves."""

import shutil
import sqlite3
from contextlib import closing

import anyio
import numpy as np
import pytest

from flow_nexus_neural.cli.verify import back_up_state, verify_state
from flow_nexus_neural.engine.storage.backup import back_up
from flow_nexus_neural.engine.storage.store import Store
from flow_nexus_neural.engine.storage.verification import verify
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.settings import Settings
from tests.sim.simulated import world

FLIPS = 80


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A directory with two clusters, one trained twice under raft; and its prediction."""
    place = tmp_path_factory.mktemp("kept") / "state"

    async def made():
        async with world(place) as w:
            cluster = await w.cluster(2, consensus="raft")
            await w.train(cluster, epochs=2)
            await w.train(cluster, epochs=2, federated=False)
            other = await w.cluster(1)
            await w.train(other, epochs=1)
            return cluster, other, (await w.predict(cluster)).prediction

    return place, anyio.run(made)


def content_of(journal):
    """All that the tables say, whatever the pages look like; None where they cannot be read."""
    try:
        with closing(sqlite3.connect(journal)) as own:
            own.text_factory = bytes
            if own.execute("PRAGMA integrity_check(1)").fetchone() != (b"ok",):
                return None
            names = own.execute("SELECT name FROM sqlite_schema WHERE type='table' ORDER BY name")
            return {
                n: own.execute(f"SELECT * FROM {n.decode()}").fetchall()
                for (n,) in names.fetchall()
            }
    except sqlite3.Error:
        return None


def flipped(file, draw):
    content = bytearray(file.read_bytes())
    at = int(draw.integers(len(content)))
    content[at] ^= 1 << int(draw.integers(8))
    file.write_bytes(content)
    return at


def test_an_undamaged_directory_is_found_whole(kept, capsys):
    place, _ = kept
    found = verify(place)
    assert found.damages == []
    assert (found.clusters, found.ok) == (2, True)
    assert found.entries > 10
    assert found.files == len(list((place / "blobs").rglob("*.safetensors")))
    assert verify_state(Settings(state_dir=place)) == 0
    assert capsys.readouterr().out.startswith("ok: 2 clusters, ")


def test_a_flipped_bit_of_any_file_is_named(kept, tmp_path):
    place, _ = kept
    draw = np.random.Generator(np.random.PCG64(5))
    copy = tmp_path / "copy"
    shutil.copytree(place, copy)
    for file in sorted((copy / "blobs").rglob("*.safetensors")):
        good = file.read_bytes()
        flipped(file, draw)
        (first, *_) = verify(copy).damages
        assert file.stem in first.field
        assert first.expected == file.stem != first.found
        file.write_bytes(good)
    assert verify(copy).ok


def test_a_flipped_bit_of_the_journal_is_named_or_changes_nothing_that_is_stored(kept, tmp_path):
    place, _ = kept
    draw = np.random.Generator(np.random.PCG64(6))
    copy, named = tmp_path / "copy", 0
    shutil.copytree(place, copy)
    journal = copy / "state.db"
    good, expected = journal.read_bytes(), content_of(journal)
    for _ in range(FLIPS):
        at = flipped(journal, draw)
        found = verify(copy)
        if found.ok:
            assert content_of(journal) == expected, at
        named += not found.ok
        journal.write_bytes(good)
    assert named > FLIPS / 6


@pytest.mark.parametrize(
    ("statement", "seq", "what"),
    [
        ("UPDATE ledger SET body=replace(body, '\"round\":1,', '\"round\":7,')", True, "entry_sha"),
        ("DELETE FROM ledger WHERE seq=2", True, "seq"),
        ("UPDATE blobs SET nbytes=nbytes+1 WHERE rowid=1", False, "bytes"),
        ("UPDATE blobs SET kind='x' WHERE rowid=1", False, "kind"),
        ("UPDATE trainings SET error='a lie' WHERE ordinal=0", False, "rows"),
        ("UPDATE raft_voters SET term=term+1", False, "raft"),
        ("UPDATE versions SET body=body||' '", False, "version 1"),
        ("INSERT INTO audit SELECT cluster_id, 0, 'x', '{}' FROM clusters LIMIT 1", False, "audit"),
        ("DELETE FROM blobs WHERE kind='weights'", False, "blobs"),
    ],
)  # fmt: skip
def test_an_altered_row_is_named_with_its_cluster(kept, tmp_path, statement, seq, what):
    place, (cluster, other, _) = kept
    shutil.copytree(place, tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy" / "state.db")) as own, own:
        assert own.execute(statement).rowcount
    first = verify(tmp_path / "copy").damages[0]
    assert what in first.field
    assert (first.seq is not None) == seq
    assert first.cluster in (cluster, other, None)
    assert first.expected != first.found


def test_lost_commits_and_a_damaged_marker_are_named(kept, tmp_path):
    place, (cluster, _, _) = kept
    shutil.copytree(place, tmp_path / "copy")
    with closing(sqlite3.connect(tmp_path / "copy" / "state.db")) as own, own:
        own.execute("DELETE FROM ledger WHERE cluster_id=? AND seq>8", (cluster,))
    fields = {damage.field for damage in verify(tmp_path / "copy").damages}
    assert "number of ledger entries" in fields
    marker = tmp_path / "copy" / "COMMITS"
    marker.write_bytes(marker.read_bytes().replace(b'"entries"', b'"entriez"', 1))
    fields = {damage.field for damage in verify(tmp_path / "copy").damages}
    assert "COMMITS line 1" in fields
    marker.unlink()
    assert "COMMITS" in {damage.field for damage in verify(tmp_path / "copy").damages}


def test_the_command_says_what_is_damaged_and_ends_with_1(kept, tmp_path, capsys):
    place, _ = kept
    shutil.copytree(place, tmp_path / "copy")
    file = min((tmp_path / "copy" / "blobs").rglob("*.safetensors"))
    file.write_bytes(b"")
    assert verify_state(Settings(state_dir=tmp_path / "copy")) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("damaged: ")
    assert file.stem in said[1]
    (tmp_path / "copy" / "state.db").write_bytes(b"nothing of a journal" * 500)
    assert verify_state(Settings(state_dir=tmp_path / "copy")) == 1
    assert "state.db: expected a whole database" in capsys.readouterr().out
    assert verify_state(Settings(state_dir=tmp_path / "none")) == 1


async def test_a_backup_of_a_live_directory_opens_and_serves_and_goes_on(tmp_path):
    live, copy = tmp_path / "live", tmp_path / "elsewhere" / "copy"
    async with world(live) as w:
        cluster = await w.cluster(2)
        await w.start(cluster, epochs=200)
        await w.rounds(cluster, 3)
        made = await anyio.to_thread.run_sync(back_up, live, copy)
        assert made.files > 0
        await w.rounds(cluster, 6)  # the server was not disturbed
        await w.terminate(cluster)
    assert list((live / "tmp").iterdir()) == []
    assert verify(copy).ok
    async with world(copy) as w:
        status = await w.until(cluster, lambda s: s.training.resumed)
        assert status.training.resumed.after_round >= 3
        assert (await w.predict(cluster)).model_version >= 3


async def test_a_backup_answers_as_the_original_did(kept, tmp_path):
    place, (cluster, _, before) = kept
    back_up(place, tmp_path / "copy")
    async with world(tmp_path / "copy") as w:
        assert (await w.predict(cluster, deadline_ms=20_000)).prediction == before


def test_a_backup_overwrites_nothing_and_leaves_nothing_half_done(kept, tmp_path, capsys):
    place, _ = kept
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    assert back_up_state(Settings(state_dir=place), tmp_path / "full") == 1
    assert "is not empty" in capsys.readouterr().err
    assert back_up_state(Settings(state_dir=tmp_path / "none"), tmp_path / "new") == 1
    assert back_up_state(Settings(state_dir=place), place / "inside") == 1
    shutil.copytree(place, tmp_path / "damaged")
    max((tmp_path / "damaged" / "blobs").rglob("*.safetensors")).write_bytes(b"x")
    assert back_up_state(Settings(state_dir=tmp_path / "damaged"), tmp_path / "new") == 1
    assert "has changed" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert back_up_state(Settings(state_dir=place), tmp_path / "new") == 0
    assert "copied" in capsys.readouterr().out


def spoil(journal, page, size):
    content = bytearray(journal.read_bytes())
    content[page * size : (page + 1) * size] = bytes(size)
    journal.write_bytes(content)


async def test_a_bad_page_of_the_journal_costs_the_clusters_whose_rows_it_has(kept, tmp_path):
    place, (cluster, other, _) = kept
    with closing(sqlite3.connect(place / "state.db")) as own:
        (size,) = own.execute("PRAGMA page_size").fetchone()
        (n_pages,) = own.execute("PRAGMA page_count").fetchone()
    whole = await loaded(place)
    spared = 0
    for page in range(2, n_pages, 2):
        copy = tmp_path / f"copy-{page}"
        shutil.copytree(place, copy, ignore=shutil.ignore_patterns("blobs"))
        spoil(copy / "state.db", page, size)
        try:
            found = await loaded(copy)
        except StoreCorrupt as refusal:
            assert "state.db" in refusal.message  # noqa: PT017  the page may be of the schema
            continue
        for one in (cluster, other):
            if one not in found.refused and one not in found.older:
                assert found.ledgers[one] == whole.ledgers[one]
        spared += (cluster in found.refused) != (other in found.refused)
        if list(copy.glob("state.db.damaged-*")):
            assert any("state.db was damaged" in one for one in found.complaints)
    assert spared > 0


async def loaded(place):
    store = Store.open(place)
    try:
        return await store.load()
    finally:
        store.close()
