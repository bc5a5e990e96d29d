"""Lets a training wait until autonomy has seen what just happened, so that equal runs are steered equally."""

import anyio

from flow_nexus_neural.engine.live import LiveCluster

SETTLES_S = 30.0
"""No decision takes that long; a training does not hang on a defect of autonomy."""


async def attended(cluster: LiveCluster) -> bool:
    """Wait until autonomy knows of every change so far and has done what it does about them.

    Slow actions, which may themselves wait for a training, are carried out beside its looks.

    Returns:
        False where nobody looks.
    """
    log, changes = cluster.state.autonomy, cluster.changes.count
    with anyio.move_on_after(SETTLES_S):
        while log.seen is not None and log.seen < changes:
            await cluster.looked.wait_beyond(cluster.looked.count)
    return log.seen is not None
