"""`flow-nexus-neural clusters`: list, show and remove stored clusters without a client."""

import json
import sys

import anyio

from flow_nexus_neural.cli.flags import PROGRAM
from flow_nexus_neural.cli.logs import configure_logging
from flow_nexus_neural.cli.no_nodes import NoNodes
from flow_nexus_neural.engine.engine import Engine
from flow_nexus_neural.engine.requests import StatusRequest, TerminateRequest
from flow_nexus_neural.server.errors import error_text, known_error
from flow_nexus_neural.server.rounding import wire_json
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.settings import Settings


def clusters(settings: Settings, action: str, cluster_id: str | None) -> int:
    """List, show or remove clusters.

    Returns:
        0, or 1 after an error, for example if a running server holds the state directory.
    """
    configure_logging(settings)
    try:
        text = anyio.run(_act, settings, action, cluster_id or "")
    except Exception as failure:  # noqa: BLE001 - the command's boundary: every failure is worded
        sys.stderr.write(f"{PROGRAM}: {error_text(known_error(failure, subject=action))}\n")
        return 1
    sys.stdout.write(text + "\n")
    return 0


async def _act(settings: Settings, action: str, cluster_id: str) -> str:
    async with Engine.open(settings, runtime=NoNodes()) as engine:
        match action:
            case "show":
                report = await engine.status(StatusRequest(cluster_id=cluster_id, detail="full"))
                return json.dumps(wire_json(StatusResult.of(report)), indent=2, ensure_ascii=False)
            case "remove":
                request = TerminateRequest(cluster_id=cluster_id, delete_artifacts=True)
                return (await engine.terminate(request)).message
            case _:
                lines = (await engine.clusters()).clusters
                rows = [
                    f"{line.cluster_id}  {line.status:<12}  {line.created_at}  {line.name}"
                    for line in lines
                ]
                return "\n".join(rows) or f"no clusters in {settings.state_dir}"
