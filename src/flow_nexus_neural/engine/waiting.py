"""The long poll of status: wait a bounded time until something happens, and say so meanwhile."""

import anyio

from flow_nexus_neural.engine.cluster import Cluster
from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.engine.surface import Progress


async def wait_for_change(
    cluster: Cluster, request: StatusRequest, progress: Progress | None
) -> tuple[bool, bool]:
    """Wait until a cluster changes, or until its training ends, at most `wait_seconds`.

    Returns:
        (changed, timed_out); both False when nothing was to be waited for.
    """
    if request.wait_seconds == 0:
        return False, False
    start = cluster.changes.count
    if request.until == "done" and not cluster.is_training:
        return False, False
    with anyio.move_on_after(request.wait_seconds):
        seen = start
        while True:
            await _tell(cluster, progress)
            await cluster.changes.wait_beyond(seen)
            seen = cluster.changes.count
            if request.until == "change" or not cluster.is_training:
                break
        await _tell(cluster, progress)
        return True, False
    return cluster.changes.count > start, True


async def _tell(cluster: Cluster, progress: Progress | None) -> None:
    training = cluster.latest_training
    if progress is None or training is None:
        return
    done, total = training.advance.rounds_done, training.config.rounds
    parts = [f"round {done}/{total}"]
    if training.advance.val_loss is not None:
        parts.append(f"loss {training.advance.val_loss:.3f}")
    committed = cluster.committed
    if committed is not None and committed.accuracy is not None:
        parts.append(f"acc {committed.accuracy:.3f}")
    await progress(done, total, " ".join(parts))
