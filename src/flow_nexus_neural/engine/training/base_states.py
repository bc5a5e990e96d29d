"""The states from which the workers of one exchange start."""

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import anyio

from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.tasks import Base
from flow_nexus_neural.runtime.base import Buffer, Region


class BaseStates:
    """Published once for those workers that do not hold theirs since the last exchange; revoked at the end.

    Args:
        exchange: Publishes them.
        members: Workers, with the network group and its state.
    """

    def __init__(self, exchange: Exchange, members: Sequence[tuple[Slot, NetworkGroup]]) -> None:
        self._exchange = exchange
        self._members = members
        self._own: dict[str, Buffer] = {}
        self._given_back: dict[str, Region] = {}
        self._regions: dict[str, Region] = {}

    async def __aenter__(self) -> Self:
        for slot, network in self._members:
            held = self._exchange.links.held_by(slot, network.state)
            given_back = self._exchange.own_states.of(slot.name, network.state)
            if held is not None:
                self._own[slot.name] = held
            elif given_back is not None:
                purpose = f"base:{slot.name}"
                region = await self._exchange.publish(network, given_back, purpose)
                self._given_back[slot.name] = region
            elif network.key not in self._regions and network.state is not None:
                self._regions[network.key] = await self._exchange.publish(network, network.state)
        return self

    def of(self, slot: Slot, network: NetworkGroup) -> Base:
        """Where a worker finds the state of its network group."""
        held = self._own.get(slot.name)
        if held is not None:
            return Base(held.key, None)
        region = self._region(slot, network)
        return Base(region.key, region)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        failure: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for slot, network in self._members:
                    if slot.name not in self._own and network.state is not None:
                        region = self._region(slot, network)
                        group.start_soon(self._exchange.calls.revoke, slot, region.key)
            for region in (*self._regions.values(), *self._given_back.values()):
                region.close()

    def _region(self, slot: Slot, network: NetworkGroup) -> Region:
        """What a worker is granted that does not hold its state."""
        return self._given_back.get(slot.name) or self._regions[network.key]
