"""What the nodes of a cluster occupy, read from the system at most once a second."""

from flow_nexus_neural.engine.live import LiveCluster, MemoryReadings
from flow_nexus_neural.runtime.base import MemoryReading, NodeHandle

MAX_AGE_S = 1.0


async def read_memory(cluster: LiveCluster) -> dict[str, MemoryReading | None]:
    """Readings of the living nodes by slot, at most a second old.

    A reading walks a process's page tables, so it is made off the event loop; and not in the threads that
    prepare data, which may be busy for seconds.
    """
    living = {slot.name: slot.handle for slot in cluster.slots if slot.handle is not None}
    last = cluster.memory
    if cluster.clock() - last.read_at_s > MAX_AGE_S or living.keys() - last.by_slot.keys():
        readings = await cluster.context.offload_reading(_read, living)
        last = MemoryReadings(cluster.clock(), readings)
        cluster.keep_memory(last)
    return {name: last.by_slot.get(name) for name in living}


def _read(living: dict[str, NodeHandle]) -> dict[str, MemoryReading | None]:
    return {name: handle.memory() for name, handle in living.items()}
