"""`flow-nexus-neural clusters`: list, show and remove stored clusters without a client.

Listing and showing look at a copy of what is stored, so that they work, and change nothing, while a server
has the state directory. What only that server knows is not guessed: it is told where it can be asked for.
"""

import json
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.no_nodes import NoNodes
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.reports import ClusterLine
from flow_nexus_neural.engine.requests import StatusRequest, TerminateRequest
from flow_nexus_neural.engine.storage.snapshot import copy_state_dir
from flow_nexus_neural.engine.storage.state_dir import holder
from flow_nexus_neural.errors import StoreError
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.settings import Settings

TRIES = 5


@dataclass(frozen=True)
class Look:
    """Who has the state directory that is looked at.

    Attributes:
        server: Process id of the server; None when none runs.
        running: Trainings that are stored as running.
    """

    server: str | None
    running: frozenset[str]

    def status(self, stored: str) -> str:
        """The word for a cluster or a node of which the copy says `stored`."""
        if stored != "recovering":
            return stored
        return "stopped" if self.server is None else "unknown"


def clusters(settings: Settings, action: str, cluster_id: str | None) -> int:
    """List, show or remove clusters.

    Returns:
        0, or 1 after an error, for example a removal while a running server holds the state directory.
    """
    configure_logging(settings)
    try:
        act = _remove if action == "remove" else _look
        text = anyio.run(act, settings, cluster_id)
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        sys.stderr.write(f"{PROGRAM}: {error_text(known_error(failure, subject=action))}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


async def _remove(settings: Settings, cluster_id: str | None) -> str:
    request = TerminateRequest(cluster_id=cluster_id or "", delete_artifacts=True)
    async with Engine.open(settings, runtime=NoNodes(), goes_on=False) as engine:
        return (await engine.terminate(request)).message


async def _look(settings: Settings, cluster_id: str | None) -> str:
    """All clusters in a line each, or one in full.

    A server that commits fast may remove a checkpoint file that the copy names: then it is copied again.
    """
    for _ in range(TRIES - 1):
        try:
            return await _look_once(settings, cluster_id)
        except StoreError:
            if holder(settings.state_dir) is None:
                raise
    return await _look_once(settings, cluster_id)


async def _look_once(settings: Settings, cluster_id: str | None) -> str:
    server = holder(settings.state_dir)
    with tempfile.TemporaryDirectory(prefix=f"{PROGRAM}-clusters-") as scratch:
        running = copy_state_dir(settings.state_dir, Path(scratch))
        look = Look(server, running)
        copy = settings.model_copy(update={"state_dir": Path(scratch), "data_dir": None})
        async with Engine.open(copy, runtime=NoNodes(), goes_on=False) as engine:
            if cluster_id is not None:
                request = StatusRequest(cluster_id=cluster_id, detail="full")
                report = wire_json(StatusResult.of(await engine.status(request)))
                return json.dumps(_as_stored(report, look), indent=2, ensure_ascii=False)
            lines = (await engine.clusters()).clusters
    return "\n".join(_row(line, look) for line in lines) or f"no clusters in {settings.state_dir}"


def _row(line: ClusterLine, look: Look) -> str:
    status = look.status(line.status)
    if look.server is not None and status not in ("terminated", "unreadable"):
        status = "running"  # the server has it; how it is doing is the server's to say
    return f"{line.cluster_id}  {status:<12}  {line.created_at}  {line.name}"


def _as_stored(report: Mapping[str, Any], look: Look) -> dict[str, Any]:
    """A status from a copy, without what the copy cannot know."""
    shown = {**report, "status": look.status(report["status"])}
    words = [look.status(node["status"]) for node in report["nodes"]]
    shown["nodes"] = [
        {**node, "status": word, "state": word}
        for node, word in zip(report["nodes"], words, strict=True)
    ]
    if look.server is None or report["status"] == "terminated":
        return shown
    where = "how its nodes are is told by neural_cluster_status alone"
    said = f"process {look.server} serves this cluster: this is what is stored of it, and {where}"
    shown |= {"status": "running", "warnings": [*report["warnings"], said]}
    shown |= dict.fromkeys(("active_nodes", "failed_nodes"))
    sessions = report["training_sessions"]
    if sessions and sessions[-1]["training_id"] in look.running:
        last = {**sessions[-1], "status": "running", "error": None, "ended_at": None}
        shown |= {"training_status": "running", "training_error": None}
        shown["training_sessions"] = [*sessions[:-1], last]
    return shown
