"""TensorBoard event files (extra `tensorboard`), one folder a training; only this module has that library."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flow_nexus_neural.artifacts.trackers.tracker import TrackedTraining
from flow_nexus_neural.errors import NotAvailable

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

FOLDER = "tensorboard"
MOST_OPEN = 8
"""Event files that are held open: one a training, for TensorBoard reads several in the order of names."""
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
        self._open: dict[Path, _OpenFile] = {}

    def track(self, training: TrackedTraining) -> None:
        """Add the rounds that the folder lacks, to one event file as long as the training runs."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = self._root / training.cluster_id / training.training_id
        known = self._open.pop(folder, None)
        written = _last_step(folder) if known is None else known.last
        lacking = [one for one in training.rounds if one.number > written]
        if known is None:
            if not lacking:
                return
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            known = _OpenFile(EventFileWriter(str(folder)), written)
        try:
            for one in lacking:
                values = [
                    Summary.Value(tag=name, simple_value=value)
                    for name, value in one.values.items()
                    if value is not None
                ]
                known.writer.add_event(Event(step=one.number, summary=Summary(value=values)))
                known.last = one.number
            known.writer.flush()
        except BaseException:  # what the file has is read again the next time
            known.writer.close()
            raise
        self._keep(folder, known, running=training.status == "running")

    def _keep(self, folder: Path, known: "_OpenFile", *, running: bool) -> None:
        self._open[folder] = known
        if not running:
            self._open.pop(folder).writer.close()
        elif len(self._open) > MOST_OPEN:
            self._open.pop(next(iter(self._open))).writer.close()


@dataclass
class _OpenFile:
    """The event file of a training that runs, and the newest round in the folder."""

    writer: "EventFileWriter"
    last: int


def _last_step(folder: Path) -> int:
    """The newest round in the event files of a folder; 0 without any. A torn last record does not count."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    last = 0
    for path in sorted(folder.glob("events.*")):
        for event in EventFileLoader(str(path)).Load():
            last = max(last, event.step)
    return last
