"""`flow-nexus-neural clusters`: list, show and remove stored clusters without a client.

Listing and showing look at a copy of what is stored, so that they work, and change nothing, while a server
has the state directory.
"""

import json
import sys

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.no_nodes import NoNodes
from flow_nexus_neural.cli.stored import Look, look, stored_status
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.reports import ClusterLine
from flow_nexus_neural.engine.requests import TerminateRequest
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.settings import Settings


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
    """All clusters in a line each, or one in full."""

    async def read(engine: Engine, seen: Look) -> str:
        if cluster_id is not None:
            report = await stored_status(engine, cluster_id, seen)
            return json.dumps(report, indent=2, ensure_ascii=False)
        lines = (await engine.clusters()).clusters
        rows = (_row(line, seen) for line in lines)
        return "\n".join(rows) or f"no clusters in {settings.state_dir}"

    return await look(settings, read)


def _row(line: ClusterLine, seen: Look) -> str:
    return f"{line.cluster_id}  {seen.of_cluster(line.status):<12}  {line.created_at}  {line.name}"
