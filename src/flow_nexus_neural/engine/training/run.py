"""A running training: executes rounds, one after the other, until all are committed.

It runs in a task of the engine, not in the call that started it. Queued changes of topology and new members
take effect at the boundary between two rounds.
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
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.preparation import FEATURE_DROPOUT, Preparation, cut_shards
from flow_nexus_neural.engine.training.strategies import (
    ClientHistory,
    RoundSetting,
    federated_round,
    local_sgd_round,
)
from flow_nexus_neural.engine.versions.commit import Candidate, commit_round
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.engine.versions.final import commit_final
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.engine.versions.loading import same_network
from flow_nexus_neural.errors import NeuralError, NoWorkers, RoundFailed, StoreError
from flow_nexus_neural.vocabulary import ENDED_WELL, TrainingStatus

log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """Executes one training.

    Attributes:
        boundary: Changes queued for the next round boundary, in order.
        interrupted: The server is stopping; the user has not asked to end this training.
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
        self._left_out = LeftOut()
        self._best: dict[str, NetworkGroup] | None = None
        self._policy = find_policy(config.aggregation_method) or AVERAGING
        self._asked = ClientHistory()
        self.rows_last_round = 0
        self._run = (config.seed, self.training.ordinal)

    async def run(self) -> None:
        """Train until all rounds are committed or no longer gain, the training is stopped, or it fails.

        Never raises: errors are recorded in the training's status.
        """
        status: TrainingStatus = "stopped"
        error: str | None = None
        try:
            with self.scope:
                status = await self._rounds()
        except NeuralError as failure:
            status, error = "failed", str(failure)
        except Exception:  # a bug must end this training only, not the engine's task group
            name = self.context.incident()
            log.exception("incident %s in training %s", name, self.training.training_id)
            status, error = "failed", f"internal_error: unexpected failure (incident {name})"
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(status, error)

    def stop(self) -> None:
        """End the training; a commit that has begun is completed first."""
        self.scope.cancel()

    def interrupt(self) -> None:
        """End the training because the server stops; it is then reported as interrupted."""
        self.interrupted = True
        self.scope.cancel()

    def at_next_boundary(self, change: Callable[[], Awaitable[None]]) -> None:
        """Queue a change for the next boundary between two rounds."""
        self.boundary.append(change)

    @property
    def shards(self) -> Mapping[str, NDArray[np.int64]]:
        """Row numbers of every slot's shard."""
        return self.exchange.shards

    async def _rounds(self) -> TrainingStatus:
        await self._start()
        for number in range(self.training.advance.rounds_done + 1, self.training.config.rounds + 1):
            await self._at_boundary()
            await self._round_with_retries(number)
            if self.training.stops_early:
                break
        await self._finish()
        return "early_stopped" if self.training.stops_early else "completed"

    async def _round_with_retries(self, number: int) -> None:
        """Run a round, and retry it with the remaining workers after a failure.

        A try does not count against the limit if lost workers are restarted automatically, or if enough
        workers are left without those that failed in it.
        """
        failures = 0
        self._left_out.begin_round()
        while True:
            lost_before = self._left_out.n_failures
            try:
                await self._round(number)
            except (RoundFailed, NoWorkers):
                workers = self.cluster.slots.of_role("worker")  # a round needs no other role
                lost = self._left_out.n_failures > lost_before
                if not any(slot.returning for slot in workers) and not (
                    lost and self._enough_left()
                ):
                    failures += 1
                    if failures == self.context.patience.attempts:
                        raise
                    self._left_out.forgive()
                await self._wait_for_workers()
            else:
                return

    def _enough_left(self) -> bool:
        """Whether a round is possible without the workers that failed in it."""
        return len(self._members()) >= self.preparation.least_workers

    async def _start(self) -> None:
        """Load the starting state into the workers: the committed weights, or random initial weights."""
        for key, network in list(self.networks.items()):
            members = [slot for slot, own in self._members() if own.key == key]
            lacking = [(slot, network) for slot in members]
            digests = await prepare_all(self.exchange, lacking, self._left_out)
            if network.state is None:
                state = await self._initial(members, network, digests)
                self.networks[key] = network.with_state(state)
        digests = {key: network.digest or "" for key, network in self.networks.items()}
        self.training.begin_from(model_digest(digests))

    async def _initial(
        self, members: Sequence[Slot], network: NetworkGroup, digests: dict[str, str]
    ) -> ModelState:
        """The initial state. All workers drew it from the same seed, so one of them sends it."""
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
        """The network group in which a slot trains; None if it does not train."""
        for network in self.networks.values():
            if slot in network.slots:
                return network
        return None

    def _members(self) -> list[tuple[Slot, NetworkGroup]]:
        """Healthy workers with a shard, except those that failed in this round, in slot order."""
        members = []
        for slot in self.cluster.slots.healthy("worker"):
            network = self.network_of(slot.name)
            has_rows = self.exchange.rows_of(slot.name) > 0
            if network is not None and has_rows and not self._left_out.holds(slot):
                members.append((slot, network))
        return members

    async def _round(self, number: int) -> None:
        """Run one round: train, aggregate, evaluate, commit."""
        cluster = self.cluster
        began_s, bytes_before = cluster.clock(), cluster.metrics.communication_bytes
        members = self._members()
        await prepare_all(self.exchange, members, self._left_out)
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
            excluded=self._left_out.reasons({u.slot for u in work.updates}) | work.excluded,
            rule=self._policy.name,
            evidence=work.evidence,
            train_loss=mean_loss(work.updates),
            began_s=began_s,
            bytes_before=bytes_before,
        )
        data = (self.preparation.data.schema, self.preparation.dataset)
        self.networks = await commit_round(cluster, self.training, candidate, self._judge, data)
        if self.training.advance.best_round == number:
            self._best = dict(self.networks)
        self.rows_last_round = sum(self._rows_trained(update) for update in work.updates)
        for update in work.updates:
            cluster.slots[update.slot].finish_round(update.loss, update.rows)

    def _rows_trained(self, update: Update) -> int:
        """Rows that an update was trained on; fewer than its shard if it was limited in steps."""
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
            left_out=self._left_out,
            policy=self._policy,
        )

    def _renewed(self, key: str, states: Mapping[str, ModelState]) -> NetworkGroup:
        network = self.networks[key]
        if key not in states:
            return network
        rows = {slot: self.exchange.rows_of(slot) for slot in network.slots}
        return replace(network.with_state(states[key]), rows=rows)

    async def _finish(self) -> None:
        """After the last round: the best round's weights are in force, weighted, calibrated and measured."""
        advance = self.training.advance
        best = None if advance.best_round == advance.rounds_done else self._best
        await commit_final(self.cluster, self.training, self._judge, best)

    async def _apply_late(self, change: Callable[[], Awaitable[None]]) -> None:
        """Run a change that waited for a boundary; its failure must not keep the end from being recorded."""
        try:
            await change()
        except Exception:  # it may be the very failure that ended this training
            log.exception("incident %s in a change at the end", self.context.incident())

    async def _at_boundary(self) -> None:
        """Run queued changes, then assign networks and shards to new and returned workers."""
        while self.boundary:
            change = self.boundary[0]
            # Removed only when done: if the training is stopped meanwhile, `_end` runs the change again.
            await change()
            self.boundary.pop(0)
        if self.cluster.committed is not None:
            newest = self.cluster.committed.newest
            self.networks = {key: newest(network) for key, network in self.networks.items()}
        owners = self.exchange.shards
        # A worker whose shard was dealt to others while it was dead gets a new one when it is healthy again,
        # and not before: rows of a dead worker are not trained on.
        workers = [
            slot
            for slot in self.cluster.slots.of_role("worker")
            if (slot.healthy or slot.name in owners)
            and slot.state != "failed_permanently"
            and self._joins(slot)
        ]
        if any(slot.name not in owners for slot in workers):
            await self.reshard(workers)

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

    async def reshard(self, workers: Sequence[Slot]) -> int:
        """Partition the training rows among these workers; returns the number of changed shards."""
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
        """Wait for restarting nodes, for a limited time, before the round is retried."""
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
        """Cancel running requests, release memory, and record the end."""
        training, cluster = self.training, self.cluster
        if status == "stopped" and self.interrupted:
            committed = cluster.committed
            error = training.interruption(None if committed is None else committed.version)
        if status not in ENDED_WELL:
            async with anyio.create_task_group() as group:
                for slot, _ in self._members():
                    group.start_soon(self.exchange.cancel, slot)
        # Nodes release the regions before the engine closes its own references.
        if not self.interrupted:  # else the nodes are stopped anyway
            await self.exchange.release(list(cluster.slots))
            await self._judge.evaluator.release()
        self.exchange.close()
        self._judge.evaluator.close()
        training.end(status, error, self.context.timestamp())
        cluster.end_run()
        # After `end_run`: a connect that still waits for a boundary is applied now, so that its caller gets
        # an answer; from here on new ones are applied at once.
        pending, self.boundary = self.boundary, []
        async with cluster.changing:
            for change in pending:
                await self._apply_late(change)
        rows: list[LateRow] = [
            partial(training_row, cluster.cluster_id, training),
            partial(present_cluster_row, cluster.state),
        ]
        try:
            await cluster.ledger.record([training.entry("training_ended")], rows)
        except StoreError as failure:
            training.note_unrecorded_end(str(failure))
        self.ended.set()  # last: waiting tasks may read the row
        cluster.changed()
