"""Telling a slow node from a frozen one.

A process that ends is noticed by its handle. One that is stopped, spins or hangs says nothing: after some
seconds of silence it is pinged, becomes `suspect` when it misses that, and is killed when it stays silent.
"""

import anyio

from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.cluster import Cluster
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeError, NodeFault
from flow_nexus_neural.protocol.messages import Ping, Pong
from flow_nexus_neural.runtime.base import NodeHandle

SILENCE_S = 5.0
PING_S = 2.0
MIN_GRACE_S = 1.0
MAX_GRACE_S = 60.0
"""Steps are timed by the node itself, which may say anything."""
FIRST_STEP_S = 10.0
"""Grace of a node at work whose steps nobody has timed yet: the first one of a large network is long."""


async def supervise(
    context: EngineContext, cluster: Cluster, slot: Slot, handle: NodeHandle
) -> None:
    """Ping a node whenever it has been silent, until its process is gone; kill it when it is frozen.

    A node answers a ping between two optimiser steps, so the grace after a missed one is three times the
    longest step it ever reported, up to a minute.
    """
    longest_step_s = 0.0
    while slot.handle is handle:
        silent_s = context.clock() - slot.heard_at_s
        if silent_s < SILENCE_S:
            await anyio.sleep(SILENCE_S - silent_s)
            continue
        try:
            pong = await _ping(handle, PING_S)
            if pong is None and slot.handle is handle:
                pong = await _doubt(context, cluster, slot, handle, longest_step_s)
        except NodeFault as failure:
            # No honest node fails at this; one that did once would not be looked after any more.
            await _end(slot, handle, f"protocol_violation: a ping failed: {failure.message}")
            return
        except NodeError:
            return  # it is gone, and whoever waits for its end tells
        if pong is None:
            return
        cluster.metrics.count_frames("sync", handle)
        slot.heard_at_s = context.clock()
        longest_step_s = max(longest_step_s, pong.longest_step_ms / 1e3)


async def _doubt(
    context: EngineContext,
    cluster: Cluster,
    slot: Slot,
    handle: NodeHandle,
    longest_step_s: float,
) -> Pong | None:
    """A ping was missed: suspect the node, ask once more, kill it when it stays silent."""
    suspected = slot.state == "healthy"
    if suspected:
        slot.move("suspect")
        context.changed(cluster)
    untimed = slot.calls > 0 and longest_step_s == 0
    grace_s = max(FIRST_STEP_S if untimed else MIN_GRACE_S, min(3 * longest_step_s, MAX_GRACE_S))
    pong = await _ping(handle, grace_s)
    if slot.handle is not handle:
        return None
    if pong is None:
        silent_s = SILENCE_S + PING_S + grace_s
        await _end(
            slot, handle, f"node_timeout: silent for {silent_s:.1f} s, taken for frozen and killed"
        )
        return None
    if slot.state == "suspect":
        slot.move("healthy")
        context.changed(cluster)
    return pong


async def _end(slot: Slot, handle: NodeHandle, reason: str) -> None:
    """Kill a node that is to blame; the reason is the one that is told."""
    if slot.handle is handle:
        if slot.state == "healthy":
            slot.move("suspect")
        slot.last_error = reason
    await handle.stop(grace_s=0)


async def _ping(handle: NodeHandle, patience_s: float) -> Pong | None:
    """The answer, or None when there was none in time. Raises `NodeError` when the node is gone."""
    with anyio.move_on_after(patience_s):
        reply, _ = await handle.call(Ping())
        return reply
    return None
