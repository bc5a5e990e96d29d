"""Bringing a slot's process to life, and noticing its end."""

import logging

import anyio

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.limits import cpu_s, memory_mb
from flow_nexus_neural.engine.nodes.supervision import supervise
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import adopt, serving_slots, synchronise
from flow_nexus_neural.errors import (
    ClusterTerminated,
    NeuralError,
    NodeNotFound,
    ShuttingDown,
    StoreError,
)
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.runtime.base import Isolation, NodeHandle, NodeSpec
from flow_nexus_neural.runtime.process.exits import with_last_words

log = logging.getLogger(__name__)


async def start(cluster: LiveCluster, slot: Slot) -> float | None:
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
        sync_ms = await _start(cluster, slot)
    return sync_ms  # noqa: RET504  a cancel scope may swallow, so the return stands outside it


async def _start(cluster: LiveCluster, slot: Slot) -> float | None:
    slot.begin_start()
    adopt(
        cluster, slot
    )  # first, so that the version it is about to serve is what it is synchronised to
    cluster.changed()
    try:
        handle = await cluster.context.runtime.start(
            _spec(cluster, slot),
            ready_timeout_s=cluster.context.settings.node_ready_timeout_s,
        )
    except NeuralError as failure:
        await _failed(cluster, slot, str(failure))
        cluster.state.refuse_ended()  # says more than what the end did to the process
        raise
    joined = False
    try:
        cluster.state.refuse_ended()
        slot.attach(handle, cluster.clock())
        cluster.context.spawn(supervise, cluster, slot, handle)
        sync_ms = await _synchronised(cluster, slot)
        cluster.state.refuse_ended()
        joined = True
    except NeuralError as failure:
        await _failed(cluster, slot, str(failure))
        cluster.state.refuse_ended()  # says more than what the end did to the process
        raise
    finally:
        if not joined:
            slot.detach()
            await handle.stop(grace_s=0)
    # Only now, so that one that ends while it starts has one place that tells it: the call that started it.
    cluster.context.spawn(watch, cluster, slot, handle)
    await cluster.wiring.join(slot)
    cluster.changed()
    return sync_ms


async def _synchronised(cluster: LiveCluster, slot: Slot) -> float | None:
    slot.move("syncing")
    began = cluster.clock()
    loaded = await synchronise(cluster, slot)
    cluster.state.refuse_ended()
    slot.become_healthy(cluster.context.timestamp())
    # A version that was committed while this one was loading has not reached the slot yet.
    while loaded and slot not in serving_slots(cluster):
        loaded = await synchronise(cluster, slot)
    sync_ms = (cluster.clock() - began) * 1e3 if loaded else None
    await cluster.ledger.record_membership(slot, "joined")
    slot.note_durable()
    return sync_ms


async def watch(cluster: LiveCluster, slot: Slot, handle: NodeHandle) -> None:
    """Wait for the end of a process and tell the cluster.

    A node whose runtime was lost did nothing wrong: it comes back by itself. One that died on its own stays
    failed until it is replaced.
    """
    exit_ = await handle.wait_exit()
    cluster.metrics.count_frames("sync", handle)
    if slot.handle is not handle:
        return
    slot.detach()
    if cluster.state.terminated_at is not None or slot.state == "retired":
        return
    slot.await_return(expected=exit_.reason == "runtime_lost")
    words = with_last_words(exit_.sentence, exit_.stderr_tail)
    code = "sandbox_violation" if exit_.reason == "sandbox_violation" else "node_died"
    reason = slot.last_error if slot.condemned else f"{code}: {words}"
    await _failed(cluster, slot, reason or exit_.sentence)
    cluster.context.spawn(cluster.wiring.leave, slot, handle.spec.node_id)
    if slot.returning:
        try:
            await respawn(cluster, slot)
        finally:
            slot.await_return(expected=False)
            cluster.changed()


async def respawn(cluster: LiveCluster, slot: Slot) -> None:
    """Start a slot again under a new incarnation, with growing pauses; gives up into `failed`."""
    for delay_s in cluster.context.patience.respawn_delays_s:
        await anyio.sleep(delay_s)
        gone = cluster.state.terminated_at is not None or slot.state == "retired"
        if slot.handle is not None or gone:
            return
        try:
            await restart(cluster, slot)
        except (ClusterTerminated, ShuttingDown):
            return
        except NeuralError as failure:
            slot.note_error(str(failure))
        else:
            return


async def restart(cluster: LiveCluster, slot: Slot) -> float | None:
    """Give a slot without a process a new incarnation; joins a restart under way.

    Returns:
        As `start`; None too when somebody else's restart was joined.

    Raises:
        NodeError, IsolationUnavailable, ClusterTerminated: As `start`.
        NodeNotFound: It was removed meanwhile.
    """
    try:
        async with slot.restarting:
            if slot.handle is not None:
                return None
            if slot.state == "retired":
                raise NodeNotFound(
                    f"node {slot.name} was removed meanwhile",
                    hint="deploy a further node with neural_node_deploy",
                )
            slot.begin_incarnation(cluster.context.new_id("node"))
            sync_ms = await start(cluster, slot)
            slot.note_restart(cluster.clock())
            return sync_ms
    finally:
        # Once more when the lock is free: a training waits until no restart is under way.
        cluster.changed()


async def revive(cluster: LiveCluster) -> None:
    """Start every slot that lost its process because the server or the runtime ended.

    Slots that cannot be started stay failed with their reason; the others serve.
    """

    async def revive_one(slot: Slot) -> None:
        try:
            await restart(cluster, slot)
        except NeuralError as failure:
            slot.note_error(str(failure))

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


async def _failed(cluster: LiveCluster, slot: Slot, reason: str) -> None:
    """A slot has no process any more. True whether or not it can be recorded.

    One that never joined is no slot any more. Its row says `retired`: it must not come back with the next
    server, and its name is not used again.
    """
    slot.fail(reason)
    if not slot.durable and slot.state != "retired":
        slot.move("retired")
        cluster.state.remove_slot(slot)
    cluster.changed()
    try:
        await cluster.ledger.record_membership(slot, "failed")
    except StoreError as failure:
        log.warning(
            "that %s of %s failed is not recorded: %s", slot.name, cluster.cluster_id, failure
        )


def _spec(cluster: LiveCluster, slot: Slot) -> NodeSpec:
    return NodeSpec(
        node_id=slot.node_id,
        slot=slot.name,
        incarnation=slot.incarnation,
        seed=seed64((cluster.spec.seed, 0), 0, slot.name, slot.incarnation, "init"),
        memory_mb=memory_mb(cluster.context.settings, slot.spec.model),
        cpu_s=cpu_s(cluster.context.settings, slot.spec.model),
        max_regions=16 + 2 * (cluster.context.settings.max_nodes - 1),
    )
