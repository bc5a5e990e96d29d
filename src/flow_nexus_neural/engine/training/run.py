"""A training in progress: rounds, one after the other, until all are committed.

It belongs to the engine's tasks, not to the call that started it. Between two rounds lies the boundary at
which queued changes of topology and new members take effect.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.registry import AVERAGING, find_policy
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.state.version import model_digest
from flow_nexus_neural.engine.storage.cluster_rows import present_cluster_row, training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.training.collect import Pace, prepare_all
from flow_nexus_neural.engine.training.exchange import Exchange, Recipe, mean_loss
from flow_nexus_neural.engine.training.preparation import FEATURE_DROPOUT, Preparation, cut_shards
from flow_nexus_neural.engine.training.strategies import (
    ClientHistory,
    RoundSetting,
    federated_round,
    local_sgd_round,
)
from flow_nexus_neural.engine.versions.candidate import Judge, with_ensemble
from flow_nexus_neural.engine.versions.commit import Candidate, commit_bundle, commit_round
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.errors import NeuralError, NoWorkers, RoundFailed, StoreError
from flow_nexus_neural.vocabulary import TrainingStatus

log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """Drives one training to its end.

    Attributes:
        boundary: Changes that wait for the next round boundary; run in order.
        interrupted: The server is ending, which nobody meant as an end of this training.
        scope: Cancelled to stop the training.
        ended: Set when the training's row is durable.
    """

    cluster: LiveCluster
    training: Training
    preparation: Preparation
    boundary: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    interrupted: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        self.context = self.cluster.context
        prepared, config = self.preparation, self.preparation.config
        self.networks = dict(prepared.networks)
        self.exchange = Exchange(
            self.cluster,
            prepared.data.parts["train"],
            prepared.shards.rows,
            Recipe(
                learning_rate=config.learning_rate,
                batch_size=config.batch_size,
                feature_dropout=FEATURE_DROPOUT
                if prepared.data.schema.input.vector_length
                else 0.0,
            ),
        )
        self._judge = Judge(Evaluator(self.cluster, prepared.data.parts), prepared.data)
        self._groups = dict(prepared.shards.groups)
        self._pace = Pace()
        self._policy = find_policy(config.aggregation_method) or AVERAGING
        self._asked = ClientHistory()
        self.rows_last_round = 0
        self._run = (config.seed, self.training.ordinal)

    async def run(self) -> None:
        """Train until all rounds are committed, the training is stopped, or it fails.

        Never raises: whatever happens ends up in the training's status.
        """
        status: TrainingStatus = "stopped"
        error: str | None = None
        try:
            with self.scope:
                await self._rounds()
                status = "completed"
        except NeuralError as failure:
            status, error = "failed", str(failure)
        except Exception:  # whatever it is, it ends this training and nothing else
            name = self.context.incident()
            log.exception("incident %s in training %s", name, self.training.training_id)
            status, error = "failed", f"internal_error: unexpected failure (incident {name})"
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(status, error)

    def stop(self) -> None:
        """End it; a round that has begun to be durable is carried through first."""
        self.scope.cancel()

    def interrupt(self) -> None:
        """End it because the server ends; it is then reported as interrupted."""
        self.interrupted = True
        self.scope.cancel()

    def at_next_boundary(self, change: Callable[[], Awaitable[None]]) -> None:
        """Run a change between two rounds, after those that wait already."""
        self.boundary.append(change)

    @property
    def shards(self) -> Mapping[str, NDArray[np.int64]]:
        """Row numbers of every slot's shard."""
        return self.exchange.shards

    async def _rounds(self) -> None:
        await self._start()
        for number in range(self.training.advance.rounds_done + 1, self.training.config.rounds + 1):
            await self._at_boundary()
            await self._persistently(number)
        await self._finish()

    async def _persistently(self, number: int) -> None:
        """A round, tried again with the workers that are left; a try that lost the runtime does not count."""
        failures = 0
        while True:
            try:
                await self._round(number)
            except (RoundFailed, NoWorkers):
                workers = self.cluster.slots.of_role("worker")  # only they are waited for
                failures += not any(slot.returning for slot in workers)
                if failures == self.context.patience.attempts:
                    raise
                await self._wait_for_workers()
            else:
                return

    async def _start(self) -> None:
        """Bring workers to the starting state: the committed one, or the drawn initial weights."""
        for key, network in list(self.networks.items()):
            members = [slot for slot, own in self._members() if own.key == key]
            digests = await prepare_all(self.exchange, [(slot, network) for slot in members])
            if network.state is None:
                state = await self._initial(members, network, digests)
                self.networks[key] = network.with_state(state)
        digests = {key: network.digest or "" for key, network in self.networks.items()}
        self.training.begin_from(model_digest(digests))

    async def _initial(
        self, members: Sequence[Slot], network: NetworkGroup, digests: dict[str, str]
    ) -> ModelState:
        """The state before any step: every worker drew it from one seed, so one of them sends it."""
        for slot in members:
            if slot.name not in digests or not slot.healthy:
                continue
            try:
                return await self.exchange.initial_state(slot, network)
            except NeuralError as failure:
                slot.note_error(str(failure))
        raise NoWorkers(
            f"no worker of network {network.key} could build its network",
            hint="see neural_cluster_status for the nodes' errors",
        )

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network in which a slot trains; None when it does not."""
        for network in self.networks.values():
            if slot in network.slots:
                return network
        return None

    def _members(self) -> list[tuple[Slot, NetworkGroup]]:
        """Healthy workers with a shard, in slot order, each with its network."""
        members = []
        for slot in self.cluster.slots.healthy("worker"):
            network = self.network_of(slot.name)
            if network is not None and self.exchange.rows_of(slot.name) > 0:
                members.append((slot, network))
        return members

    async def _round(self, number: int) -> None:
        """One round: ask, fold, evaluate, commit."""
        cluster = self.cluster
        began_s, bytes_before = cluster.clock(), cluster.metrics.communication_bytes
        members = self._members()
        await prepare_all(self.exchange, members)
        members = [
            (slot, c) for slot, c in members if slot.healthy and self.exchange.is_ready(slot)
        ]
        if not members:
            raise NoWorkers(
                "no healthy worker with a shard is left",
                hint="deploy a worker with neural_node_deploy",
            )
        one_round = federated_round if self.training.config.federated else local_sgd_round
        work = await one_round(self._setting(), number, members)
        candidate = Candidate(
            number=number,
            networks={key: self._renewed(key, work.states) for key in self.networks},
            renewed=frozenset(work.states),
            updates=work.updates,
            excluded=work.excluded,
            rule=self._policy.name,
            evidence=work.evidence,
            train_loss=mean_loss(work.updates),
            began_s=began_s,
            bytes_before=bytes_before,
        )
        data = (self.preparation.data.schema, self.preparation.dataset)
        self.networks = await commit_round(cluster, self.training, candidate, self._judge, data)
        self.rows_last_round = sum(self._rows_trained(update) for update in work.updates)
        for update in work.updates:
            cluster.slots[update.slot].finish_round(update.loss, update.rows)

    def _rows_trained(self, update: Update) -> int:
        """Rows that an update's steps went through; fewer than its shard where it was cut short."""
        config = self.training.config
        return min(update.steps * config.batch_size, update.rows * config.local_epochs)

    def _setting(self) -> RoundSetting:
        return RoundSetting(
            context=self.context,
            exchange=self.exchange,
            config=self.training.config,
            least_workers=self.preparation.least_workers,
            run=self._run,
            groups=self._groups,
            asked=self._asked,
            pace=self._pace,
            policy=self._policy,
        )

    def _renewed(self, key: str, states: Mapping[str, ModelState]) -> NetworkGroup:
        network = self.networks[key]
        if key not in states:
            return network
        rows = {slot: self.exchange.rows_of(slot) for slot in network.slots}
        return replace(network.with_state(states[key]), rows=rows)

    async def _finish(self) -> None:
        """After the last round: ensemble weights, calibration and the final evaluation."""
        former = self.cluster.committed
        if former is None:
            return
        bundle, accuracy = await self._judge.finish(former.networks, former.bundle)
        evaluation = with_ensemble(former.evaluation, accuracy)
        finished = replace(former, bundle=bundle, evaluation=evaluation)
        await commit_bundle(self.cluster, self.cluster.state.with_current_members(finished))

    async def _at_boundary(self) -> None:
        """Run queued changes, then give new or lost members their place."""
        while self.boundary:
            change = self.boundary[0]
            await change()  # it stays in the queue until it is done, should this be stopped
            self.boundary.pop(0)
        if self.cluster.committed is not None:
            newest = self.cluster.committed.newest
            self.networks = {key: newest(network) for key, network in self.networks.items()}
        workers = [
            slot
            for slot in self.cluster.slots.of_role("worker")
            if self._joins(slot) and slot.state != "failed_permanently"
        ]
        if any(slot.name not in self.exchange.shards for slot in workers):
            await self.reshard(workers)

    def _joins(self, slot: Slot) -> bool:
        """Whether a worker trains here; one that was deployed with a network's layers joins that network."""
        if self.network_of(slot.name) is not None:
            return True
        for key, network in self.networks.items():
            twins = [t for t in self.cluster.slots.of_role("worker") if t.name in network.slots]
            if any(twin.spec.layers == slot.spec.layers for twin in twins):
                self.networks[key] = replace(network, slots=(*network.slots, slot.name))
                return True
        return False

    async def reshard(self, workers: Sequence[Slot]) -> int:
        """Divide the training rows anew among these workers; returns how many shards changed."""
        shards = await self.context.offload(
            cut_shards,
            self.preparation.data,
            list(workers),
            self.training.config.partition,
            self._run,
        )
        self._groups = dict(shards.groups)
        return self.exchange.reshard(shards.rows)

    async def _wait_for_workers(self) -> None:
        """Give nodes that are coming back some time before the round is tried again."""
        await revive(self.cluster)
        with anyio.move_on_after(self.context.patience.comeback_s):
            while any(
                slot.returning
                or slot.restarting.locked()
                or slot.state in ("recovering", "suspect")
                for slot in self.cluster.slots.of_role("worker")
            ):
                await self.cluster.changes.wait_beyond(self.cluster.changes.count)

    async def _end(self, status: TrainingStatus, error: str | None) -> None:
        """Stop what still computes, close the books, tell everybody."""
        training, cluster = self.training, self.cluster
        if status == "stopped" and self.interrupted:
            committed = cluster.committed
            error = training.interruption(None if committed is None else committed.version)
        if status != "completed":
            async with anyio.create_task_group() as group:
                for slot, _ in self._members():
                    group.start_soon(self.exchange.cancel, slot)
        if not self.interrupted:  # else the nodes are ending anyway
            await self.exchange.release(list(cluster.slots))
            await self._judge.evaluator.release()
        self.exchange.close()
        self._judge.evaluator.close()
        training.end(status, error, self.context.timestamp())
        cluster.end_run()
        pending, self.boundary = self.boundary, []
        async with cluster.changing:
            for change in pending:
                await change()
        rows: list[LateRow] = [
            partial(training_row, cluster.cluster_id, training),
            partial(present_cluster_row, cluster.state),
        ]
        try:
            await cluster.ledger.record([training.entry("training_ended")], rows)
        except StoreError as failure:
            training.note_unrecorded_end(str(failure))
        self.ended.set()
        cluster.changed()
