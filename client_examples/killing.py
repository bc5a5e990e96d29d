"""Kill one node process and see what the cluster says about it."""

import os
import signal

import anyio

from client import Neural, Reply

NOTICED_WITHIN_S = 10.0


async def kill_node(server: Neural, cluster_id: str, slot: str) -> Reply:
    """SIGKILL the process of a slot; return the status that first counts it as failed.

    Only the process id that the server itself reported for that slot is signalled.

    Raises:
        TimeoutError: If the server did not notice.
    """
    status = await server.call("neural_cluster_status", cluster_id=cluster_id)
    victim = next(node for node in status["nodes"] if node["slot"] == slot)
    os.kill(victim["pid"], signal.SIGKILL)
    with anyio.fail_after(NOTICED_WITHIN_S):
        while not status["failed_nodes"]:
            status = await server.call(
                "neural_cluster_status", cluster_id=cluster_id, wait_seconds=5
            )
    return status
