"""`flow-nexus-neural doctor`: tests whether this machine can run a cluster, by running one."""

import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import anyio

from flow_nexus_neural import __version__
from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.serve import FirstZygote, launch_zygote, open_engine
from flow_nexus_neural.engine.reports import NodeReport, StatusReport
from flow_nexus_neural.engine.requests import (
    DeployRequest,
    InitRequest,
    StatusRequest,
    TerminateRequest,
    TrainRequest,
)
from flow_nexus_neural.engine.surface import EngineSurface
from flow_nexus_neural.errors import NodeTimeout
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.settings import Settings

REQUIRED = ("mcp", "torch", "numpy", "pydantic", "anyio", "safetensors")
OPTIONAL = {"pyarrow": "reading .parquet files"}
TRAINING_LIMIT_S = 60.0


def doctor(settings: Settings) -> int:
    """Print what works and what does not.

    The trial runs in a temporary state directory, so that a running server is not disturbed.

    Returns:
        0 if a node was started, confined and trained; else 1.
    """
    configure_logging(settings)
    _say(f"{PROGRAM} {__version__}")
    _say(f"python       {platform.python_version()} on {platform.platform()}")
    for line in _library_lines():
        _say(line)
    _say(f"state        {settings.state_dir} ({_state_of(settings.state_dir)})")
    _say(f"data         {', '.join(str(root) for root in settings.data_roots)}")
    try:
        with tempfile.TemporaryDirectory(prefix="flow-nexus-neural-doctor-") as scratch:
            anyio.run(_trial, settings.model_copy(update={"state_dir": Path(scratch)}))
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        _say(f"FAILED       {error_text(known_error(failure, subject='doctor'))}")
        return 1
    _say("ok           a node was started, confined, trained and stopped")
    return 0


def _library_lines() -> Iterator[str]:
    for name in REQUIRED:
        yield f"{name:<12} {version(name)}"
    for name, use in OPTIONAL.items():
        try:
            yield f"{name:<12} {version(name)}"
        except PackageNotFoundError:
            yield f"{name:<12} missing; only needed for {use}"


def _state_of(state_dir: Path) -> str:
    if not state_dir.exists():
        return "will be created"
    files = [path for path in state_dir.rglob("*") if path.is_file()]
    return f"{len(files)} files, {sum(path.stat().st_size for path in files) / 1e6:.1f} MB"


async def _trial(settings: Settings) -> None:
    started_s = time.monotonic()
    async with open_engine(settings, FirstZygote(launch_zygote())) as engine:
        cluster_id = (await engine.init_cluster(InitRequest(name="doctor", seed=0))).cluster_id
        node = await engine.deploy_node(
            DeployRequest(cluster_id=cluster_id, layers=({"type": "dense", "units": 8},))
        )
        for line in _node_lines(node, time.monotonic() - started_s):
            _say(line)
        status = await _train(engine, cluster_id)
        await engine.terminate(TerminateRequest(cluster_id=cluster_id, delete_artifacts=True))
    _say(_training_line(status))


def _node_lines(node: NodeReport, seconds: float) -> Iterator[str]:
    yield f"node         {node.runtime}, pid {node.pid}, up {seconds:.1f} s after the start"
    yield f"isolation    {node.isolation.level}"
    if node.isolation.missing:
        yield f"missing      {', '.join(node.isolation.missing)}"
    if node.isolation.not_enforced:
        yield f"not enforced {', '.join(node.isolation.not_enforced)}"


async def _train(engine: EngineSurface, cluster_id: str) -> StatusReport:
    await engine.train(
        TrainRequest(cluster_id=cluster_id, dataset="synthetic:linear", epochs=1, seed=0)
    )
    with anyio.move_on_after(TRAINING_LIMIT_S):
        while True:
            status = await engine.status(
                StatusRequest(cluster_id=cluster_id, wait_seconds=5, until="done")
            )
            if status.training_status != "running":
                return status
    raise NodeTimeout(f"the trial training did not end within {TRAINING_LIMIT_S:.0f} s")


def _training_line(status: StatusReport) -> str:
    if status.training is None or status.training_error is not None:
        raise NodeTimeout(f"the trial training failed: {status.training_error or 'no report'}")
    evidence = status.training.evidence
    return (
        f"training     {status.training_status}: {evidence.steps} steps, weights "
        f"{(evidence.weights_digest_before or '?')[:8]} -> {(evidence.weights_digest_after or '?')[:8]}"
    )


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
