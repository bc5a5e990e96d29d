"""Trackers by name."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from flow_nexus_neural.artifacts.trackers.history_files import FOLDER as HISTORY
from flow_nexus_neural.artifacts.trackers.mlflow import MlflowTracker, delete_runs
from flow_nexus_neural.artifacts.trackers.tensorboard import FOLDER as TENSORBOARD
from flow_nexus_neural.artifacts.trackers.tensorboard import TensorBoardTracker
from flow_nexus_neural.artifacts.trackers.tracker import Tracker

TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
}
"""Each is made of the state directory; the library of one that is not asked for is not imported."""


def delete_records(state_dir: Path, cluster_id: str) -> None:
    """Delete what every tracker, of this start or of a former one, wrote of a cluster. Raises OSError."""
    for folder in (HISTORY, TENSORBOARD):
        if (state_dir / folder / cluster_id).is_dir():
            shutil.rmtree(state_dir / folder / cluster_id)
    delete_runs(state_dir, cluster_id)
