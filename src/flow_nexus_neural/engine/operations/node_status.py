"""What status says of single nodes: as they are now, what they occupy, and those that are gone."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.limits import memory_mb
from flow_nexus_neural.engine.reports import NodeStatus, Placed, RetiredNode, SharedProcess
from flow_nexus_neural.engine.state.slot_spec import Former
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.runtime.base import MemoryReading

RETIRED_SHOWN = 32


def memory_part(
    cluster: LiveCluster, readings: dict[str, MemoryReading | None]
) -> dict[str, object]:
    """Bytes of all nodes, their percentage of the nodes' limits, and how they were read."""
    known = [reading for reading in readings.values() if reading is not None]
    if not known or len(known) < len(readings):
        return dict.fromkeys(("memory_bytes", "memory_usage", "memory_source"))
    used = sum(reading.nbytes for reading in known)
    limit = sum(_memory_limit_bytes(cluster, cluster.slots[name]) for name in readings)
    sources = {reading.source for reading in known}
    return {
        "memory_bytes": used,
        "memory_usage": 100.0 * used / limit,
        "memory_source": sources.pop() if len(sources) == 1 else "mixed",
    }


def node_line(
    cluster: LiveCluster, slot: Slot, memory: MemoryReading | None, training: Training | None
) -> NodeStatus:
    """One slot, as it is now."""
    return NodeStatus(
        node_id=slot.node_id,
        slot=slot.name,
        role=slot.spec.role,
        status=slot.state,
        healthy=slot.healthy,
        model=slot.spec.model,
        capabilities=list(slot.spec.capabilities),
        autonomy=slot.spec.autonomy,
        connections=cluster.wiring.degree(slot.name),
        incarnation=slot.incarnation,
        rounds_done=slot.rounds_done,
        loss=slot.loss,
        rows=slot.rows,
        memory_bytes=memory.nbytes if memory else None,
        memory_limit_bytes=_memory_limit_bytes(cluster, slot),
        parameters=slot.parameters,
        pid=slot.handle.pid if slot.handle else None,
        placement=_placement(slot),
        isolation_level=slot.handle.isolation.level if slot.handle else "none",
        pol=training.advance.proofs.of_worker(slot.name) if training else None,
        last_error=slot.last_error,
    )


def _placement(slot: Slot) -> Placed | None:
    """Where its process runs; None without one, and on this machine."""
    found = slot.handle.placement if slot.handle else None
    return None if found is None else Placed(host=found.host, address=found.address)


def shared_processes(cluster: LiveCluster) -> list[SharedProcess] | None:
    """Processes with several nodes, and how these were trained last; None where each node has its own."""
    found: dict[int, list[Slot]] = {}
    for slot in cluster.slots:
        handle = slot.handle
        if handle is not None and handle.pid is not None and handle.isolation.shared_with:
            found.setdefault(handle.pid, []).append(slot)
    processes = []
    for pid, slots in found.items():
        costs = [slot.train_cpu_s for slot in slots if slot.train_cpu_s is not None]
        processes.append(
            SharedProcess(
                pid=pid,
                slots=[slot.name for slot in slots],
                stacked=sum(slot.stacked is not None for slot in slots),
                cpu_s=sum(costs) if costs else None,
            )
        )
    return processes or None


def retired(cluster: LiveCluster) -> list[RetiredNode]:
    """Incarnations that are gone, by slot, oldest first; the last `RETIRED_SHOWN` of them."""
    gone = []
    for slot in cluster.slots.with_retired():
        told = [*slot.former]
        if slot.state == "retired":
            told.append(Former(slot.node_id, slot.incarnation, slot.last_error or "removed"))
        gone += [
            RetiredNode(
                slot=slot.name, node_id=f.node_id, incarnation=f.incarnation, reason=f.reason
            )
            for f in told
        ]
    return gone[-RETIRED_SHOWN:]


def _memory_limit_bytes(cluster: LiveCluster, slot: Slot) -> int:
    return memory_mb(cluster.context.settings, slot.spec.model) << 20
