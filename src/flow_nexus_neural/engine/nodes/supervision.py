"""Telling a slow node from a frozen one.

A process that ends is noticed by its handle. One that is stopped, spins or hangs says nothing: after some
seconds of silence it is pinged, becomes `suspect` when it misses that, and is killed when it stays silent.
"""

import anyio

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError, NodeFault
from flow_nexus_neural.protocol.messages import Ping, Pong
from flow_nexus_neural.runtime.base import NodeHandle


async def supervise(cluster: LiveCluster, slot: Slot, handle: NodeHandle) -> None:
    """Ping a node whenever it has been silent, until its process is gone; kill it when it is frozen.

    A node answers a ping between two optimiser steps, so the grace after a missed one is three times the
    longest step it ever reported, within the bounds of `Patience`.
    """
    patience, longest_step_s = cluster.context.patience, 0.0
    while slot.handle is handle:
        due_s = slot.heard_at_s + patience.silence_s
        if cluster.clock() < due_s:
            # A point in time and not a duration: now + (due - now) need not be due in floating point.
            with anyio.CancelScope(deadline=due_s):
                await anyio.sleep_forever()
            continue
        try:
            pong = await _ping(handle, patience.ping_s)
            if pong is None and slot.handle is handle:
                pong = await _doubt(cluster, slot, handle, longest_step_s)
        except NodeFault as failure:
            # No honest node fails at this; one that did once would not be looked after any more.
            await _end(slot, handle, f"protocol_violation: a ping failed: {failure.message}")
            return
        except NodeError:
            return  # it is gone, and whoever waits for its end tells
        if pong is None:
            return
        cluster.metrics.count_frames("sync", handle)
        slot.heard(cluster.clock())
        longest_step_s = max(longest_step_s, pong.longest_step_ms / 1e3)


async def _doubt(
    cluster: LiveCluster,
    slot: Slot,
    handle: NodeHandle,
    longest_step_s: float,
) -> Pong | None:
    """A ping was missed: suspect the node, ask once more, kill it when it stays silent."""
    suspected = slot.state == "healthy"
    if suspected:
        slot.move("suspect")
        cluster.changed()
    patience = cluster.context.patience
    untimed = slot.calls > 0 and longest_step_s == 0
    least_s = patience.first_step_s if untimed else patience.min_grace_s
    grace_s = max(least_s, min(3 * longest_step_s, patience.max_grace_s))
    pong = await _ping(handle, grace_s)
    if slot.handle is not handle:
        return None
    if pong is None:
        silent_s = patience.silence_s + patience.ping_s + grace_s
        await _end(
            slot, handle, f"node_timeout: silent for {silent_s:.1f} s, taken for frozen and killed"
        )
        return None
    if slot.trust():
        cluster.changed()
    return pong


async def _end(slot: Slot, handle: NodeHandle, reason: str) -> None:
    """Kill a node that is to blame; the reason is the one that is told."""
    if slot.handle is handle:
        slot.condemn(reason)
    await handle.stop(grace_s=0)


async def _ping(handle: NodeHandle, patience_s: float) -> Pong | None:
    """The answer, or None when there was none in time. Raises `NodeError` when the node is gone."""
    with anyio.move_on_after(patience_s):
        reply, _ = await handle.call(Ping())
        return reply
    return None
