"""The history of every training as JSON Lines and CSV: `history/<cluster>/<training>` of the state folder."""

import csv
import io
import json
import os
from pathlib import Path

from flow_nexus_neural.artifacts.trackers.tracker import METRICS, TrackedRound, TrackedTraining

FOLDER = "history"
KEPT = 32
"""Trainings of one cluster whose files stay: the newest."""


class HistoryFiles:
    """Two files for each training, a line for each round; the CSV has a line of names before them."""

    name = "history files"

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / FOLDER

    def track(self, training: TrackedTraining) -> None:
        """Append what a file lacks. Raises OSError."""
        if not training.rounds:
            return
        folder = self._root / training.cluster_id
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{training.training_id}.jsonl"
        is_new = not path.exists()
        _bring_up_to_date(path, "", [_as_json(one) + "\n" for one in training.rounds])
        header = ",".join(("round", *METRICS)) + "\n"
        rows = [_as_csv(one) for one in training.rounds]
        _bring_up_to_date(path.with_suffix(".csv"), header, rows)
        if is_new:
            _drop_oldest(folder, keep=path)


def _as_json(one: TrackedRound) -> str:
    values = {name: one.values.get(name) for name in METRICS}
    return json.dumps({"round": one.number, **values}, allow_nan=False)


def _as_csv(one: TrackedRound) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(
        [one.number, *(one.values.get(name) for name in METRICS)]
    )
    return line.getvalue()


def _bring_up_to_date(path: Path, header: str, lines: list[str]) -> None:
    """Append lines that a file lacks.

    A file that does not begin as it must, after a crash in the middle of a line or somebody's edit, is
    written anew.
    """
    wanted = (header + "".join(lines)).encode()
    with path.open("ab+") as file:
        os.chmod(file.fileno(), 0o600)  # the losses are as private as the data that they are of
        file.seek(0)
        there = file.read()
        if wanted.startswith(there):
            file.write(wanted[len(there) :])
        else:
            file.truncate(0)
            file.write(wanted)


def _drop_oldest(folder: Path, keep: Path) -> None:
    files = sorted(folder.glob("*.jsonl"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    for path in [path for path in files if path != keep][: max(0, len(files) - KEPT)]:
        path.unlink(missing_ok=True)
        path.with_suffix(".csv").unlink(missing_ok=True)
