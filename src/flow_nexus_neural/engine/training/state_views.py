"""The buffers of an exchange over links, and which node was granted a view of whose."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import anyio
import numpy as np

from flow_nexus_neural.coordination.collectives import Folding, Held, Plane
from flow_nexus_neural.coordination.topology import ENGINE
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup, Vector
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.errors import NodeUnavailable
from flow_nexus_neural.kernels.folding import fold
from flow_nexus_neural.runtime.base import Buffer, Region

RELEASE_S = 2.0
"""A node that takes longer to forget is left to supervision."""


@dataclass(frozen=True)
class _State:
    """A member's state buffer, and the process that was granted it for writing."""

    buffer: Buffer
    node_id: str


@dataclass
class _Granted:
    """What one process was granted, by key: a buffer that replaced another under its key is not it."""

    node_id: str
    by_key: dict[str, Buffer | Region] = field(default_factory=dict)


class StateViews:
    """Memory of the exchanges of one training.

    A worker's updates lie in a buffer that its training made. Its state, which neighbours read as well, lies
    in a buffer made here. A node is granted a view of what it reads in a step and nothing else.

    Args:
        cluster: Whose nodes take part.
        update_of: The buffer into which a worker writes its updates; None when it has none.
    """

    def __init__(self, cluster: LiveCluster, update_of: Callable[[str], Buffer | None]) -> None:
        self._cluster = cluster
        self._runtime = cluster.context.runtime
        self._calls = cluster.calls("train")
        self._update_of = update_of
        self._states: dict[str, _State] = {}
        self._sums_here: dict[str, Region] = {}
        self._granted: dict[str, _Granted] = {}
        self._holders: dict[str, tuple[_State, ModelState]] = {}

    def begin(self, plane: Plane) -> None:
        """An exchange overwrites what its members hold."""
        for member in plane.members:
            self._holders.pop(member, None)

    def now_hold(self, network: NetworkGroup, members: Iterable[str], state: ModelState) -> None:
        """These workers hold a state, as the engine found it."""
        for name in members:
            self._holders[name] = (self._states[_state_key(network, name)], state)

    def holder_of(self, slot: Slot, state: ModelState | None) -> Buffer | None:
        """The buffer in which a worker's present process holds this state; None when it does not."""
        mine, held = self._holders.get(slot.name, (None, None))
        if mine is None or held is not state or mine.node_id != slot.node_id:
            return None
        return mine.buffer

    def key(self, network: NetworkGroup, member: str, held: Held) -> str:
        """The key under which nodes know what a member keeps.

        Raises:
            NodeUnavailable: It keeps nothing.
        """
        if member == ENGINE:
            return _state_key(network, ENGINE)
        return self._buffer(network, member, held).key

    def state_buffer(self, network: NetworkGroup, member: str) -> Buffer:
        """The state buffer of a node that has taken part in an exchange."""
        return self._states[_state_key(network, member)].buffer

    async def equip(self, slot: Slot, folding: Folding, network: NetworkGroup) -> None:
        """Grant a node its own state buffer and views of what it reads in a step.

        Raises:
            NodeError: The node failed, or a neighbour is gone.
            OSError: There is no descriptor left.
        """
        key = _state_key(network, slot.name)
        state = self._states.get(key)
        if state is None or state.node_id != slot.node_id:
            layout = [(name, "f4", array.shape) for name, array in _arrays(network).items()]
            self._drop(key)
            self._states[key] = _State(self._runtime.buffer(key, layout), slot.node_id)
        await self._grant(slot, self._states[key].buffer, self._states[key].buffer)
        for member, held in _sources(folding):
            if member == ENGINE:
                region = self._sums_here[_state_key(network, ENGINE)]
                await self._grant(slot, region, region)
            elif member != slot.name:
                await self._grant_view(slot, self._buffer(network, member, held))

    def fold_here(self, folding: Folding, network: NetworkGroup) -> None:
        """The engine's own part of a step, into a region that nodes are granted. Blocking.

        Raises:
            NodeUnavailable: A neighbour is gone.
        """
        copies = {
            (member, held): list(self._buffer(network, member, held).copy().values())
            for member, held in _sources(folding)
        }
        arrays = {name: np.zeros_like(array) for name, array in _arrays(network).items()}
        for part in folding.parts:
            sources = [(copies[s.member, s.held], s.weight) for s in part.sources]
            fold(list(arrays.values()), sources, part.divisor, (part.start, part.stop))
        key = _state_key(network, ENGINE)
        former = self._sums_here.pop(key, None)
        if former is not None:
            former.close()
        self._sums_here[key] = self._runtime.share(key, arrays)

    async def release(self) -> None:
        """Make nodes forget all of it."""
        with anyio.move_on_after(RELEASE_S):
            async with anyio.create_task_group() as group:
                for slot in list(self._cluster.slots):
                    granted = self._granted.get(slot.name)
                    if granted is not None and granted.node_id == slot.node_id:
                        group.start_soon(self._calls.revoke, slot, *granted.by_key)
        self._granted.clear()

    def close(self) -> None:
        """Give up every buffer that was made here."""
        for state in self._states.values():
            state.buffer.close()
        for region in self._sums_here.values():
            region.close()
        self._states.clear()
        self._sums_here.clear()
        self._holders.clear()

    async def _grant_view(self, slot: Slot, buffer: Buffer) -> None:
        if self._holds(slot, buffer):
            return
        view = self._runtime.view(buffer)
        try:
            await self._grant(slot, buffer, view)
        finally:
            view.close()

    async def _grant(self, slot: Slot, memory: Buffer | Region, granted: Buffer | Region) -> None:
        """Grant a node some memory, directly or by a view of it, unless it holds it already."""
        if self._holds(slot, memory):
            return
        await self._calls.grant(slot, granted)
        held = self._granted.get(slot.name)
        if held is None or held.node_id != slot.node_id:
            held = self._granted[slot.name] = _Granted(slot.node_id)
        held.by_key[memory.key] = memory

    def _holds(self, slot: Slot, memory: Buffer | Region) -> bool:
        held = self._granted.get(slot.name)
        return (
            held is not None
            and held.node_id == slot.node_id
            and held.by_key.get(memory.key) is memory
        )

    def _buffer(self, network: NetworkGroup, member: str, held: Held) -> Buffer:
        if held == "update":
            found = self._update_of(member)
        else:
            state = self._states.get(_state_key(network, member))
            found = None if state is None else state.buffer
        if found is None:
            raise NodeUnavailable(f"{member} holds no {held} of {network.key}")
        return found

    def _drop(self, key: str) -> None:
        former = self._states.pop(key, None)
        if former is not None:
            former.buffer.close()


def _sources(folding: Folding) -> list[tuple[str, Held]]:
    """Whose memory a member reads in a step, each once, in a fixed order."""
    return sorted(
        {(source.member, source.held) for part in folding.parts for source in part.sources}
    )


def _state_key(network: NetworkGroup, member: str) -> str:
    return f"state:{network.key}:{member}"


def _arrays(network: NetworkGroup) -> dict[str, Vector]:
    return {} if network.state is None else network.state.arrays
