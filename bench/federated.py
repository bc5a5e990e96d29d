"""Federated methods against unequal shards: test accuracy on the digits of scikit-learn.

python -m bench.federated [--methods METHOD ...] [--partitions PARTITION ...] [--workers 10] [--rounds 30]
    [--seeds 3]

Real engine, real confined processes, sgd, half of the workers in each round, two local epochs. Methods have
their default options, but for the server learning rate of the adaptive ones (0.05): they are made for long
trainings, and the default would need more rounds. A cell is the mean over seeds, with the lowest and highest.
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Final

import anyio

from bench.measure import load
from flow_nexus_neural.coordination.consensus.federated_methods import METHODS
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings

NAMES: Final = ("federated_averaging", *(method.name for method in METHODS))
PARTITIONS: Final = ("iid", "dirichlet:0.5", "dirichlet:0.1", "shards:2")
ADAPTIVE: Final = ("fedadam", "fedyogi", "fedadagrad")
ADAPTIVE_RATE: Final = 0.05
LAYERS: Final = ({"type": "dense", "units": 32, "activation": "relu"},)


def main() -> None:
    """Read the command line, train every method on every partition, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="*", choices=NAMES, default=NAMES)
    parser.add_argument("--partitions", nargs="*", default=PARTITIONS)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    print(f"load average {load()}; {given.workers} workers, {given.rounds} rounds; test accuracy")
    print("| method | " + " | ".join(given.partitions) + " |")
    print("| --- |" + " ---: |" * len(given.partitions))
    for method in given.methods:
        print(f"| {method} | " + " | ".join(anyio.run(_row, method, given)) + " |", flush=True)


async def _row(method: str, given: argparse.Namespace) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir))
        runtime = LocalRuntime(settings)
        async with runtime, Engine.open(settings, runtime=runtime) as engine:
            return [await _cell(engine, method, one, given) for one in given.partitions]


async def _cell(engine: Engine, method: str, partition: str, given: argparse.Namespace) -> str:
    found = [
        await _accuracy(engine, method, partition, given, seed)
        for seed in range(1, given.seeds + 1)
    ]
    mean = f"{statistics.mean(found):.3f}"
    return f"{mean} ({min(found):.3f} to {max(found):.3f})" if len(found) > 1 else mean


async def _accuracy(
    engine: Engine, method: str, partition: str, given: argparse.Namespace, seed: int
) -> float:
    init = InitRequest(name=method, topology="star", seed=seed)
    cluster_id = (await engine.init_cluster(init)).cluster_id
    deploy = DeployRequest(cluster_id=cluster_id, role="worker", layers=LAYERS, count=given.workers)
    await engine.deploy_node(deploy)
    training = TrainRequest(
        cluster_id=cluster_id,
        dataset="sklearn:digits",
        federated=True,
        rounds=given.rounds,
        local_epochs=2,
        clients_per_round=max(1, given.workers // 2),
        batch_size=16,
        learning_rate=0.1,
        optimizer="sgd",
        partition=partition,
        aggregation_method=method,
        server_learning_rate=ADAPTIVE_RATE if method in ADAPTIVE else None,
    )
    await engine.train(training)
    status = None
    while status is None or status.training_status == "running":
        request = StatusRequest(cluster_id=cluster_id, wait_seconds=25, until="done")
        status = await engine.status(request)
    if status.global_accuracy is None or status.training_status != "completed":
        raise SystemExit(f"{method} on {partition} failed: {status.training_error}")
    await engine.terminate(TerminateRequest(cluster_id=cluster_id, delete_artifacts=True))
    return status.global_accuracy


if __name__ == "__main__":
    main()
