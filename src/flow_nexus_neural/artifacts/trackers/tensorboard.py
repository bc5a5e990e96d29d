"""TensorBoard event files (extra `tensorboard`), one folder a training; only this module has that library."""

from pathlib import Path

from flow_nexus_neural.artifacts.trackers.tracker import TrackedTraining
from flow_nexus_neural.errors import NotAvailable

FOLDER = "tensorboard"
INSTALL = "pip install 'flow-nexus-neural[tensorboard]'"


class TensorBoardTracker:
    """Scalars by round in `tensorboard/<cluster>/<training>` of the state directory.

    Raises:
        NotAvailable: The library is not installed.
    """

    name = "tensorboard"

    def __init__(self, state_dir: Path) -> None:
        try:
            import tensorboard
        except ImportError as failure:
            raise NotAvailable(
                f"TensorBoard is not installed where this server runs: {INSTALL}",
                hint="install it, or start the server without --tracker",
            ) from failure
        del tensorboard
        self._root = state_dir / FOLDER

    def track(self, training: TrackedTraining) -> None:
        """Write a further event file with the rounds that those of the folder lack."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._root / training.cluster_id / training.training_id
        written = _last_step(folder)
        lacking = [one for one in training.rounds if one.number > written]
        if not lacking:
            return
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        writer = EventFileWriter(str(folder))
        try:
            for one in lacking:
                values = [
                    Summary.Value(tag=name, simple_value=value)
                    for name, value in one.values.items()
                    if value is not None
                ]
                writer.add_event(Event(step=one.number, summary=Summary(value=values)))
        finally:
            writer.close()


def _last_step(folder: Path) -> int:
    """The newest round in the event files of a folder; 0 without any. A torn last record does not count."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    last = 0
    for path in sorted(folder.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            last = max(last, event.step)
    return last
