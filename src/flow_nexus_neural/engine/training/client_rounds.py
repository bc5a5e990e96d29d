"""A federated round of the data's clients, each of which trains by itself: more of them than workers.

Workers train one client after the other. In each wave every worker is lent the rows of one client and starts
from the weights of the round, and what it made is counted in before the next wave begins: memory stays flat
whatever the number of clients. Updates count in the order of clients: their sum is the same on any nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import anyio
from typing_extensions import override

from flow_nexus_neural.coordination.client_waves import dealt, hopeless
from flow_nexus_neural.coordination.quorum import round_quorum
from flow_nexus_neural.coordination.rounds import LATE, sample_clients
from flow_nexus_neural.engine.reports import ExchangeReport
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.base_states import BaseStates
from flow_nexus_neural.engine.training.client_record import ClientRecord
from flow_nexus_neural.engine.training.client_sums import ClientSum, sum_of_clients
from flow_nexus_neural.engine.training.collect import Collected, Pace, collect
from flow_nexus_neural.engine.training.course import RowsOfClients
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.strategies import (
    Members,
    RoundSetting,
    RoundWork,
    federated_round,
    local_sgd_round,
)
from flow_nexus_neural.engine.training.tasks import Base, Task
from flow_nexus_neural.errors import InternalError, NeuralError, NoWorkers, RoundFailed
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Pass

THROUGH_THE_ENGINE = "clients train in turns on the nodes, and the engine counts each update in"


async def divided_round(setting: RoundSetting, number: int, members: Members) -> RoundWork:
    """One round, divided as the training is. Raises as the rounds below."""
    if setting.virtual is not None:
        return await client_round(setting, number, members, setting.virtual)
    one_round = federated_round if setting.config.federated else local_sgd_round
    return await one_round(setting, number, members)


async def client_round(
    setting: RoundSetting, number: int, members: Members, clients: RowsOfClients
) -> RoundWork:
    """Local epochs of sampled clients of the data, combined once.

    Raises:
        NoWorkers: No worker is left to train a client.
        RoundFailed: Too few clients delivered.

    Source: McMahan et al., AISTATS 2017, Algorithm 1. Departure: clients are sampled in turn, and the
    optimiser's moments are averaged with the weights.
    """
    wanted = setting.config.clients_per_round or len(clients)
    seed = seed64(setting.run, number, "", 0, "sample")
    sampled = {*sample_clients([setting.asked.client(c, "") for c in clients], wanted, seed)}
    chosen = [client for client in clients if client in sampled]
    delivery = setting.delivery
    if not isinstance(delivery, Delivery):
        raise InternalError("clients of the data were to train without a common sum")
    network = members[0][1]
    summed = sum_of_clients(delivery.combiner, network, chosen)
    lent = _Lent(setting, number, network, clients, members, ClientRecord(len(clients), chosen))
    await lent.train(chosen, summed)
    record = lent.record
    least = min(setting.config.min_nodes_per_round or 1, len(chosen))
    needed = round_quorum(len(chosen), least)
    if record.n_trained < needed:
        raise RoundFailed(
            f"{record.n_trained} of {needed} needed clients delivered ({record.why_missed})",
            hint="see neural_cluster_status for the nodes; a version that was committed stays in force",
        )
    made = await summed.combined()
    setting.asked.asked(chosen, number)
    delivery.cluster.metrics.note_exchange(_told(delivery, lent))
    work = RoundWork({}, record.updates, {}, clients=record.report(number))
    evidence = {**made.evidence, "clients": record.evidence(number)}
    return work.with_aggregated(network.key, replace(made, evidence=evidence))


class _Losses(LeftOut):
    """Who failed in one wave: a lost worker is left out of the round, a refused update is judged later."""

    def __init__(self, of_round: LeftOut) -> None:
        super().__init__()
        self._of_round = of_round
        self.refused: dict[str, str] = {}

    @override
    def add(self, slot: Slot, reason: str) -> None:
        """A worker failed; it is asked for no other client of the round."""
        super().add(slot, reason)
        self._of_round.add(slot, reason)

    @override
    def refuse(self, slot: Slot, reason: str) -> None:
        """What it made is refused: another worker has to tell whether it was the client or the worker."""
        self.refused[slot.name] = reason


@dataclass
class _Lent:
    """The waves of one round."""

    setting: RoundSetting
    number: int
    network: NetworkGroup
    clients: RowsOfClients
    members: Members
    record: ClientRecord
    _resting: set[str] = field(default_factory=set)
    _tried: dict[str, dict[str, str]] = field(default_factory=dict)
    _granted: set[str] = field(default_factory=set)

    async def train(self, chosen: Sequence[str], summed: ClientSum) -> None:
        """Train the chosen clients, wave by wave, and count in what they made, in their order.

        Raises:
            NoWorkers: Nobody is left.
        """
        exchange = self.setting.exchange
        home = dict(exchange.shards)
        try:
            async with BaseStates(exchange, self.members) as bases:
                left = list(chosen)
                while left:
                    width = len(self._workers())
                    wave, left = left[:width], left[width:]
                    made = await self._wave(wave, bases)
                    for client in wave:
                        if client in made:
                            await summed.add(made[client])
                            self.record.trained(client, made[client], self._tried.get(client, {}))
        finally:
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as group:
                    for slot, _ in self.members:
                        group.start_soon(exchange.take_back, slot)
                exchange.shards = home

    def _workers(self) -> dict[str, Slot]:
        """Workers that can train, by name. Raises `NoWorkers` if there is none."""
        setting = self.setting
        found = {
            slot.name: slot
            for slot, _ in self.members
            if slot.healthy and setting.exchange.is_ready(slot) and not setting.left_out.holds(slot)
        }
        if not found:
            raise NoWorkers(
                "no worker is left to train the clients of this round",
                hint="see neural_cluster_status; deploy a worker with neural_node_deploy",
            )
        return found

    async def _wave(self, wave: Sequence[str], bases: BaseStates) -> dict[str, Update]:
        """Updates of the clients of one wave; each is given to another worker where one failed with it."""
        made: dict[str, Update] = {}
        self._resting.clear()
        waiting = list(wave)
        while waiting:
            workers = self._workers()
            names = [name for name in workers if name not in self._resting] or list(workers)
            pairs = dealt(waiting, names, self._tried)
            found = await self._asked({c: workers[name] for c, name in pairs.items()}, bases)
            made |= found
            left = list(self._workers())
            waiting = [client for client in waiting if client not in made]
            for client in [c for c in waiting if hopeless(c, left, self._tried)]:
                waiting.remove(client)
                self.record.missed(client, self._tried.get(client, {}))
        for client in made:
            self._judge(client)
        return made

    def _judge(self, client: str) -> None:
        """Workers whose updates of a client were refused are to blame where another's was not."""
        for name, why in self._tried.get(client, {}).items():
            slot = next(slot for slot, _ in self.members if slot.name == name)
            if why != LATE and not self.setting.left_out.holds(slot):
                self.setting.left_out.add(slot, why)

    async def _asked(self, pairs: dict[str, Slot], bases: BaseStates) -> dict[str, Update]:
        """One client a worker; why there is no update of one is noted."""
        losses = _Losses(self.setting.left_out)
        able = await self._with_rows(pairs, losses)
        tasks = [self._task(client, slot, bases) for client, slot in able.items()]
        collected, failure = Collected([], {}), None
        if tasks:
            try:
                # Who is asked after another failed is awaited longer: the machine may be what is slow.
                pace = Pace() if pairs.keys() & self._tried.keys() else self.setting.pace
                collected = await self._collected(tasks, losses, pace)
            except RoundFailed as failed:
                failure = failed.message
        by_slot = {update.slot: update for update in collected.updates}
        self._granted |= {slot.node_id for slot in able.values() if slot.name in by_slot}
        reasons = losses.reasons(()) | losses.refused | collected.excluded
        lost = {
            client: reasons.get(slot.name) or failure
            for client, slot in pairs.items()
            if slot.name not in by_slot
        }
        # Where a wave failed because of some, the others only have to be asked again.
        guilty = [c for c in lost if pairs[c].name in reasons or self._is_out(pairs[c])]
        for client in guilty or lost:
            slot = pairs[client]
            self._tried.setdefault(client, {})[slot.name] = lost[client] or "it delivered nothing"
            self._resting.add(slot.name)
        return {c: by_slot[slot.name] for c, slot in pairs.items() if slot.name in by_slot}

    async def _collected(self, tasks: list[Task], losses: LeftOut, pace: Pace) -> Collected:
        """The updates of some tasks, proved where they have to be. Raises `RoundFailed`."""
        setting = self.setting
        if setting.proofs is not None:
            tasks = await setting.proofs.ordered(tasks)
        collected = await collect(
            setting.exchange,
            tasks,
            min_contributors=1,
            pace=pace,
            left_out=losses,
            context=setting.context,
        )
        if setting.proofs is not None:
            collected = await setting.proofs.admitted(tasks, collected)
        return collected

    def _is_out(self, slot: Slot) -> bool:
        return self.setting.left_out.holds(slot)

    async def _with_rows(self, pairs: dict[str, Slot], losses: LeftOut) -> dict[str, Slot]:
        """Those of the workers that were lent the rows of their client."""
        lent: set[str] = set()

        async def lend(client: str, slot: Slot) -> None:
            try:
                await self.setting.exchange.lend(slot, self.clients[client])
            except NeuralError as failure:
                losses.add(slot, str(failure))
            else:
                lent.add(client)

        async with anyio.create_task_group() as group:
            for client, slot in pairs.items():
                group.start_soon(lend, client, slot)
        return {client: slot for client, slot in pairs.items() if client in lent}

    def _task(self, client: str, slot: Slot, bases: BaseStates) -> Task:
        """What a worker does for a client: all that is drawn follows from the client's name."""
        run, number, config = self.setting.run, self.number, self.setting.config
        base = bases.of(slot, self.network)
        state = self.network.state
        return Task(
            slot=slot,
            network=self.network,
            base=Base(base.key, None) if slot.node_id in self._granted else base,
            copied=True,
            opt_step=state.opt_step if state else 0,
            passes=tuple(
                Pass(order_seed=seed64(run, number, client, epoch, "order"))
                for epoch in range(config.local_epochs)
            ),
            dropout_seed=seed64(run, number, client, 0, "dropout"),
            work=float(self.clients[client].size),
        )


def _told(delivery: Delivery, lent: _Lent) -> ExchangeReport:
    network, sent = lent.network, lent.record.per_node
    arrays = {} if network.state is None else network.state.arrays
    nbytes = sum(array.nbytes for array in arrays.values())
    return delivery.through_engine(network, THROUGH_THE_ENGINE, nbytes, sent, len(sent))
