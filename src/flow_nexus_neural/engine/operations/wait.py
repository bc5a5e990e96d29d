"""The long poll of status: wait a bounded time until something happens, and say so meanwhile."""

import anyio

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.engine.surface import Progress


async def wait_for_change(
    cluster: LiveCluster, request: StatusRequest, progress: Progress | None
) -> tuple[bool, bool]:
    """Wait until a cluster changes, or until a training ends (the asked one, else the running one).

    At most `wait_seconds`.

    Returns:
        (changed, timed_out); both False when nothing was to be waited for.

    Raises:
        TrainingNotFound: `training_id` names no training of the cluster.
    """
    asked = cluster.state.training(request.training_id) if request.training_id is not None else None

    def is_done() -> bool:
        return not cluster.is_training if asked is None else asked.status != "running"

    if request.wait_seconds == 0 or (request.until == "done" and is_done()):
        return False, False
    start = cluster.changes.count
    with anyio.move_on_after(request.wait_seconds):
        seen = start
        while True:
            await _tell(cluster, progress)
            await cluster.changes.wait_beyond(seen)
            seen = cluster.changes.count
            if request.until == "change" or is_done():
                break
        await _tell(cluster, progress)
        return True, False
    return cluster.changes.count > start, True


async def _tell(cluster: LiveCluster, progress: Progress | None) -> None:
    training = cluster.state.latest_training
    if progress is None or training is None:
        return
    done, total = training.advance.rounds_done, training.config.rounds
    parts = [f"round {done}/{total}"]
    if training.advance.val_loss is not None:
        parts.append(f"loss {training.advance.val_loss:.3f}")
    committed = cluster.committed
    if committed is not None and committed.accuracy is not None:
        parts.append(f"acc {committed.accuracy:.3f}")
    left_s = training.progress().eta_seconds  # None before the first round was timed
    if left_s is not None:
        parts.append(f"about {left_s:.0f} s left")
    await progress(done, total, " ".join(parts))
