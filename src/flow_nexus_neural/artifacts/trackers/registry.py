"""Trackers by name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from flow_nexus_neural.artifacts.trackers.mlflow import MlflowTracker
from flow_nexus_neural.artifacts.trackers.tensorboard import TensorBoardTracker
from flow_nexus_neural.artifacts.trackers.tracker import Tracker

TRACKERS: Mapping[str, Callable[[Path], Tracker]] = {
    "tensorboard": TensorBoardTracker,
    "mlflow": MlflowTracker,
}
"""Each is made of the state directory; the library of one that is not asked for is not imported."""
