"""The states before segments, for verifiers to read: the engine's base, and what workers reveal."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio

from flow_nexus_neural.engine.calls.deadlines import LOAD
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.exchange import TRAINING, Exchange, state_layout
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.errors import InternalError
from flow_nexus_neural.protocol.messages import Reveal
from flow_nexus_neural.runtime.base import Buffer, Region

RELEASE_S = 2.0
"""A node that takes longer to forget is left to supervision."""


@dataclass(frozen=True)
class _Revealing:
    """Where a slot's process reveals states: the buffer that it writes, and the verifiers' view of it."""

    slot: Slot
    node_id: str
    buffer: Buffer
    view: Region

    def close(self) -> None:
        """Give up both."""
        self.view.close()
        self.buffer.close()


class SegmentStates:
    """Memory of the proofs of one training; a context around each exchange's verdicts.

    A worker may hold its base in memory that it writes itself. The state before the first segment is always
    published by the engine therefore, once an exchange and only if it is asked for.
    """

    def __init__(self, cluster: LiveCluster, exchange: Exchange) -> None:
        self._cluster = cluster
        self._exchange = exchange
        self._calls = cluster.calls("consensus")
        self._revealing: dict[str, _Revealing] = {}
        self._bases: dict[str, Region] = {}
        self._publishing = anyio.Lock()

    async def before(self, task: Task, segment: int) -> tuple[Region, float]:
        """The state before a segment of a task that was done, and the CPU seconds of revealing it.

        Raises:
            NodeError: The worker did not reveal it.
        """
        if segment == 0:
            return await self.base(task.network), 0.0
        revealing = await self._granted(task.slot, task.network)
        request = Reveal(network=TRAINING, segment=segment, into=revealing.buffer.key)
        reply, _ = await self._calls.ask(task.slot, request, LOAD)
        return revealing.view, reply.cpu_s

    async def release(self) -> None:
        """Make workers forget where they reveal."""
        with anyio.move_on_after(RELEASE_S):
            async with anyio.create_task_group() as group:
                for one in self._revealing.values():
                    if one.slot.node_id == one.node_id:
                        group.start_soon(self._calls.revoke, one.slot, one.buffer.key)

    def close(self) -> None:
        """Give up every buffer."""
        for one in self._revealing.values():
            one.close()
        self._revealing.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for region in self._bases.values():
            region.close()
        self._bases.clear()

    async def base(self, network: NetworkGroup) -> Region:
        """The state from which an exchange started, as the engine has it."""
        async with self._publishing:
            if network.state is None:
                raise InternalError(f"network {network.key} was trained from no state")
            if network.key not in self._bases:
                self._bases[network.key] = await self._exchange.publish(
                    network, network.state, "proof"
                )
            return self._bases[network.key]

    async def _granted(self, slot: Slot, network: NetworkGroup) -> _Revealing:
        """Where a worker's process reveals states; granted once."""
        found = self._revealing.get(slot.name)
        if found is not None and found.node_id == slot.node_id:
            return found
        if found is not None:
            self._revealing.pop(slot.name).close()
        runtime = self._cluster.context.runtime
        buffer = runtime.buffer(f"reveal:{slot.name}", state_layout(network))
        made = _Revealing(slot, slot.node_id, buffer, runtime.view(buffer))
        try:
            await self._calls.grant(slot, buffer)
        except BaseException:  # also cancelled: nobody else knows the buffer yet
            made.close()
            raise
        self._revealing[slot.name] = made
        return made
