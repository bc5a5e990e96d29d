"""The whole product, through its tools: MCP over stdio, evaluation and a durable commit in every round.

Not the same arithmetic as the plain loop (inputs are scaled, moments are averaged, some rows are held out),
hence no ratio. Each client gets so many rows that its training part has as many as in the other contenders.
"""

import json
import math
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.contenders.node_rounds import layers_of
from bench.contenders.result import arguments, report
from bench.server_process import RawServer, raw_server
from bench.work import BATCH_ROWS, LEARNING_RATE, Work, client_data

HELD_OUT = {"test_size": 0.1, "validation_size": 0.1}
TRAIN_SHARE = (1 - sum(HELD_OUT.values())) * 79 / 84
"""Of the rest 5 parts in 84 are for calibration, from 2,000 rows on, which all workloads have."""


def main() -> None:
    """Write the data, build the cluster, train, read the history."""
    work, rounds, _ = arguments()
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-data-") as folder:
        write_clients(work, Path(folder) / "clients")
        with raw_server("--data-dir", folder) as server:
            server.initialize()
            cluster_id = build_cluster(server, work)
            first_round_at_s = train(server, cluster_id, work, rounds)
            uri = f"neural://clusters/{cluster_id}/history"
            contents = server.request("resources/read", {"uri": uri})["contents"]
            history = json.loads(contents[0]["text"])["rounds"]
            report([point["seconds"] for point in history], None, first_round_at_s)


def write_clients(work: Work, folder: Path) -> None:
    """One file per client."""
    folder.mkdir()
    enlarged = replace(work, rows=math.ceil(work.rows / TRAIN_SHARE))
    for client in range(work.clients):
        x, y = client_data(enlarged, client)
        np.savez(folder / f"client-{client:02d}.npz", X=x, y=y)


def build_cluster(server: RawServer, work: Work) -> str:
    """A star with one worker per client."""
    cluster = server.tool("neural_cluster_init", name="bench", topology="star", seed=0)
    cluster_id = str(cluster["id"])
    for _ in range(work.clients):
        server.tool("neural_node_deploy", cluster_id=cluster_id, layers=layers_of(work))
    return cluster_id


def train(server: RawServer, cluster_id: str, work: Work, rounds: int) -> float:
    """Train to the end; return when the first round was seen."""
    server.tool(
        "neural_train_distributed",
        cluster_id=cluster_id,
        dataset="clients",
        epochs=rounds,
        batch_size=BATCH_ROWS,
        learning_rate=LEARNING_RATE,
        federated=True,
        clients_per_round=work.clients,
        partition="client",
        **HELD_OUT,
    )
    first_round_at_s = 0.0
    while True:
        status = server.tool("neural_cluster_status", cluster_id=cluster_id, wait_seconds=20)
        if status["training"]["current_round"] and not first_round_at_s:
            first_round_at_s = time.monotonic()
        if status["training_status"] != "running":
            if status["training_status"] != "completed":
                raise SystemExit(f"training failed: {status['training_error']}")
            return first_round_at_s


if __name__ == "__main__":
    main()
