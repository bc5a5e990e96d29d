"""How a round's work is divided: local epochs of sampled clients, or local SGD of all workers."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy
from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.rounds import Client, sample_clients
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.reports import ClientsReport, TrainingConfig
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.collect import Pace, collect
from flow_nexus_neural.engine.training.control_variates import corrected_gradients
from flow_nexus_neural.engine.training.course import RowsOfClients
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.gossip import Gossip
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.proofs import Proofs
from flow_nexus_neural.engine.training.record_steps import RecordSteps
from flow_nexus_neural.engine.training.secure_sum import SecureSum
from flow_nexus_neural.engine.training.tasks import Task
from flow_nexus_neural.engine.versions.aggregate import Aggregated
from flow_nexus_neural.errors import NoWorkers
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Pass

Members = Sequence[tuple[Slot, NetworkGroup]]


@dataclass
class ClientHistory:
    """In which rounds each client of one training was asked."""

    _last: dict[str, int] = field(default_factory=dict)
    _times: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, known: Mapping[str, tuple[int, int]]) -> "ClientHistory":
        """From what `known` gave."""
        last = {slot: number for slot, (number, _) in known.items()}
        return cls(last, Counter({slot: times for slot, (_, times) in known.items()}))

    def known(self) -> dict[str, tuple[int, int]]:
        """Of each client that was asked, the last round and how often."""
        return {slot: (number, self._times[slot]) for slot, number in self._last.items()}

    def client(self, slot: str, group: str) -> Client:
        """A slot as a candidate of the next round."""
        return Client(slot, group, self._last.get(slot), self._times[slot])

    def asked(self, slots: Sequence[str], number: int) -> None:
        """These slots took part in a round."""
        self._times.update(slots)
        self._last.update(dict.fromkeys(slots, number))


@dataclass(frozen=True)
class RoundSetting:
    """What stays the same from round to round of a training.

    Attributes:
        least_workers: Fewest workers of a federated round that the caller insists on.
        run: Root of every seed of the training.
        groups: Capability group of each slot.
        delivery: The way that updates take to become the next state of a network group.
        proofs: Under proof-of-learning, who admits updates; None under other modes.
        clients: How many workers a federated round asks; None for as many as are configured.
        record_steps: Pays for what workers learn of single rows; None where these are not protected.
        virtual: Rows of every client that trains by itself; None where workers have shards.
    """

    context: EngineContext
    exchange: Exchange
    config: TrainingConfig
    least_workers: int
    run: tuple[int, int]
    groups: Mapping[str, str]
    asked: ClientHistory
    pace: Pace
    left_out: LeftOut
    delivery: Delivery | Gossip | SecureSum
    proofs: Proofs | None = None
    clients: int | None = None
    record_steps: RecordSteps | None = None
    virtual: RowsOfClients | None = None


@dataclass(frozen=True)
class RoundWork:
    """What a round made.

    Attributes:
        states: New state of each network group that has one, by key.
        updates: Those that the states rest on, in slot order.
        excluded: Slots left out, with reasons.
        evidence: Numbers behind the aggregation, by network group.
        clients: Who of the data's clients took part, where they train by themselves.
    """

    states: dict[str, ModelState]
    updates: list[Update]
    excluded: dict[str, str]
    evidence: dict[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    clients: ClientsReport | None = None

    def with_aggregated(self, key: str, made: Aggregated) -> "RoundWork":
        """The same work with the next state of one network group."""
        return replace(
            self,
            states={**self.states, key: made.state},
            updates=[update for update in self.updates if update.slot not in made.excluded],
            excluded={**self.excluded, **made.excluded},
            evidence={**self.evidence, key: made.evidence} if made.evidence else self.evidence,
        )


async def federated_round(setting: RoundSetting, number: int, members: Members) -> RoundWork:
    """Local epochs of sampled clients, combined once.

    Where nodes were lost and the caller did not insist on a number of workers, a round that can no longer
    have its usual minimum needs every worker that is left.

    Raises:
        NoWorkers: Fewer are left than the caller insists on.
        RoundFailed: Too few clients delivered.

    Source: McMahan et al., AISTATS 2017, Algorithm 1. Departure: clients are sampled in turn inside their
    capability groups, and the optimiser's moments are averaged with the weights.
    """
    config = setting.config
    by_name = {slot.name: (slot, network) for slot, network in members}
    clients = [
        setting.asked.client(slot.name, setting.groups.get(slot.name, "")) for slot, _ in members
    ]
    seed = seed64(setting.run, number, "", 0, "sample")
    chosen = sample_clients(clients, setting.clients or config.clients_per_round or 1, seed)
    if len(chosen) < setting.least_workers:
        raise NoWorkers(
            f"a round needs {setting.least_workers} workers (min_nodes_per_round) and {len(chosen)}"
            " can train",
            hint="deploy more with neural_node_deploy, or train with a lower min_nodes_per_round;"
            " a version that was committed before stays in force",
        )
    asked = [by_name[name] for name in chosen]
    async with corrected_gradients(
        setting.exchange,
        setting.context,
        setting.delivery.policy,
        asked,
        setting.exchange.recipe.learning_rate,
    ) as corrections:
        work = await _exchange(
            setting,
            asked,
            passes=lambda slot: tuple(
                Pass(order_seed=seed64(setting.run, number, slot, epoch, "order"))
                for epoch in range(config.local_epochs)
            ),
            dropout_seed=lambda slot: seed64(setting.run, number, slot, 0, "dropout"),
            min_contributors=min(config.min_nodes_per_round or 1, len(chosen)),
        )
    setting.asked.asked(chosen, number)
    states = await setting.context.offload(corrections.advanced, work.states, work.updates)
    return replace(work, states=states)


async def local_sgd_round(setting: RoundSetting, number: int, members: Members) -> RoundWork:
    """One epoch of all workers on their shards, averaged every `sync_every_steps` steps.

    Raises:
        RoundFailed: Nobody delivered.

    Source: Stich, "Local SGD Converges Fast and Communicates Little", ICLR 2019.
    """
    config = setting.config
    steps_of_pass = setting.exchange.steps_of_pass
    steps_of = [steps_of_pass(slot.name) for slot, _ in members]
    n_steps = max(steps_of)
    stride = config.sync_every_steps or n_steps
    # Where workers vote, those with one step more must not be alone in a last part: it ends with the others'.
    last = min(steps_of) if isinstance(setting.delivery.policy, RobustPolicy) else n_steps
    current = {network.key: network for _, network in members}
    total: dict[str, Update] = {}
    excluded: dict[str, str] = {}
    evidence: dict[str, list[JsonValue]] = {}
    for start in range(0, last, stride):
        stop = n_steps if start + stride >= last else start + stride
        going = [
            (slot, current[network.key])
            for slot, network in members
            if slot.healthy
            and not setting.left_out.holds(slot)
            and steps_of_pass(slot.name) > start
        ]
        if not going:
            continue
        work = await _exchange(
            setting,
            going,
            passes=_part_of_epoch(setting, number, start, stop),
            dropout_seed=_dropout_seed(setting.run, number, start),
            min_contributors=1,
        )
        excluded |= {
            name: _in_part(why, start, stop, n_steps) for name, why in work.excluded.items()
        }
        for key, numbers in work.evidence.items():
            evidence.setdefault(key, []).append({"from_step": start, **numbers})
        for key, state in work.states.items():
            current[key] = replace(current[key], state=state)
        for update in work.updates:
            total[update.slot] = _added(total.get(update.slot), update)
    reached = {
        key: network.state
        for key, network in current.items()
        if network.state is not None and any(slot in network.slots for slot in total)
    }
    in_order = [total[name] for name in sorted(total, key=slot_order)]
    return RoundWork(
        reached, in_order, excluded, {key: {"parts": parts} for key, parts in evidence.items()}
    )


async def _exchange(
    setting: RoundSetting,
    members: Members,
    *,
    passes: Callable[[str], tuple[Pass, ...]],
    dropout_seed: Callable[[str], int],
    min_contributors: int,
) -> RoundWork:
    """Hand out base states where workers lack them, collect updates, combine each network's."""
    networks = {network.key: network for _, network in members}
    copied = {
        key: setting.delivery.audited or setting.delivery.detour(network) is not None
        for key, network in networks.items()
    }
    async with BaseStates(setting.exchange, members) as bases:
        tasks = [
            Task(
                slot=slot,
                network=network,
                base=bases.of(slot, network),
                copied=copied[network.key],
                opt_step=network.state.opt_step if network.state else 0,
                passes=passes(slot.name),
                dropout_seed=dropout_seed(slot.name),
                work=float(setting.exchange.rows_of(slot.name)),
            )
            for slot, network in members
        ]
        if setting.record_steps is not None:
            tasks = await setting.record_steps.charged(setting.exchange, tasks)
        if setting.proofs is not None:
            tasks = await setting.proofs.ordered(tasks)
        collected = await collect(
            setting.exchange,
            tasks,
            min_contributors=min_contributors,
            pace=setting.pace,
            left_out=setting.left_out,
            context=setting.context,
        )
        if setting.proofs is not None:
            collected = await setting.proofs.admitted(tasks, collected, least=setting.least_workers)
    work = RoundWork({}, collected.updates, collected.excluded)
    for key, network in networks.items():
        own = [update for update in collected.updates if update.slot in network.slots]
        if own and network.state is not None:
            made = await setting.delivery.combine(network, own, collected.excluded.keys())
            work = work.with_aggregated(key, made)
    return work


def _part_of_epoch(
    setting: RoundSetting, number: int, start: int, stop: int
) -> Callable[[str], tuple[Pass, ...]]:
    """Steps `start` to `stop` of each slot's own epoch; a smaller shard ends before a larger one."""

    def passes(slot: str) -> tuple[Pass, ...]:
        n_steps = setting.exchange.steps_of_pass(slot)
        order_seed = seed64(setting.run, number, slot, 0, "order")
        return (Pass(order_seed=order_seed, start=start, stop=min(stop, n_steps)),)

    return passes


def _in_part(why: str, start: int, stop: int, n_steps: int) -> str:
    """A reason with the steps to which it belongs: before them, the slot may have contributed."""
    if start == 0 and stop >= n_steps:
        return why
    return f"from step {start} to {stop} of {n_steps}: {why}"


def _dropout_seed(run: tuple[int, int], number: int, start: int) -> Callable[[str], int]:
    return lambda slot: seed64(run, number, slot, start, "dropout")


def _added(one: Update | None, other: Update) -> Update:
    """Two parts of one epoch of a worker, as one."""
    if one is None:
        return other
    stepped = [part for part in (one, other) if part.steps > 0]  # the others have no loss
    steps = one.steps + other.steps
    known = bool(stepped) and all(part.loss is not None for part in stepped)
    loss = sum((part.loss or 0.0) * part.steps for part in stepped) / steps if known else None
    return replace(other, steps=steps, loss=loss, cpu_s=one.cpu_s + other.cpu_s)
