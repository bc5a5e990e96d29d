"""Trackers get every committed round once, and cost a training nothing."""

import csv
import json
import threading

import pytest

from flow_nexus_neural.artifacts.trackers import history_files
from flow_nexus_neural.artifacts.trackers.history_files import HistoryFiles
from flow_nexus_neural.artifacts.trackers.tracker import TrackedRound, TrackedTraining
from flow_nexus_neural.engine.operations import tracking
from flow_nexus_neural.settings import Settings
from tests.doubles.limits import HANG_S
from tests.sim.simulated import world


def tracked(n, training_id="trn", status="running"):
    rounds = tuple(
        TrackedRound(
            k,
            {"train_loss": 1 / k, "val_loss": None, "accuracy": 0.5, "bytes": 7, "seconds": 0.1},
        )
        for k in range(1, n + 1)
    )
    return TrackedTraining("dnc", "a name", training_id, {"epochs": 3}, rounds, status)


def rounds_in(folder, training_id="trn"):
    lines = (folder / f"{training_id}.jsonl").read_text().splitlines()
    rows = list(csv.DictReader((folder / f"{training_id}.csv").read_text().splitlines()))
    numbers = [json.loads(line)["round"] for line in lines]
    assert numbers == [int(row["round"]) for row in rows]
    return numbers


@pytest.mark.parametrize("torn", [0, 1, 20, 100])
def test_a_file_that_a_crash_cut_anywhere_has_every_round_once_afterwards(tmp_path, torn):
    files, folder = HistoryFiles(tmp_path), tmp_path / "history" / "dnc"
    files.track(tracked(3))
    for name in ("trn.jsonl", "trn.csv"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: max(0, len(content) - torn)])
    HistoryFiles(tmp_path).track(tracked(5))
    assert rounds_in(folder) == [1, 2, 3, 4, 5]
    first = json.loads((folder / "trn.jsonl").read_text().splitlines()[0])
    assert (first["train_loss"], first["val_loss"]) == (1.0, None)


def test_only_the_newest_trainings_of_a_cluster_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(history_files, "KEPT", 2)
    for k in range(4):
        HistoryFiles(tmp_path).track(tracked(1, f"trn{k}"))
    assert {p.name for p in (tmp_path / "history" / "dnc").iterdir()} == {
        f"trn{k}.{suffix}" for k in (2, 3) for suffix in ("jsonl", "csv")
    }


async def test_every_round_of_a_training_is_in_its_files_and_deleting_takes_them(tmp_path):
    async with world(tmp_path) as w:
        cluster = await w.cluster(1)
        status = await w.train(cluster, federated=False, epochs=4)
        folder = tmp_path / "history" / cluster
        await _until(lambda: len(_lines(folder, status)) == status.training.current_round)
        told = [json.loads(line) for line in _lines(folder, status)]
        history = (await w.engine.history(cluster)).rounds
        assert [one["train_loss"] for one in told] == [point.train_loss for point in history]
        await w.terminate(cluster, delete_artifacts=True)
        assert not folder.exists()


async def test_a_tracker_that_fails_or_hangs_costs_a_warning_and_no_round(tmp_path, monkeypatch):
    free, asked = threading.Event(), []

    class Broken:
        name = "mlflow"

        def track(self, training):
            asked.append(training.training_id)
            free.wait()

    def missing(_place):
        raise RuntimeError("the disk of the tracker is gone")

    monkeypatch.setattr(tracking, "LIMIT_S", 0.1)
    monkeypatch.setattr(
        tracking, "TRACKERS", {"tensorboard": missing, "mlflow": lambda _: Broken()}
    )
    try:
        for name, why in (("tensorboard", "disk of the tracker is gone"), ("mlflow", "took more")):
            async with world(tmp_path / name, tracker=name) as w:
                cluster = await w.cluster(1)
                status = await w.train(cluster, federated=False, epochs=3)
                assert status.training_status == "completed"
                faults = w.engine.context.tracker_faults
                await _until(lambda faults=faults, name=name: name in faults)
                warnings = (await w.status(cluster)).warnings
                assert any(f"tracker {name}: " in one and why in one for one in warnings)
        assert len(asked) == 1, "one that hangs is not asked again"
    finally:
        free.set()


def test_a_tracker_that_nobody_knows_is_no_setting():
    with pytest.raises(ValueError, match="tracker"):
        Settings(tracker="wandb")


def _lines(folder, status):
    path = folder / f"{status.training.training_id}.jsonl"
    return path.read_text().splitlines() if path.exists() else []


async def _until(condition):
    import anyio

    with anyio.fail_after(HANG_S):
        while not condition():  # noqa: ASYNC110  what it waits for is a file
            await anyio.sleep(0.02)
