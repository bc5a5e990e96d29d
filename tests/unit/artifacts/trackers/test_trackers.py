"""Optional trackers have every round once, also where another server wrote the first ones."""

import pytest

from flow_nexus_neural.artifacts.trackers.history_files import HistoryFiles
from flow_nexus_neural.artifacts.trackers.mlflow import EXPERIMENT, MlflowTracker
from flow_nexus_neural.artifacts.trackers.registry import delete_records
from flow_nexus_neural.artifacts.trackers.tensorboard import TensorBoardTracker
from flow_nexus_neural.artifacts.trackers.tracker import TrackedRound, TrackedTraining


def tracked(n, status="running", cluster="dnc"):
    rounds = [TrackedRound(k, {"train_loss": 1 / k, "val_loss": None}) for k in range(1, n + 1)]
    training = f"trn_of_{cluster}"
    return TrackedTraining(cluster, "a name", training, {"epochs": 3}, tuple(rounds), status)


def files_below(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_was_tracked_of_one_cluster_is_deleted_and_of_another_one_is_kept(tmp_path):
    for cluster in ("dnc_one", "dnc_two"):
        HistoryFiles(tmp_path).track(tracked(2, cluster=cluster))
        events = tmp_path / "tensorboard" / cluster / "trn"
        events.mkdir(parents=True)
        (events / "events.out").write_text("e")
        run = tmp_path / "mlflow" / "123" / f"run_of_{cluster}"  # as a file store of MLflow has it
        (run / "tags").mkdir(parents=True)
        (run / "tags" / "cluster_id").write_text(cluster)
        (run / "meta.yaml").write_text("m")
    (tmp_path / "mlflow" / "123" / "meta.yaml").write_text("of the experiment")
    before = files_below(tmp_path)
    delete_records(tmp_path, "dnc_one")
    delete_records(tmp_path, "dnc_none")
    assert files_below(tmp_path) == [path for path in before if "dnc_one" not in str(path)]
    assert len(before) == 2 * 5 + 1


@pytest.mark.filterwarnings("ignore")  # of libraries that are not ours
def test_tensorboard_has_every_round_once(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    TensorBoardTracker(tmp_path).track(tracked(2))
    TensorBoardTracker(tmp_path).track(tracked(4))
    found = [
        (event.step, value.tag, value.tensor.float_val[0])
        for path in sorted((tmp_path / "tensorboard" / "dnc" / "trn_of_dnc").iterdir())
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
    ]
    assert sorted(found) == [
        (k, "train_loss", pytest.approx(1 / k, rel=1e-6)) for k in (1, 2, 3, 4)
    ]


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_has_one_file_a_training_with_its_rounds_in_order(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    tracker = TensorBoardTracker(tmp_path)
    for n in range(1, 12):
        tracker.track(tracked(n))
        (path,) = (tmp_path / "tensorboard" / "dnc" / "trn_of_dnc").iterdir()
        steps = [event.step for event in EventFileLoader(str(path)).Load() if event.summary.value]
        assert steps == [*range(1, n + 1)], "every round can be read as soon as it is tracked"
    tracker.track(tracked(11, "completed"))
    assert not tracker._open


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_one_run_of_a_training_with_every_round_once(tmp_path):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    MlflowTracker(tmp_path).track(tracked(2))
    MlflowTracker(tmp_path).track(tracked(4, "completed"))
    client = MlflowClient(tracking_uri=(tmp_path / "mlflow").as_uri())
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.params) == ("FINISHED", {"epochs": "3"})
    history = client.get_metric_history(run.info.run_id, "train_loss")
    delete_records(tmp_path, "dnc_other")
    assert client.search_runs([experiment.experiment_id])
    delete_records(tmp_path, "dnc")
    assert not client.search_runs([experiment.experiment_id])
    assert not list((tmp_path / "mlflow").rglob(run.info.run_id))
    assert sorted((one.step, one.value) for one in history) == [(k, 1 / k) for k in (1, 2, 3, 4)]
