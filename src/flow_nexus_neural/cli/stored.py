"""Clusters as they are stored, for commands that look at a state directory while a server may have it.

They look at a copy, so that nothing is locked or changed. What only the server knows is not guessed.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio.to_thread

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.no_nodes import NoNodes
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.figures.seen import Copied
from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.engine.storage.snapshot import copy_state_dir, scratch_for
from flow_nexus_neural.engine.storage.state_dir import holder
from flow_nexus_neural.errors import NeuralError, StoreError
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.server.stored_answers import NULL_WHERE_STORED
from flow_nexus_neural.settings import Settings

TRIES = 5
KNOWN_OF_PROCESS = (
    "connections",
    "healthy",
    "isolation",
    "isolation_level",
    "placement",
    "rounds_done",
)
"""Of a node of which the copy has no process."""
PARTS_KNOWN_TO_SERVER = {
    "latency": ("p50", "p95", "p99", "n"),
    "serving": ("effective_ensemble_size",),
    "features": ("connections_active",),
}
"""What a copy would say of its own nodes, of which none runs."""
NOT_OF_COPY = ("failed_nodes", "recovering_nodes", "uptime", "uptime_seconds")
"""What a copy counts of itself: its nodes were not started, and it was opened just now."""
RAFT_OF_COPY = ("available", "reason", "raft")
"""Of `consensus_report`: who of the voters lives and leads."""
T = TypeVar("T")


@dataclass(frozen=True)
class Look(Copied):
    """Who has the state directory that is looked at."""

    def of_cluster(self, stored: str) -> str:
        """The word for a cluster in a list: how one that a server has is doing is the server's to say."""
        status = self.status(stored)
        if self.server is not None and status not in ("terminated", "unreadable"):
            return "running"
        return status


async def look(settings: Settings, read: Callable[[Engine, Look], Awaitable[T]]) -> T:
    """What `read` finds in a copy of the state directory.

    A server that commits fast may remove a checkpoint file that the copy names: then it is copied again.
    """
    for _ in range(TRIES - 1):
        try:
            return await _look_once(settings, read)
        except StoreError:
            if holder(settings.state_dir) is None:
                raise
    return await _look_once(settings, read)


async def _look_once(settings: Settings, read: Callable[[Engine, Look], Awaitable[T]]) -> T:
    async with _opened_copy(settings) as (engine, seen):
        try:
            return await read(engine, seen)
        except NeuralError as found:  # raised here, the engine's task group would wrap it
            failure = found
    raise failure


@asynccontextmanager
async def _opened_copy(settings: Settings) -> AsyncIterator[tuple[Engine, Look]]:
    server = holder(settings.state_dir)
    with scratch_for(settings.state_dir, f"{PROGRAM}-clusters-") as scratch:
        running = await anyio.to_thread.run_sync(copy_state_dir, settings.state_dir, scratch)
        copy = settings.of_copy(scratch)
        async with Engine.open(copy, runtime=NoNodes(), goes_on=False) as engine:
            yield engine, Look(server, running)


async def stored_status(engine: Engine, cluster_id: str, seen: Look) -> dict[str, Any]:
    """The status of a cluster in full, without what a copy cannot know."""
    request = StatusRequest(cluster_id=cluster_id, detail="full")
    return as_stored(wire_json(StatusResult.of(await engine.status(request))), seen)


def as_stored(report: Mapping[str, Any], seen: Look) -> dict[str, Any]:
    """A status from a copy, without what the copy cannot know."""
    shown = {**report, "status": seen.status(report["status"])}
    words = [seen.status(node["status"]) for node in report["nodes"]]
    shown["nodes"] = [
        {**node, "status": word, "state": word}
        | (dict.fromkeys(KNOWN_OF_PROCESS) if word != node["status"] else {})
        for node, word in zip(report["nodes"], words, strict=True)
    ]
    if report["status"] == "terminated":
        return shown
    shown |= _without_processes(report)
    if seen.server is None:
        return shown
    where = "how its nodes are is told by neural_cluster_status alone"
    said = f"process {seen.server} serves this cluster: this is what is stored of it, and {where}"
    shown |= {"status": "running", "warnings": [*report["warnings"], said]}
    shown |= dict.fromkeys(NULL_WHERE_STORED)
    for part, names in PARTS_KNOWN_TO_SERVER.items():
        if report[part] is not None:
            shown[part] = {**shown[part], **dict.fromkeys(names)}
    sessions = report["training_sessions"]
    if sessions and sessions[-1]["training_id"] in seen.running:
        last = {**sessions[-1], "status": "running", "error": None, "ended_at": None}
        shown |= {"training_status": "running", "training_error": None}
        shown["training_sessions"] = [*sessions[:-1], last]
    return shown


def _without_processes(report: Mapping[str, Any]) -> dict[str, Any]:
    """What a copy would say of processes that it has not, as not known."""
    consensus = report["consensus_report"] or {}
    kept = {name: part for name, part in consensus.items() if name not in RAFT_OF_COPY}
    return {
        **dict.fromkeys(NOT_OF_COPY),
        "consensus_report": kept or None,
        "wasm": {**report["wasm"], "active": None, "reason": None, "nodes": None},
        "features": {**report["features"], "wasm_enabled": None},
    }
