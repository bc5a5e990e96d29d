"""What the nodes of a cluster occupy, read from the system at most once a second."""

from dataclasses import dataclass, field

import anyio.to_thread

from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.slots import SlotBook
from flow_nexus_neural.runtime.base import MemoryReading, NodeHandle

MAX_AGE_S = 1.0


@dataclass
class MemoryWatch:
    """The last readings by slot. A reading walks a process's page tables, so it is made off the loop."""

    read_at_s: float = float("-inf")
    readings: dict[str, MemoryReading | None] = field(default_factory=dict)

    async def read(
        self, context: EngineContext, slots: SlotBook
    ) -> dict[str, MemoryReading | None]:
        """Readings of the living nodes, at most a second old."""
        living = {slot.name: slot.handle for slot in slots if slot.handle is not None}
        if context.clock() - self.read_at_s > MAX_AGE_S or living.keys() - self.readings.keys():
            # Not on the engine's worker threads: they may be busy for seconds with somebody's data.
            self.readings = await anyio.to_thread.run_sync(_read, living)
            self.read_at_s = context.clock()
        return {name: self.readings.get(name) for name in living}


def _read(living: dict[str, NodeHandle]) -> dict[str, MemoryReading | None]:
    return {name: handle.memory() for name, handle in living.items()}
