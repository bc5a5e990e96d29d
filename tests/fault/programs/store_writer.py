"""Commits versions to a state directory until it is killed, or kills itself at a named point.

Arguments: state directory, point ("" for none), how many versions to commit before the point counts, and
"blob_first" or "row_first". Prints the number of each version once it is acknowledged.
"""

import os
import signal
import sys
from pathlib import Path

import numpy as np

from flow_nexus_neural.coordination.ledger import head, make_entry
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.journal import Journal, append, name_blobs, upsert
from flow_nexus_neural.engine.storage.rows import ClusterRow, HistoryRow, TrainingRow
from flow_nexus_neural.engine.storage.state_dir import StateDirLock, prepare


def main(state_dir: Path, point: str, after: int, order: str) -> None:
    committed = 0

    def fail_at(name: str) -> None:
        if name == point and committed >= after:
            os.kill(os.getpid(), signal.SIGKILL)

    prepare(state_dir)
    lock = StateDirLock(state_dir)
    lock.acquire()
    files = CheckpointFiles(state_dir, at=fail_at)
    journal = Journal(
        state_dir / "state.db", at=fail_at if point.endswith("_commit") else lambda _: None
    )
    journal.write(upsert(ClusterRow("c", "n", "now", None, {}, {})))
    at = head(journal.load().ledgers.get("c", ()))
    while True:
        version = at.version("a") + 1
        tensors = {"params": np.full(5000, version, dtype=np.float32)}
        blob, nbytes = (
            files.write(tensors, {"version": str(version)})
            if order == "blob_first"
            else (name_of(tensors, version), 0)
        )
        fields = {"seq": at.next_seq, "kind": "version", "cluster_id": "c", "cohort": "a"}
        fields |= {"parent": version - 1, "version": version, "blob": blob}
        entry = make_entry(at.prev_sha, fields)
        journal.write(
            append("c", entry),
            name_blobs([(blob, nbytes, "state")]),
            upsert(TrainingRow("t", "c", 0, "running", {}, {"round": version}, "now", None, None)),
            upsert(HistoryRow("t", "c", version, {"blob": blob})),
        )
        if order == "row_first":
            files.write(tensors, {"version": str(version)})
        committed += 1
        sys.stdout.write(f"{version}\n")
        sys.stdout.flush()
        at = head([*journal.load().ledgers["c"]])


def name_of(tensors: dict, version: int) -> str:
    """The name that the file will have: what a program that writes the row first must know."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        return CheckpointFiles(Path(scratch)).write(tensors, {"version": str(version)})[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4])
