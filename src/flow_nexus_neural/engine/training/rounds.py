"""Rounds over one division of rows: workers are prepared and asked, and a round that failed is tried again.

What a round made is returned; nothing is committed here, so that a training and whatever trains its networks
again on other rows (folds, the final refit) share this.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio

from flow_nexus_neural.coordination.consensus.gossip import GossipPolicy
from flow_nexus_neural.coordination.consensus.registry import policy_in_force
from flow_nexus_neural.coordination.proof_record import ProofRecord, ProvedExchange
from flow_nexus_neural.data.partition import Shards
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.state.continuation import Continuation
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.steering import Steering
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.client_rounds import divided_round
from flow_nexus_neural.engine.training.collect import Pace, prepare_all
from flow_nexus_neural.engine.training.combining import Combiner
from flow_nexus_neural.engine.training.course import Course
from flow_nexus_neural.engine.training.delivery import Delivery
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.gossip import Gossip
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.private_sums import PrivateSums
from flow_nexus_neural.engine.training.proofs import Proofs
from flow_nexus_neural.engine.training.record_steps import RecordSteps
from flow_nexus_neural.engine.training.secure_sum import SecureSum
from flow_nexus_neural.engine.training.strategies import (
    ClientHistory,
    RoundSetting,
    RoundWork,
)
from flow_nexus_neural.engine.training.trusted_rows import TrustedRows
from flow_nexus_neural.engine.versions.loading import same_network
from flow_nexus_neural.errors import NeuralError, NoWorkers, QuorumLost, RoundFailed

Hold = Callable[[], Awaitable[bool]]
"""Asked before a training fails for want of workers: True when it has waited and may try again."""


async def _fails() -> bool:
    return False


@dataclass
class Rounds:
    """The rounds of one course.

    Attributes:
        networks: Network groups with the state from which the next round starts.
        left_out: Workers that failed in the present round.
        asked: In which rounds each client took part.
        private: Makes the sums of clients' updates private; record_steps pays for what is learnt of rows.
    """

    cluster: LiveCluster
    course: Course
    networks: dict[str, NetworkGroup]
    shards: Shards
    left_out: LeftOut = field(default_factory=LeftOut)
    private: PrivateSums | None = None
    record_steps: RecordSteps | None = None

    def __post_init__(self) -> None:
        course = self.course
        self.exchange = Exchange(self.cluster, course.rows, self.shards.rows, course.recipe)
        config = course.config
        self.policy = policy_in_force(
            config.aggregation_method,
            config.byzantine_f,
            exact="byzantine_f" not in config.chosen,
            options=config.method_options,
        )
        trusted = course.trusted
        self.combiner = Combiner(
            context=self.cluster.context,
            policy=self.policy,
            trusted=None if trusted is None else TrustedRows(self.cluster, trusted),
            run=course.run,
            local_epochs=config.local_epochs,
            private=self.private,
        )
        self._gossip = (
            Gossip(self.cluster, self.exchange, self.policy, self.left_out)
            if isinstance(self.policy, GossipPolicy)
            else None
        )
        self.exchange.keeps = config.secure_aggregation
        self.exchange.lends = course.clients is not None
        secure = SecureSum(self.cluster, self.exchange, self.policy, self.left_out, self.private)
        self._secure = secure if config.secure_aggregation else None
        self.proofs = (
            Proofs(self.cluster, self.exchange, self.left_out, course.run)
            if self.cluster.spec.consensus == "proof-of-learning"
            else None
        )
        self._groups = dict(self.shards.groups)
        self._pace = Pace()
        self.asked = ClientHistory()
        self._clients: int | None = None

    async def begin(self) -> None:
        """Load the starting state into the workers: the given weights, or random initial weights.

        Raises:
            NoWorkers: No worker could build a network.
        """
        for key, network in list(self.networks.items()):
            members = [slot for slot, own in self.members() if own.key == key]
            lacking = [(slot, network) for slot in members]
            digests = await prepare_all(self.exchange, lacking, self.left_out)
            if network.state is None:
                state = await self._initial(members, network, digests)
                self.networks[key] = network.with_state(state)

    def follow(self, steering: Steering) -> None:
        """Train as it was changed, from the next request on."""
        self.train_at(steering.learning_rate)
        self._clients = steering.clients_per_round

    def train_at(self, learning_rate: float | None) -> None:
        """Train at this rate from the next request on; as before where it is None."""
        if learning_rate is not None:
            self.exchange.recipe = replace(self.exchange.recipe, learning_rate=learning_rate)

    async def run(self, attempt: Callable[[], Awaitable[None]], hold: Hold = _fails) -> None:
        """Run one round, and try it again with the remaining workers after a failure.

        A try does not count against the limit if lost workers are restarted automatically, or if enough
        workers are left without those that failed in it.

        Args:
            attempt: One try: `work`, and whatever is done with what it made.
            hold: Asked before the last failure is raised.

        Raises:
            RoundFailed, NoWorkers, QuorumLost: The last try's failure.
        """
        failures = 0
        self.left_out.begin_round()
        while True:
            lost_before = self.left_out.n_failures
            try:
                await attempt()
            except (RoundFailed, NoWorkers, QuorumLost):
                workers = self.cluster.slots.of_role("worker")  # a round needs no other role
                lost = self.left_out.n_failures > lost_before
                if not any(slot.coming_back for slot in workers) and not (
                    lost and self._enough_left()
                ):
                    failures += 1
                    if failures == self.cluster.context.patience.attempts:
                        if not await hold():
                            raise
                        failures = 0
                    self.left_out.forgive()
                await self._wait_for_workers()
            else:
                self.exchange.own_states.forget()
                return

    async def work(self, number: int) -> RoundWork:
        """One try of a round: every worker that can train is prepared and asked.

        Raises:
            NoWorkers: No healthy worker with rows is left, or fewer than the caller insists on.
            RoundFailed: Too few delivered.
        """
        await self.exchange.follow_links()
        if self.private is not None or self._secure is not None:  # moments are not shared
            self.networks = {k: one.with_fresh_moments() for k, one in self.networks.items()}
        members = self.members() or await self._taken_over()
        await prepare_all(self.exchange, members, self.left_out)
        ready = self.exchange.is_ready
        members = [(slot, own) for slot, own in members if slot.healthy and ready(slot)]
        if not members:
            raise NoWorkers(
                "no healthy worker with a shard is left",
                hint="deploy a worker with neural_node_deploy",
            )
        self.combiner.begin_round(number)
        work = await divided_round(self._setting(), number, members)
        if self._gossip is not None:
            for key, held in work.states.items():
                made = await self._gossip.barrier(self.networks[key], held)
                work = work.with_aggregated(key, made)
        return work

    async def _taken_over(self) -> list[tuple[Slot, NetworkGroup]]:
        """Another worker gets all rows, where the one that had them in a single process is lost."""
        heirs = self._heirs()
        if heirs:
            await self.reshard(heirs)
        return self.members()

    def _heirs(self) -> list[Slot]:
        """Workers that could go on with a single process."""
        if self.course.config.strategy != "single_process":
            return []
        healthy = self.cluster.slots.healthy("worker")
        return [slot for slot in healthy if not self.left_out.holds(slot) and self._joins(slot)]

    def own_states(self, key: str) -> Mapping[str, ModelState]:
        """What each worker of a group holds after a round, where each has a state of its own."""
        return {} if self._gossip is None else self._gossip.held.get(key, {})

    def mixing_steps(self) -> dict[str, int]:
        """Mixing steps of the next barrier, by network group; none without gossip."""
        return {} if self._gossip is None else dict(self._gossip.steps)

    def go_on_from(
        self,
        networks: Mapping[str, NetworkGroup],
        own_states: Mapping[str, Mapping[str, ModelState]],
        known: Continuation,
        seen: ProofRecord,
    ) -> None:
        """Continue rounds of a former server: with these states, and what it left and saw of proofs."""
        self.networks = dict(networks)
        self.asked = ClientHistory.of(known.asked)
        if self._gossip is not None:
            self._gossip.go_on_from(self.networks, known.mixing_steps, own_states)
        if self.proofs is not None:
            self.proofs.go_on_from(seen, self.networks)

    def renewed(self, states: Mapping[str, ModelState]) -> dict[str, NetworkGroup]:
        """All network groups, those with a new state moved on to it."""
        return {
            key: self._moved_on(network, states[key]) if key in states else network
            for key, network in self.networks.items()
        }

    def members(self) -> list[tuple[Slot, NetworkGroup]]:
        """Healthy workers with a shard, except those that failed in this round, in slot order."""
        members = []
        for slot in self.cluster.slots.healthy("worker"):
            network = self.network_of(slot.name)
            has_rows = self.exchange.rows_of(slot.name) > 0
            if network is not None and has_rows and not self.left_out.holds(slot):
                members.append((slot, network))
        return members

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network group in which a slot trains; None if it does not train."""
        for network in self.networks.values():
            if slot in network.slots:
                return network
        return None

    def take_proofs(self) -> tuple[ProvedExchange, ...]:
        """The exchanges proved since this was last called; none under other modes."""
        return self.proofs.take() if self.proofs is not None else ()

    def rows_trained(self, updates: Sequence[Update]) -> int:
        """Rows that updates were trained on; fewer than their shards if they were limited in steps."""
        config = self.course.config
        return sum(
            min(update.steps * config.batch_size, update.rows * config.local_epochs)
            for update in updates
        )

    async def admit_members(self) -> None:
        """Give networks and shards to new and returned workers."""
        owners = self.exchange.shards
        # A worker whose shard was dealt to others while it was dead gets a new one when it is healthy again,
        # and not before: rows of a dead worker are not trained on.
        workers = [
            slot
            for slot in self.cluster.slots.of_role("worker")
            if (slot.healthy or slot.name in owners)
            and slot.state not in ("failed_permanently", "quarantined")
            and self._joins(slot)
        ]
        # A single process keeps its rows: newcomers only serve what it learns.
        alone = self.course.config.strategy == "single_process"
        if not alone and any(slot.name not in owners for slot in workers):
            await self.reshard(workers)

    async def reshard(self, workers: Sequence[Slot]) -> int:
        """Partition the rows among these workers; returns the number of changed shards.

        Under privacy shards stay: the noise hides one of them, or a row of it, in all rounds.
        """
        if self.course.config.privacy is not None:
            return 0
        shards = await self.cluster.context.offload(self.course.cut, list(workers))
        self.shards, self._groups = shards, dict(shards.groups)
        return self.exchange.reshard(shards.rows)

    async def cancel(self) -> None:
        """End what nodes of any role still compute for these rounds: sums, trusted updates, proofs."""
        async with anyio.create_task_group() as group:
            for slot in self.cluster.slots.healthy():
                group.start_soon(self.exchange.cancel, slot)

    async def release(self) -> None:
        """Make nodes forget their rows; they release the regions before the engine closes its own."""
        if self.proofs is not None:
            await self.proofs.close()
        await self.exchange.release(list(self.cluster.slots))
        if self.combiner.trusted is not None:
            await self.combiner.trusted.release()
        self.close()

    def close(self) -> None:
        """Give up every region and buffer."""
        self.exchange.close()
        if self.combiner.trusted is not None:
            self.combiner.trusted.close()

    async def _initial(
        self, members: Sequence[Slot], network: NetworkGroup, digests: dict[str, str]
    ) -> ModelState:
        """The initial state. All workers drew it from the same seed, so one of the majority sends it."""
        drawn = Counter(digests[slot.name] for slot in members if slot.name in digests)
        common = drawn.most_common(1)[0][0] if drawn else None
        for slot in members:
            if slot.name not in digests or not slot.healthy:
                continue
            if digests[slot.name] != common:
                slot.note_error(
                    "it drew other initial weights than most workers from the same seed"
                )
                continue
            try:
                return await self.exchange.initial_state(slot, network)
            except NeuralError as failure:
                slot.note_error(str(failure))
        raise NoWorkers(
            f"no worker of network {network.key} could build its network",
            hint="see neural_cluster_status for the nodes' errors",
        )

    def _setting(self) -> RoundSetting:
        return RoundSetting(
            context=self.cluster.context,
            exchange=self.exchange,
            config=self.course.config,
            least_workers=self.course.least_workers,
            run=self.course.run,
            clients=len(self.members()) if self.course.everybody else self._clients,
            groups=self._groups,
            asked=self.asked,
            pace=self._pace,
            left_out=self.left_out,
            delivery=self._gossip
            or self._secure
            or Delivery(
                cluster=self.cluster,
                exchange=self.exchange,
                combiner=self.combiner,
                left_out=self.left_out,
                audited=self.cluster.spec.consensus == "proof-of-learning",
            ),
            proofs=self.proofs,
            record_steps=self.record_steps,
            virtual=self.course.clients,
        )

    def _moved_on(self, network: NetworkGroup, state: ModelState) -> NetworkGroup:
        rows = {slot: self.exchange.rows_of(slot) for slot in network.slots}
        return replace(network.with_state(state), rows=rows)

    def _enough_left(self) -> bool:
        """Whether a round is possible without the workers that failed in it."""
        return len(self.members() or self._heirs()) >= self.course.least_workers

    def _joins(self, slot: Slot) -> bool:
        """Whether a worker trains here; a new worker joins the network group with the same layers."""
        if self.network_of(slot.name) is not None:
            return True
        for key, network in self.networks.items():
            twins = [t for t in self.cluster.slots.of_role("worker") if t.name in network.slots]
            if any(same_network(self.cluster, twin, slot, network) for twin in twins):
                self.networks[key] = replace(network, slots=(*network.slots, slot.name))
                return True
        return False

    async def _wait_for_workers(self) -> None:
        """Wait for restarting nodes, for a limited time, before the round is tried again."""
        cluster = self.cluster
        await revive(cluster)
        with anyio.move_on_after(cluster.context.patience.comeback_s):
            while any(
                slot.coming_back
                or slot.restarting.locked()
                or slot.state in ("recovering", "suspect")
                for slot in cluster.slots.of_role("worker")
            ):
                await cluster.changes.wait_beyond(cluster.changes.count)
