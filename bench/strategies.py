"""Training without `federated`, both ways: one process on all rows, and all workers by local SGD.

python -m bench.strategies [--workers 4] [--epochs 12] [--only NAME ...]

Real engine, real confined processes, equal rows and epochs. Printed are milliseconds of an epoch (median,
without the first two) each way, which way the engine chose, and how much slower the chosen way was than one
process: at most 1 but for noise, if the rule in `coordination.training_strategy` is right on this machine.
"""

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import anyio
import numpy as np

from bench.measure import load
from flow_nexus_neural.coordination.training_strategy import Strategy
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.engine.training import preparation
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.settings import Settings

FIRST: Final = 2
"""Epochs that are not counted: processes are warm after them."""


@dataclass(frozen=True)
class Work:
    """Rows, features and units of a dense network with two hidden layers."""

    rows: int
    features: int
    units: int
    batch_size: int

    @property
    def layers(self) -> tuple[dict[str, Any], ...]:
        """The network."""
        layer = {"type": "dense", "units": self.units, "activation": "relu"}
        return (layer, layer, {"type": "dense", "units": 1})

    def data(self) -> dict[str, Any]:
        """Two clouds, as inline data."""
        draw = np.random.Generator(np.random.PCG64(0))
        y = np.arange(self.rows) % 2
        x = draw.standard_normal((self.rows, self.features)) + y[:, None]
        return {"X": np.round(x, 3).tolist(), "y": y.tolist()}


WORKS: Final = {
    "300 rows, 16 units": Work(300, 10, 16, 16),
    "2,000 rows, 32 units": Work(2_000, 10, 32, 32),
    "10,000 rows, 32 units": Work(10_000, 10, 32, 32),
    "40,000 rows, 32 units": Work(40_000, 10, 32, 32),
    "10,000 rows, 256 units": Work(10_000, 20, 256, 32),
    "10,000 rows, 700 units": Work(10_000, 20, 700, 32),
}


def main() -> None:
    """Read the command line, train every work both ways, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--only", nargs="*", choices=list(WORKS), default=list(WORKS))
    given = parser.parse_args()
    print(f"load average {load()}; {given.workers} workers; ms an epoch")
    print("| work | single_process | local_sgd | chosen | chosen / single_process |")
    print("| --- | ---: | ---: | --- | ---: |")
    for name in given.only:
        print(anyio.run(_row, name, given.workers, given.epochs), flush=True)


async def _row(name: str, workers: int, epochs: int) -> str:
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir))
        runtime = LocalRuntime(settings)
        async with runtime, Engine.open(settings, runtime=runtime) as engine:
            ms: dict[str, float] = {}
            for way in ("single_process", "local_sgd"):
                with _forced(way):
                    ms[way], _ = await _trained(engine, WORKS[name], workers, epochs)
            _, chosen = await _trained(engine, WORKS[name], workers, 1)
    ratio = ms[chosen] / ms["single_process"]
    cells = (f"{ms['single_process']:.1f}", f"{ms['local_sgd']:.1f}", chosen, f"{ratio:.2f}")
    return f"| {name} | " + " | ".join(cells) + " |"


@contextmanager
def _forced(way: str) -> Iterator[None]:
    """Let the engine take this way, whatever its rule says."""
    rule = preparation.choose_strategy

    def forced(*arguments: Any) -> Strategy:
        return replace(rule(*arguments), name=way)

    preparation.choose_strategy = forced  # type: ignore[assignment]
    try:
        yield
    finally:
        preparation.choose_strategy = rule


async def _trained(engine: Engine, work: Work, workers: int, epochs: int) -> tuple[float, str]:
    """Milliseconds of an epoch, and how the engine says that it trained."""
    init = InitRequest(name="strategies", topology="star", seed=1)
    cluster_id = (await engine.init_cluster(init)).cluster_id
    deploy = DeployRequest(cluster_id=cluster_id, role="worker", layers=work.layers, count=workers)
    await engine.deploy_node(deploy)
    training = TrainRequest(
        cluster_id=cluster_id,
        dataset=work.data(),
        epochs=epochs,
        batch_size=work.batch_size,
        learning_rate=0.001,
    )
    report = await engine.train(training)
    status = None
    while status is None or status.training_status == "running":
        request = StatusRequest(cluster_id=cluster_id, wait_seconds=25, until="done", detail="full")
        status = await engine.status(request)
    if status.training_status != "completed":
        raise SystemExit(f"training failed: {status.training_error}")
    seconds = [point.seconds for point in status.history[FIRST:]] or [0.0]
    await engine.terminate(TerminateRequest(cluster_id=cluster_id, delete_artifacts=True))
    return statistics.median(seconds) * 1e3, report.config.strategy


if __name__ == "__main__":
    main()
