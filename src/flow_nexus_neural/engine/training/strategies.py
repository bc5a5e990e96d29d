"""How a round's work is divided: local epochs of sampled clients, or local SGD of all workers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from flow_nexus_neural.coordination.rounds import Client, sample_clients
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.reports import TrainingConfig
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.collect import Pace, Task, collect
from flow_nexus_neural.engine.training.exchange import Exchange, Update, fold, revoke_base
from flow_nexus_neural.errors import NoWorkers
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Pass

Members = Sequence[tuple[Slot, NetworkGroup]]


@dataclass
class Turns:
    """Who was asked when, in one training."""

    _last: dict[str, int] = field(default_factory=dict)
    _times: Counter[str] = field(default_factory=Counter)

    def client(self, slot: str, group: str) -> Client:
        """A slot as a candidate of the next round."""
        return Client(slot, group, self._last.get(slot), self._times[slot])

    def asked(self, slots: Sequence[str], number: int) -> None:
        """These slots took part in a round."""
        self._times.update(slots)
        self._last.update(dict.fromkeys(slots, number))


@dataclass(frozen=True)
class Frame:
    """What stays the same from round to round.

    Attributes:
        least_workers: Fewest workers of a federated round that the caller insists on.
        run: Root of every seed of the training.
        groups: Capability group of each slot.
    """

    context: EngineContext
    exchange: Exchange
    config: TrainingConfig
    least_workers: int
    run: tuple[int, int]
    groups: Mapping[str, str]
    turns: Turns
    pace: Pace


@dataclass(frozen=True)
class RoundWork:
    """What a round made: new states by network, updates in slot order, slots left out with reasons."""

    states: dict[str, ModelState]
    updates: list[Update]
    excluded: dict[str, str]


async def federated_round(frame: Frame, number: int, members: Members) -> RoundWork:
    """Local epochs of sampled clients, averaged once.

    Where nodes were lost and the caller did not insist on a number of workers, a round that can no longer
    have its usual minimum needs every worker that is left.

    Raises:
        NoWorkers: Fewer are left than the caller insists on.
        RoundFailed: Too few clients delivered.

    Source: McMahan et al., AISTATS 2017, Algorithm 1. Departure: clients are sampled in turn inside their
    capability groups, and the optimiser's moments are averaged with the weights.
    """
    config = frame.config
    by_name = {slot.name: (slot, network) for slot, network in members}
    clients = [
        frame.turns.client(slot.name, frame.groups.get(slot.name, "")) for slot, _ in members
    ]
    seed = seed64(frame.run, number, "", 0, "sample")
    chosen = sample_clients(clients, config.clients_per_round or 1, seed)
    if len(chosen) < frame.least_workers:
        raise NoWorkers(
            f"a round needs {frame.least_workers} workers (min_nodes_per_round) and {len(chosen)}"
            " can train",
            hint="deploy more with neural_node_deploy, or train with a lower min_nodes_per_round;"
            " what was committed before keeps answering neural_predict_distributed",
        )
    work = await _exchange(
        frame,
        [by_name[name] for name in chosen],
        passes=lambda slot: tuple(
            Pass(order_seed=seed64(frame.run, number, slot, epoch, "order"))
            for epoch in range(config.local_epochs)
        ),
        dropout_seed=lambda slot: seed64(frame.run, number, slot, 0, "dropout"),
        min_contributors=min(config.min_nodes_per_round or 1, len(chosen)),
    )
    frame.turns.asked(chosen, number)
    return work


async def local_sgd_round(frame: Frame, number: int, members: Members) -> RoundWork:
    """One epoch of all workers on their shards, averaged every `sync_every_steps` steps.

    Raises:
        RoundFailed: Nobody delivered.

    Source: Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019.
    """
    config = frame.config
    rows_of = frame.exchange.rows_of
    n_steps = -(-max(rows_of(slot.name) for slot, _ in members) // config.batch_size)
    stride = config.sync_every_steps or n_steps
    current = {network.key: network for _, network in members}
    total: dict[str, Update] = {}
    excluded: dict[str, str] = {}
    for start in range(0, n_steps, stride):
        going = [
            (slot, current[network.key])
            for slot, network in members
            if slot.healthy and rows_of(slot.name) > start * config.batch_size
        ]
        if not going:
            continue
        work = await _exchange(
            frame,
            going,
            passes=_part_of_epoch(frame, number, start, start + stride),
            dropout_seed=_dropout_seed(frame.run, number, start),
            min_contributors=1,
        )
        excluded |= work.excluded
        for key, state in work.states.items():
            current[key] = replace(current[key], state=state)
        for update in work.updates:
            total[update.slot] = _added(total.get(update.slot), update)
    reached = {
        key: network.state
        for key, network in current.items()
        if network.state is not None and any(slot in network.slots for slot in total)
    }
    return RoundWork(reached, list(total.values()), excluded)


async def _exchange(
    frame: Frame,
    members: Members,
    *,
    passes: Callable[[str], tuple[Pass, ...]],
    dropout_seed: Callable[[str], int],
    min_contributors: int,
) -> RoundWork:
    """Publish base states, collect updates, fold each network's in slot order."""
    networks = {network.key: network for _, network in members}
    bases = {
        key: await frame.exchange.publish(network, network.state)
        for key, network in networks.items()
        if network.state is not None
    }
    tasks = [
        Task(
            slot=slot,
            network=network,
            base=bases[network.key],
            opt_step=network.state.opt_step if network.state else 0,
            passes=passes(slot.name),
            dropout_seed=dropout_seed(slot.name),
            work=float(frame.exchange.rows_of(slot.name)),
        )
        for slot, network in members
    ]
    try:
        collected = await collect(
            frame.exchange,
            tasks,
            min_contributors=min_contributors,
            pace=frame.pace,
            clock=frame.context.clock,
            turns=frame.context.turns,
        )
    finally:
        with anyio.CancelScope(shield=True):
            for key, base in bases.items():
                slots = [slot for slot, network in members if network.key == key]
                await revoke_base(frame.exchange, slots, base)
    states = {}
    for key, network in networks.items():
        own = [update for update in collected.updates if update.slot in network.slots]
        if own:
            states[key] = await frame.context.offload(fold, own)
    return RoundWork(states, collected.updates, collected.excluded)


def _part_of_epoch(
    frame: Frame, number: int, start: int, stop: int
) -> Callable[[str], tuple[Pass, ...]]:
    """Steps `start` to `stop` of each slot's own epoch; a smaller shard ends before a larger one."""

    def passes(slot: str) -> tuple[Pass, ...]:
        n_steps = -(-frame.exchange.rows_of(slot) // frame.config.batch_size)
        order_seed = seed64(frame.run, number, slot, 0, "order")
        return (Pass(order_seed=order_seed, start=start, stop=min(stop, n_steps)),)

    return passes


def _dropout_seed(run: tuple[int, int], number: int, start: int) -> Callable[[str], int]:
    return lambda slot: seed64(run, number, slot, start, "dropout")


def _added(one: Update | None, other: Update) -> Update:
    """Two parts of one epoch of a worker, as one."""
    if one is None:
        return other
    both = one.loss is not None and other.loss is not None
    steps = one.steps + other.steps
    loss = (
        ((one.loss or 0.0) * one.steps + (other.loss or 0.0) * other.steps) / steps
        if both and steps
        else None
    )
    return replace(other, steps=steps, loss=loss, cpu_s=one.cpu_s + other.cpu_s)
