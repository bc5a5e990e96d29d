"""More clients than nodes: what a client costs in a round, and what memory it takes, as their number grows.

python -m bench.many_clients [--nodes 32] [--groups N] [--clients 10 100 1000]

Each client of the data trains by itself (partition each_client) in every round. Real engine, real confined
processes. Processor time counts engine and nodes, over all rounds but the first; memory is the largest of any
node, above what it had before the training, and that of the engine's process. Each number of clients has an
engine and nodes of its own, in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any, Final

import anyio
import numpy as np

from bench.measure import load
from bench.private_round import Meter, layers, meter_of
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    StatusRequest,
    TrainRequest,
)
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings

ROWS: Final = 40
FEATURES: Final = 20
PARAMETERS: Final = 10_000
ROUNDS: Final = 3


def clients_of(n: int) -> dict[str, Any]:
    """Two clouds of each client, as inline data."""
    draw = np.random.Generator(np.random.PCG64(1))
    y = np.arange(ROWS) % 2
    found = {}
    for number in range(n):
        x = draw.standard_normal((ROWS, FEATURES)) + 0.3 * y[:, None]
        found[f"client{number:05}"] = {"X": np.round(x, 2).tolist(), "y": y.tolist()}
    return {"clients": found}


def memory_kb(pid: int | str, field: str) -> int:
    """A line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


async def measured(clients: int, nodes: int, groups: str) -> dict[str, float]:
    """One training; see the module."""
    found: dict[str, float] = {"clients": clients}
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir), node_groups=groups)
        runtime = LocalRuntime(settings)
        async with runtime, Engine.open(settings, runtime=runtime) as engine:
            init = InitRequest(name="many", seed=1, consensus="raft", daa_enabled=False)
            cluster_id = (await engine.init_cluster(init)).cluster_id
            await engine.deploy_node(
                DeployRequest(
                    cluster_id=cluster_id, role="worker", layers=layers(PARAMETERS), count=nodes
                )
            )
            cluster = engine.cluster(cluster_id)
            meter = meter_of(cluster)
            await engine.train(
                TrainRequest(
                    cluster_id=cluster_id,
                    dataset=clients_of(clients),
                    federated=True,
                    partition="each_client",
                    rounds=ROUNDS,
                    batch_size=8,
                    patience=0,
                    test_size=0.1,
                    seed=1,
                )
            )
            found |= await _watched(engine, cluster_id, meter, clients)
    return found


async def _watched(engine: Engine, cluster_id: str, meter: Meter, clients: int) -> dict[str, float]:
    """Processor time and memory from the first committed round to the end."""
    before = {pid: memory_kb(pid, "VmRSS") for pid in set(meter.nodes)}
    marks: list[tuple[int, float, float]] = []
    highest = dict(before)
    while True:
        request = StatusRequest(cluster_id=cluster_id, wait_seconds=25, until="change")
        status = await engine.status(request)
        if status.training is not None:
            done = status.training.current_round
            if done and (not marks or done > marks[-1][0]):
                marks.append((done, meter.cpu_ms(), perf_counter()))
        highest = {pid: max(most, memory_kb(pid, "VmRSS")) for pid, most in highest.items()}
        if status.training_status != "running":
            break
    if status.training_status != "completed" or status.training is None:
        raise SystemExit(f"the training failed: {status.training_error}")
    told = status.training.aggregation["clients"]
    if not isinstance(told, dict) or told["trained"] != clients:
        raise SystemExit(f"not every client trained: {told}")
    (first, cpu_ms, began_s), (last, end_cpu_ms, end_s) = marks[0], marks[-1]
    rounds = last - first
    return {
        "cpu_ms_per_client": (end_cpu_ms - cpu_ms) / rounds / clients,
        "s_per_round": (end_s - began_s) / rounds,
        "node_growth_mb": max(highest[pid] - before[pid] for pid in before) / 1024,
        "engine_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "loss": status.training.train_loss or float("nan"),
    }


def _apart(clients: int, given: argparse.Namespace) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.many_clients", "--one", str(clients)]
    command += ["--nodes", str(given.nodes), "--groups", given.groups]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(found: Sequence[dict[str, float]]) -> str:
    """One line a number of clients."""
    head = f"{'clients':>8}{'CPU ms/client':>15}{'s/round':>10}{'node +MB':>10}{'engine MB':>11}"
    lines = [
        f"{one['clients']:>8.0f}{one['cpu_ms_per_client']:>15.2f}{one['s_per_round']:>10.2f}"
        f"{one['node_growth_mb']:>10.1f}{one['engine_peak_mb']:>11.0f}"
        for one in found
    ]
    return "\n".join([head, *lines])


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=32)
    parser.add_argument("--groups", default="off", help="as --node-groups of the server")
    parser.add_argument("--clients", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one is not None:
        print(json.dumps(anyio.run(measured, given.one, given.nodes, given.groups)))
        return
    print(f"{given.nodes} nodes, node groups {given.groups}, load average {load()}")
    print(table([_apart(clients, given) for clients in given.clients]))


if __name__ == "__main__":
    main()
