"""A server opens the state directories of every format, and answers from them as their writers did."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.storage.persisted import FORMAT
from flow_nexus_neural.errors import StoreCorrupt
from tests.sim.simulated import world

FIXTURES = Path(__file__).parents[1] / "fixtures" / "state_dirs"
FORMATS = sorted(int(folder.name) for folder in FIXTURES.iterdir() if folder.name.isdigit())


@pytest.fixture(params=FORMATS, ids=lambda number: f"format{number}")
def kept(request, tmp_path):
    """A copy of a kept directory, and what its writer answered from it."""
    folder = FIXTURES / str(request.param)
    shutil.copytree(folder / "state", tmp_path / "state")
    return tmp_path / "state", json.loads((folder / "expected.json").read_text())


def test_a_directory_of_every_format_is_kept():
    assert list(range(1, FORMAT + 1)) == FORMATS


async def test_a_kept_directory_is_answered_from_as_it_was(kept):
    state_dir, expected = kept
    async with world(state_dir) as w:
        for answer in expected["answers"]:
            asked, told = answer["asked"], answer["told"]
            made = await w.predict(
                answer["cluster_id"],
                asked["input_data"],
                aggregation=asked["aggregation"],
                deadline_ms=asked["deadline_ms"],
            )
            assert made.predictions == pytest.approx(told["predictions"], rel=1e-5)
            if told["confidences"] == [None]:  # regression has none
                assert made.confidences == [None]
            else:
                assert made.confidences == pytest.approx(told["confidences"], rel=1e-5)
            assert (made.model_version, made.nodes_used) == (
                told["model_version"],
                told["nodes_used"],
            )


async def test_what_was_reported_of_a_kept_directory_is_reported_still(kept):
    state_dir, expected = kept
    same = ("name", "declared_topology", "consensus", "model_version", "global_accuracy")
    same += ("global_loss", "evaluation", "dataset_info", "history", "training_sessions")
    same += ("training_status", "total_nodes")
    async with world(state_dir) as w:
        for cluster_id, report in expected["reports"].items():
            now = (await w.status(cluster_id)).model_dump(mode="json")
            if report["evaluation"] is not None:  # numbers that it did not know are null
                known = report["evaluation"].keys()
                now["evaluation"] = {name: now["evaluation"][name] for name in known}
            assert {name: now[name] for name in same} == {name: report[name] for name in same}


async def test_a_training_that_ran_in_a_kept_directory_is_interrupted_and_can_go_on(kept):
    state_dir, expected = kept
    cluster = expected["interrupted"]
    async with world(state_dir) as w:
        status = await w.status(cluster)
        assert (status.training_status, status.status) == ("stopped", "recovering")
        assert "interrupted" in status.training_error
        version = status.model_version
        assert (await w.train(cluster, epochs=1)).training_status == "completed"
        assert (await w.status(cluster)).model_version > version


@pytest.mark.parametrize(
    ("table", "column", "content"),
    [
        ("clusters", "spec", "no json"),
        ("clusters", "state", '{"format": 99}'),
        ("clusters", "state", '{"format": 1, "committed": {"version": "x"}}'),
        ("slots", "spec", "[]"),
        ("slots", "spec", "{}"),
        ("trainings", "spec", '{"format": 2}'),
        ("trainings", "progress", '{"rounds_done": "many"}'),
        ("history", "point", "{}"),
    ],
)
async def test_one_unreadable_row_costs_its_cluster_alone_and_is_named(
    kept, table, column, content, caplog
):
    state_dir, expected = kept
    lost = expected["answers"][0]["cluster_id"]
    with sqlite3.connect(state_dir / "state.db") as connection:
        statement = f"UPDATE {table} SET {column}=? WHERE cluster_id=?"
        assert connection.execute(statement, (content, lost)).rowcount
    connection.close()
    files = sorted((state_dir / "blobs").rglob("*.safetensors"))
    async with world(state_dir) as w:
        with pytest.raises(StoreCorrupt, match=lost):
            await w.status(lost)
        lines = {line.cluster_id: line.status for line in (await w.engine.clusters()).clusters}
        assert lines[lost] == "unreadable"
        assert len(lines) == len(expected["reports"]) + 1
        kept_answer = expected["answers"][-1]
        made = await w.predict(kept_answer["cluster_id"], kept_answer["asked"]["input_data"])
        assert made.predictions == pytest.approx(kept_answer["told"]["predictions"], rel=1e-5)
    assert any(lost in record.getMessage() for record in caplog.records)
    assert set(files) <= set((state_dir / "blobs").rglob("*.safetensors"))  # nothing is swept


async def test_a_cluster_in_which_autonomy_acted_opens_again_living_ended_and_restored(tmp_path):
    """With the real clock and real threads: a worker thread cannot ask the event loop's clock."""
    async with world(tmp_path) as w:
        cluster = await w.cluster(1, daa_enabled=True)
        w.kill("worker-0")
        await w.until(cluster, lambda s: s.daa.executed)
    async with world(tmp_path) as w:
        status = await w.status(cluster)
        assert "restart_node" in [e["rule"] for e in status.daa.events]
        await w.terminate(cluster)
        assert (await w.whole(cluster)).cluster_id == cluster
        assert (await w.engine.init_cluster(InitRequest(restore=cluster))).cluster_id == cluster
