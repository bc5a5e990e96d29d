"""Training without `federated`: the way that the engine chooses, beside one worker that has all rows.

python -m bench.strategies [--workers 4] [--epochs 8] [--repeats 2] [--only NAME ...]

Real engine, real confined processes, equal rows and epochs, measured in turns. `one worker` is a cluster of
one: what all workers together must not be slower than. `chosen` is a cluster of several, left to the engine;
`local_sgd` is the same cluster made to share the rows. Printed are milliseconds of an epoch, with evaluation,
durable commit and loading into every node: the median without the first two of each run.
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
    """Read the command line, train every work each way, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--only", nargs="*", choices=list(WORKS), default=list(WORKS))
    given = parser.parse_args()
    print(f"load average {load()}; {given.workers} workers; ms an epoch")
    print("| work | one worker | chosen | which | chosen / one worker | local_sgd |")
    print("| --- | ---: | ---: | --- | ---: | ---: |")
    for name in given.only:
        print(anyio.run(_row, name, given), flush=True)


async def _row(name: str, given: argparse.Namespace) -> str:
    work, which = WORKS[name], ""
    seconds: dict[str, list[float]] = {"one worker": [], "chosen": [], "local_sgd": []}
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir))
        runtime = LocalRuntime(settings)
        async with runtime, Engine.open(settings, runtime=runtime) as engine:
            for _ in range(given.repeats):
                alone, _ = await _trained(engine, work, 1, given.epochs)
                chosen, which = await _trained(engine, work, given.workers, given.epochs)
                with _forced("local_sgd"):
                    shared, _ = await _trained(engine, work, given.workers, given.epochs)
                for way, found in zip(seconds, (alone, chosen, shared), strict=True):
                    seconds[way] += found
    ms = {way: statistics.median(found) * 1e3 for way, found in seconds.items()}
    ratio = ms["chosen"] / ms["one worker"]
    cells = (f"{ms['one worker']:.1f}", f"{ms['chosen']:.1f}", which, f"{ratio:.2f}")
    return f"| {name} | " + " | ".join(cells) + f" | {ms['local_sgd']:.1f} |"


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


async def _trained(
    engine: Engine, work: Work, workers: int, epochs: int
) -> tuple[list[float], str]:
    """Seconds of every epoch that counts, and how the engine says that it trained."""
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
    await engine.terminate(TerminateRequest(cluster_id=cluster_id, delete_artifacts=True))
    return [point.seconds for point in status.history[FIRST:]], report.config.strategy


if __name__ == "__main__":
    main()
