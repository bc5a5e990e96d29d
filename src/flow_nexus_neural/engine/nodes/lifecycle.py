"""Bringing a slot's process to life, and noticing its end."""

import logging

import anyio

from flow_nexus_neural.engine.context import EngineContext, new_id, timestamp
from flow_nexus_neural.engine.nodes.limits import cpu_s, memory_mb
from flow_nexus_neural.engine.nodes.supervision import supervise
from flow_nexus_neural.engine.state.cluster import Cluster, refuse_ended
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.storage.ledger_writer import note_membership
from flow_nexus_neural.engine.versions.loading import adopt, serving_slots, synchronise
from flow_nexus_neural.errors import (
    ClusterTerminated,
    NeuralError,
    ShuttingDown,
    StoreError,
)
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.runtime.base import Isolation, NodeHandle, NodeSpec
from flow_nexus_neural.runtime.process.exits import with_last_words

RESPAWN_DELAYS_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)

log = logging.getLogger(__name__)


async def start(context: EngineContext, cluster: Cluster, slot: Slot) -> float | None:
    """Start a slot's process and bring it to the committed version.

    After return the slot is healthy, its row is durable and its end will be noticed. On failure no process
    is left, the slot is `failed`, and the error is raised. Cancelling does not interrupt it half way.

    Returns:
        Milliseconds of the synchronisation; None when there was nothing to load.

    Raises:
        NodeError, IsolationUnavailable: The process did not come up or could not be synchronised.
        StoreUnavailable: That it joined could not be made durable.
        ClusterTerminated: The cluster ended meanwhile.
    """
    sync_ms: float | None = None
    with anyio.CancelScope(shield=True):
        sync_ms = await _start(context, cluster, slot)
    return sync_ms  # noqa: RET504  a cancel scope may swallow, so the return stands outside it


async def _start(context: EngineContext, cluster: Cluster, slot: Slot) -> float | None:
    if slot.state != "recovering":
        slot.move("starting" if slot.state == "declared" else "recovering")
    adopt(cluster, slot)
    context.changed(cluster)
    try:
        handle = await context.runtime.start(
            _spec(context, cluster, slot),
            ready_timeout_s=context.settings.node_ready_timeout_s,
        )
    except NeuralError as failure:
        await _failed(context, cluster, slot, str(failure))
        refuse_ended(cluster)  # says more than what the end did to the process
        raise
    joined = False
    try:
        refuse_ended(cluster)
        slot.attach(handle)
        slot.heard_at_s = context.clock()
        context.spawn(supervise, context, cluster, slot, handle)
        sync_ms = await _synchronised(context, cluster, slot)
        refuse_ended(cluster)
        joined = True
    except NeuralError as failure:
        await _failed(context, cluster, slot, str(failure))
        refuse_ended(cluster)  # says more than what the end did to the process
        raise
    finally:
        if not joined:
            slot.detach()
            await handle.stop(grace_s=0)
    # Only now, so that one that ends while it starts has one place that tells it: the call that started it.
    context.spawn(watch, context, cluster, slot, handle)
    await cluster.wiring.join(context, slot)
    context.changed(cluster)
    return sync_ms


async def _synchronised(context: EngineContext, cluster: Cluster, slot: Slot) -> float | None:
    slot.move("syncing")
    began = context.clock()
    loaded = await synchronise(context, cluster, slot)
    refuse_ended(cluster)
    slot.move("healthy")
    # A version that was committed while this one was loading has not reached the slot yet.
    while loaded and slot not in serving_slots(cluster):
        loaded = await synchronise(context, cluster, slot)
    sync_ms = (context.clock() - began) * 1e3 if loaded else None
    slot.deployed_at, slot.last_error = timestamp(), None
    await note_membership(context, cluster, slot, "joined")
    return sync_ms


async def watch(context: EngineContext, cluster: Cluster, slot: Slot, handle: NodeHandle) -> None:
    """Wait for the end of a process and tell the cluster.

    A node whose runtime was lost did nothing wrong: it comes back by itself. One that died on its own stays
    failed until it is replaced.
    """
    exit_ = await handle.wait_exit()
    cluster.metrics.count_frames("sync", handle)
    if slot.handle is not handle:
        return
    slot.detach()
    if cluster.terminated_at is not None or slot.state == "retired":
        return
    slot.returning = exit_.reason == "runtime_lost"
    frozen = slot.state == "suspect" and slot.last_error is not None
    words = with_last_words(exit_.sentence, exit_.stderr_tail)
    code = "sandbox_violation" if exit_.reason == "sandbox_violation" else "node_died"
    reason = slot.last_error if frozen else f"{code}: {words}"
    await _failed(context, cluster, slot, reason or exit_.sentence)
    context.spawn(cluster.wiring.leave, context, slot, handle.spec.node_id)
    if slot.returning:
        try:
            await respawn(context, cluster, slot)
        finally:
            slot.returning = False
            context.changed(cluster)


async def respawn(context: EngineContext, cluster: Cluster, slot: Slot) -> None:
    """Start a slot again under a new incarnation, with growing pauses; gives up into `failed`."""
    for delay_s in RESPAWN_DELAYS_S:
        await anyio.sleep(delay_s)
        if slot.handle is not None or cluster.terminated_at is not None:
            return
        try:
            await restart(context, cluster, slot)
        except (ClusterTerminated, ShuttingDown):
            return
        except NeuralError as failure:
            slot.last_error = str(failure)
        else:
            return


async def restart(context: EngineContext, cluster: Cluster, slot: Slot) -> float | None:
    """Give a slot without a process a new incarnation; joins a restart under way.

    Returns:
        As `start`; None too when somebody else's restart was joined.

    Raises:
        NodeError, IsolationUnavailable, ClusterTerminated: As `start`.
    """
    async with slot.restarting:
        if slot.handle is not None:
            return None
        slot.incarnation += 1
        slot.node_id = new_id("node")
        sync_ms = await start(context, cluster, slot)
        slot.recovered_at_s = context.clock()
        return sync_ms


async def revive(context: EngineContext, cluster: Cluster) -> None:
    """Start every slot that lost its process because the server or the runtime ended.

    Slots that cannot be started stay failed with their reason; the others serve.
    """

    async def revive_one(slot: Slot) -> None:
        try:
            await restart(context, cluster, slot)
        except NeuralError as failure:
            slot.last_error = str(failure)

    async with cluster.reviving:
        waiting = [s for s in cluster.slots if s.state == "recovering" and s.handle is None]
        async with anyio.create_task_group() as group:
            for slot in waiting:
                group.start_soon(revive_one, slot)


def isolation_warnings(isolation: Isolation, best: str) -> list[str]:
    """What a caller should know about a node whose isolation is below the best level of its runtime."""
    if isolation.level == best:
        return []
    missing = ", ".join(isolation.missing) or "unknown"
    return [f"isolation is {isolation.level!r}, not {best!r}; missing: {missing}"]


async def _failed(context: EngineContext, cluster: Cluster, slot: Slot, reason: str) -> None:
    """A slot has no process any more. True whether or not it can be recorded."""
    slot.last_error = reason[:400]
    if slot.state not in ("failed", "retired"):
        slot.move("failed")
    context.changed(cluster)
    try:
        await note_membership(context, cluster, slot, "failed")
    except StoreError as failure:
        log.warning(
            "that %s of %s failed is not recorded: %s", slot.name, cluster.cluster_id, failure
        )


def _spec(context: EngineContext, cluster: Cluster, slot: Slot) -> NodeSpec:
    return NodeSpec(
        node_id=slot.node_id,
        slot=slot.name,
        incarnation=slot.incarnation,
        seed=seed64((cluster.spec.seed, 0), 0, slot.name, slot.incarnation, "init"),
        memory_mb=memory_mb(context.settings, slot.spec.model),
        cpu_s=cpu_s(context.settings, slot.spec.model),
        max_regions=16 + 2 * (context.settings.max_nodes - 1),
    )
