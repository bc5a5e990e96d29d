"""Aggregation rules against attacking nodes: test accuracy, and whom status suspects.

python -m bench.byzantine [--rules RULE ...] [--attacks ATTACK ...] [--workers 11] [--liars 2] [--rounds 20]

Real engine, real confined processes. The liars' processes train and publish something else; like any node
they know their own rows and their own change only (`tests/sim/test_outvoted_liars.py` has attackers that know
the honest updates). The digits of scikit-learn, with unequal classes per worker (Dirichlet 0.5).
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

import anyio

from bench.lying_zygote import ATTACKS
from bench.measure import load
from flow_nexus_neural.coordination.consensus.registry import needs_trusted_rows
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.nodes.limits import memory_mb
from flow_nexus_neural.engine.reports import StatusReport
from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.runtime.local.runtime import LocalRuntime
from flow_nexus_neural.runtime.local.zygote_process import ZygoteProcess
from flow_nexus_neural.settings import Settings
from flow_nexus_neural.vocabulary import ModelSize

RULES: Final = (
    "federated_averaging",
    "coordinate_median",
    "trimmed_mean",
    "krum",
    "geometric_median",
    "auto",
    "validated",
    "fltrust",
)
HONEST: Final[ModelSize] = "base"
LYING: Final[ModelSize] = "large"
"""Only a mark: layers are given, so the size is that of the process's memory."""
LAYERS: Final = (
    {"type": "dense", "units": 64, "activation": "relu"},
    {"type": "dense", "units": 64, "activation": "relu"},
)


def main() -> None:
    """Read the command line, train every rule under every attack, print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", nargs="*", default=RULES)
    parser.add_argument("--attacks", nargs="*", choices=list(ATTACKS), default=list(ATTACKS))
    parser.add_argument("--workers", type=int, default=11)
    parser.add_argument("--liars", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    print(f"load average {load()}; {given.liars} of {given.workers} workers attack; test accuracy")
    print("(suspected: liars / honest workers named by status)")
    print("| attack | " + " | ".join(given.rules) + " |")
    print("| --- |" + " ---: |" * len(given.rules))
    for attack in given.attacks:
        cells = anyio.run(_row, attack, given)
        print(f"| {attack} | " + " | ".join(cells) + " |", flush=True)


async def _row(attack: str, given: argparse.Namespace) -> list[str]:
    """One attack under every rule, each in a cluster of its own over the same zygote."""
    with tempfile.TemporaryDirectory(prefix="flow-nexus-bench-") as state_dir:
        settings = Settings(state_dir=Path(state_dir))
        script = Path(__file__).with_name("lying_zygote.py")
        command = (sys.executable, "-I", str(script), attack, str(memory_mb(settings, LYING)))
        runtime = LocalRuntime(settings, launch=lambda: ZygoteProcess.launch(command))
        opened = Engine.open(settings, runtime=runtime)
        async with runtime, opened as engine:
            return [await _cell(engine, rule, given) for rule in given.rules]


async def _cell(engine: Engine, rule: str, given: argparse.Namespace) -> str:
    init = InitRequest(name=rule, topology="star", consensus="byzantine", seed=1)
    cluster_id = (await engine.init_cluster(init)).cluster_id
    for model, count in ((LYING, given.liars), (HONEST, given.workers - given.liars)):
        if count:
            request = DeployRequest(
                cluster_id=cluster_id, role="worker", model=model, layers=LAYERS, count=count
            )
            await engine.deploy_node(request)
    if needs_trusted_rows(rule):
        await engine.deploy_node(DeployRequest(cluster_id=cluster_id, role="validator"))
    training = TrainRequest(
        cluster_id=cluster_id,
        dataset="sklearn:digits",
        federated=True,
        rounds=given.rounds,
        local_epochs=2,
        clients_per_round=given.workers,
        batch_size=16,
        learning_rate=0.05,
        optimizer="sgd",
        partition="dirichlet:0.5",
        aggregation_method=rule,
    )
    await engine.train(training)
    status = await _done(engine, cluster_id)
    await engine.terminate(TerminateRequest(cluster_id=cluster_id, delete_artifacts=True))
    return _told(status, {f"worker-{n}" for n in range(given.liars)})


async def _done(engine: Engine, cluster_id: str) -> StatusReport:
    while True:
        request = StatusRequest(cluster_id=cluster_id, wait_seconds=25, until="done")
        status = await engine.status(request)
        if status.training_status != "running":
            return status


def _told(status: StatusReport, liars: set[str]) -> str:
    if status.global_accuracy is None or status.training_status != "completed":
        return f"failed: {str(status.training_error).partition(':')[0]}"
    cell = f"{status.global_accuracy:.3f}"
    report = (status.consensus_report or {}).get("byzantine")
    if not isinstance(report, dict):
        return cell
    named = {str(one["slot"]) for one in report["suspected"]}  # type: ignore[index,union-attr,call-overload]
    return f"{cell} ({len(named & liars)} / {len(named - liars)})"


if __name__ == "__main__":
    main()
