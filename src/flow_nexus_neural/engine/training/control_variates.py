"""SCAFFOLD's control variates: what corrects each client's gradients, and what a round makes of that.

They are kept by the engine, one per slot, as long as a training lasts: shards are cut anew for the next one,
also after a restart of the server, and it starts without any, as the paper does. A client without one has 0.
A slot whose rows were moved keeps its own until it trains again, when option II replaces all of it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio

from flow_nexus_neural.coordination.consensus.federated_methods import SCAFFOLD
from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.state.network_groups import (
    ModelState,
    NetworkGroup,
    ServerState,
    Vector,
)
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.kernels.server_steps import client_control, server_control, within_float32

Members = Sequence[tuple[Slot, NetworkGroup]]


@dataclass(frozen=True)
class Corrections:
    """What is added to the gradients of one round's clients; nothing unless the method is SCAFFOLD.

    Attributes:
        networks: Network groups of the clients, by key, as they were before the round.
        added: c - c_i of every client, [n_params] float32, by slot.
        learning_rate: Of the clients.
    """

    networks: Mapping[str, NetworkGroup] = field(default_factory=dict)
    added: Mapping[str, Vector] = field(default_factory=dict)
    learning_rate: float = 1.0

    def advanced(
        self, states: Mapping[str, ModelState], updates: Sequence[Update]
    ) -> dict[str, ModelState]:
        """The new states of a round with the control variates of those whose updates count. Blocking.

        A client that made no step keeps its own.
        """
        advanced = dict(states)
        for key, network in self.networks.items():
            base = network.state
            if key not in states or base is None:
                continue
            controls = dict(base.server.controls) if base.server else {}
            for update in updates:
                if update.slot in network.slots and update.steps:
                    controls[update.slot] = client_control(
                        self.added[update.slot],
                        base.params,
                        update.copied.params,
                        steps=update.steps,
                        learning_rate=self.learning_rate,
                    )
            advanced[key] = replace(states[key], server=ServerState(SCAFFOLD.name, {}, controls))
        return advanced


@asynccontextmanager
async def corrected_gradients(
    exchange: Exchange,
    context: EngineContext,
    policy: AggregationPolicy,
    members: Members,
    learning_rate: float,
) -> AsyncIterator[Corrections]:
    """Let each client of a round be granted its correction, read-only, for as long as this is open.

    Args:
        exchange: Grants it with the base state.
        context: Of the engine.
        policy: Of the training.
        members: The clients of the round, with their network groups.
        learning_rate: Of the clients.
    """
    if policy.name != SCAFFOLD.name:
        yield Corrections()
        return
    networks = {network.key: network for _, network in members}
    clients = {
        key: [slot for slot in network.slots if exchange.rows_of(slot) > 0]
        for key, network in networks.items()
    }
    added: dict[str, Vector] = {}
    for key, network in networks.items():
        of_network = [slot.name for slot, own in members if own.key == key]
        added |= await context.offload(_corrections, network, clients[key], of_network)
    regions = {
        name: await context.offload(
            context.runtime.share, f"control:{name}", {"correction": correction}
        )
        for name, correction in added.items()
    }
    exchange.controls = regions
    try:
        yield Corrections(networks, added, learning_rate)
    finally:
        exchange.controls = {}
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as group:
                for slot, _ in members:
                    if slot.name in regions:
                        group.start_soon(exchange.calls.revoke, slot, regions[slot.name].key)
            for region in regions.values():
                region.close()


def _corrections(
    network: NetworkGroup, clients: Sequence[str], chosen: Sequence[str]
) -> dict[str, Vector]:
    """The correction, c - c_i, of the chosen ones among all clients of a network group."""
    if network.state is None:
        return {}
    kept = network.state.server.controls if network.state.server else {}
    known = [kept[name] for name in clients if name in kept]
    common = server_control(known, len(clients), network.plan.n_params)
    return {
        name: within_float32(common - kept[name] if name in kept else common) for name in chosen
    }
