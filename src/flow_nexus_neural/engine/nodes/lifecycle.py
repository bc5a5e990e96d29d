"""Starts the process of a slot, brings it to the committed version, and handles its end."""

import logging

import anyio

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.grouping import group_of
from flow_nexus_neural.engine.nodes.limits import cpu_s, memory_mb
from flow_nexus_neural.engine.nodes.probe import probe
from flow_nexus_neural.engine.nodes.supervision import supervise
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.versions.loading import adopt, keep_up, synchronise
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
    """Start a slot's process and load the committed version into it.

    Afterwards the slot is healthy, its row is durable and the process is watched. After a failure no process
    is left, the slot is `failed`, and the error is raised. Not interrupted by cancellation.

    Returns:
        Milliseconds of the synchronisation; None if there was nothing to load.

    Raises:
        NodeError, IsolationUnavailable: If the process could not be started or synchronised.
        StoreUnavailable: If the slot's row could not be made durable.
        ClusterTerminated: If the cluster ended meanwhile.
    """
    sync_ms: float | None = None
    with anyio.CancelScope(shield=True):
        sync_ms = await _start(cluster, slot)
    return sync_ms  # noqa: RET504  a cancel scope may swallow, so the return stands outside it


async def _start(cluster: LiveCluster, slot: Slot) -> float | None:
    slot.begin_start()
    # First: it decides which network the slot serves, and so what it is synchronised to below.
    adopt(cluster, slot)
    cluster.changed()
    try:
        handle = await cluster.context.runtime.start(
            _spec(cluster, slot),
            ready_timeout_s=cluster.context.settings.node_ready_timeout_s,
        )
    except NeuralError as failure:
        await _failed(cluster, slot, str(failure))
        cluster.state.refuse_ended()  # if the cluster has ended, report that and not its consequence
        raise
    joined = False
    try:
        cluster.state.refuse_ended()
        # Supervised from now on, so that a node that freezes during the synchronisation is killed too.
        slot.attach(handle, cluster.clock())
        cluster.context.spawn(supervise, cluster, slot, handle)
        sync_ms = await _synchronised(cluster, slot)
        cluster.state.refuse_ended()
        joined = True
    except NeuralError as failure:
        await _failed(cluster, slot, str(failure))
        cluster.state.refuse_ended()  # if the cluster has ended, report that and not its consequence
        raise
    finally:
        if not joined:
            slot.detach()
            await handle.stop(grace_s=0)
    # Watched only from now on: the end of a process during its start is reported once, by this call.
    cluster.context.spawn(watch, cluster, slot, handle)
    await cluster.wiring.join(slot)
    cluster.changed()
    return sync_ms


async def _synchronised(cluster: LiveCluster, slot: Slot) -> float | None:
    slot.move("syncing")
    began = cluster.clock()
    loaded = await synchronise(cluster, slot)
    cluster.state.refuse_ended()
    if loaded:
        await keep_up(cluster, slot)
        await probe(cluster, slot)
        cluster.state.refuse_ended()
    # Healthy before the check below: from now on a commit loads its version into this slot too. A version
    # that was committed during the loading above has not reached it and is loaded here.
    slot.become_healthy(cluster.context.timestamp())
    if loaded:
        await keep_up(cluster, slot)
    sync_ms = (cluster.clock() - began) * 1e3 if loaded else None
    # Before the caller gets its reply: an acknowledged member must survive a crash of the server.
    await cluster.ledger.record_membership(slot, "joined")
    slot.note_durable()
    return sync_ms


async def watch(cluster: LiveCluster, slot: Slot, handle: NodeHandle) -> None:
    """Wait for the end of a process, then mark its slot as failed.

    If the whole runtime was lost, the slot is started again automatically, since the node was not the cause.
    A node that died by itself stays failed until it is replaced.
    """
    exit_ = await handle.wait_exit()
    cluster.metrics.count_frames("sync", handle)
    if slot.handle is not handle:  # the slot has a new process already
        return
    slot.detach()
    if cluster.state.terminated_at is not None or slot.state == "retired":
        return
    slot.await_return(expected=exit_.reason == "runtime_lost")
    sentence = with_last_words(exit_.sentence, exit_.stderr_tail)
    code = "sandbox_violation" if exit_.reason == "sandbox_violation" else "node_died"
    reason = slot.last_error if slot.condemned else f"{code}: {sentence}"
    await _failed(cluster, slot, reason or exit_.sentence)
    cluster.context.spawn(cluster.wiring.leave, slot, handle.spec.node_id)
    if slot.returning:
        try:
            await respawn(cluster, slot)
        finally:
            slot.await_return(expected=False)
            cluster.changed()


async def respawn(cluster: LiveCluster, slot: Slot) -> None:
    """Start a slot again as a new incarnation, with increasing pauses; after the last try it stays failed."""
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
    """Start a new incarnation of a slot without a process; waits for a restart that is already running.

    Returns:
        As `start`; None also if another call has restarted it.

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
        # Notify again after the lock was released: a training waits until no restart is running.
        cluster.changed()


async def give_up(cluster: LiveCluster, slot: Slot, reason: str) -> None:
    """Leave a failed slot as it is until somebody replaces it.

    Raises:
        StoreUnavailable: That is not recorded.
    """
    slot.give_up(reason)
    cluster.changed()
    await cluster.ledger.record_membership(slot, "failed_permanently")


async def give_way(cluster: LiveCluster, slot: Slot) -> None:
    """Stop the process of a slot that is to get another one; rounds and predictions go on without it."""
    handle, node_id = slot.handle, slot.node_id
    slot.note_error("replaced on request")
    slot.move("recovering")
    # First: whoever waits for the process's end must not take this for a failure of its own.
    slot.detach()
    cluster.changed()
    with anyio.CancelScope(shield=True):
        if handle is not None:
            await handle.stop()
        await cluster.wiring.leave(slot, node_id)


async def revive(cluster: LiveCluster) -> None:
    """Start every slot that lost its process because the server or the runtime ended.

    Slots that cannot be started stay failed, with the reason; this is not an error of the call. One that is
    accused stays so: nobody has replaced it.
    """

    async def revive_one(slot: Slot) -> None:
        accused = slot.accused
        try:
            await restart(cluster, slot)
            if accused is not None:
                slot.accuse(accused)
                cluster.changed()
        except NeuralError as failure:
            slot.note_error(str(failure))

    async with cluster.reviving:
        waiting = [s for s in cluster.slots if s.state == "recovering" and s.handle is None]
        async with anyio.create_task_group() as group:
            for slot in waiting:
                group.start_soon(revive_one, slot)


def isolation_warnings(isolation: Isolation, best: str) -> list[str]:
    """A warning if a node's isolation is below the best level of its runtime."""
    if isolation.level == best:
        return []
    missing = ", ".join(isolation.missing) or "unknown"
    return [f"isolation is {isolation.level!r}, not {best!r}; missing: {missing}"]


async def _failed(cluster: LiveCluster, slot: Slot, reason: str) -> None:
    """Mark a slot without a process as failed, even if that cannot be stored.

    A slot that never joined is removed. It is stored as `retired`, so that the next server does not start it
    and its name is not used again.
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
    group, group_size = group_of(cluster, slot)
    return NodeSpec(
        node_id=slot.node_id,
        slot=slot.name,
        incarnation=slot.incarnation,
        seed=seed64((cluster.spec.seed, 0), 0, slot.name, slot.incarnation, "init"),
        memory_mb=memory_mb(cluster.context.settings, slot.spec.model),
        cpu_s=cpu_s(cluster.context.settings, slot.spec.model),
        max_regions=16 + 2 * (cluster.context.settings.max_nodes - 1),
        group=group,
        group_size=group_size,
    )
