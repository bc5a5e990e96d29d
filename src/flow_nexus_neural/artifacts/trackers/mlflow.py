"""An MLflow file store in the state directory (extra `mlflow`); the only module that imports that library."""

import os
import shutil
from pathlib import Path

from flow_nexus_neural.artifacts.trackers.tracker import TrackedTraining
from flow_nexus_neural.errors import NotAvailable

FOLDER = "mlflow"
EXPERIMENT = "flow-nexus-neural"
TAG = "training_id"
CLUSTER_TAG = "cluster_id"
PRIVACY_TAG = "privacy."
"""Before the name of each number that says how private a training is until now."""
INSTALL = "pip install 'flow-nexus-neural[mlflow]'"
ENDED = {
    "completed": "FINISHED",
    "early_stopped": "FINISHED",
    "stopped": "KILLED",
    "failed": "FAILED",
}


class MlflowTracker:
    """One run a training, with its arguments, in a store of files that needs no server.

    Raises:
        NotAvailable: The library is not installed.
    """

    name = "mlflow"

    def __init__(self, state_dir: Path) -> None:
        # A local store must not tell anybody that it is used, nor be refused for being one of files.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        try:
            from mlflow.tracking import MlflowClient
        except ImportError as failure:
            raise NotAvailable(
                f"MLflow is not installed where this server runs: {INSTALL}",
                hint="install it, or start the server without --tracker",
            ) from failure
        root = state_dir / FOLDER
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._client = MlflowClient(tracking_uri=root.as_uri())
        found = self._client.get_experiment_by_name(EXPERIMENT)
        self._experiment = (
            found.experiment_id if found else self._client.create_experiment(EXPERIMENT)
        )

    def track(self, training: TrackedTraining) -> None:
        """Log the rounds that the run of this training lacks, and how it ended."""
        from mlflow.entities import Metric

        run_id = self._run_of(training)
        logged = {
            name: {metric.step for metric in self._client.get_metric_history(run_id, name)}
            for name in {name for one in training.rounds for name in one.values}
        }
        metrics = [
            Metric(name, value, 0, one.number)
            for one in training.rounds
            for name, value in one.values.items()
            if value is not None and one.number not in logged[name]
        ]
        for first in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[first : first + 1000])
        for name, value in training.privacy.items():
            self._client.set_tag(run_id, f"{PRIVACY_TAG}{name}", value)
        if training.status in ENDED:
            self._client.set_terminated(run_id, ENDED[training.status])

    def _run_of(self, training: TrackedTraining) -> str:
        runs = self._client.search_runs(
            [self._experiment], f"tags.{TAG} = '{training.training_id}'", max_results=1
        )
        if runs:
            return str(runs[0].info.run_id)
        tags = {TAG: training.training_id, CLUSTER_TAG: training.cluster_id}
        run = self._client.create_run(self._experiment, tags=tags, run_name=training.cluster_name)
        for name, value in training.config.items():
            if value is not None:
                self._client.log_param(run.info.run_id, name, value)
        return str(run.info.run_id)


def delete_runs(state_dir: Path, cluster_id: str) -> None:
    """Delete the runs of a cluster, also where the library is not installed now. Raises OSError.

    A file store has a folder for each run with a file for each tag. The library itself would only mark a run
    as deleted, and keep its files.
    """
    for tag in (state_dir / FOLDER).glob(f"*/*/tags/{CLUSTER_TAG}"):
        if tag.read_text(encoding="utf-8").strip() == cluster_id:
            shutil.rmtree(tag.parents[1])
