"""A training in progress: rounds, one after the other, until all are committed.

It belongs to the engine's tasks, not to the call that started it. Between two rounds lies the boundary at
which queued changes of topology and new members take effect.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.rounds import Client, sample_clients
from flow_nexus_neural.engine.cluster import Cluster
from flow_nexus_neural.engine.commit import Candidate, commit_round
from flow_nexus_neural.engine.committed import model_digest
from flow_nexus_neural.engine.context import EngineContext, timestamp
from flow_nexus_neural.engine.evaluation import Evaluator
from flow_nexus_neural.engine.exchange import (
    Exchange,
    Recipe,
    Update,
    fold,
    mean_loss,
    revoke_base,
)
from flow_nexus_neural.engine.incarnations import revive
from flow_nexus_neural.engine.judging import Judge, with_ensemble
from flow_nexus_neural.engine.model import Cohort, ModelState
from flow_nexus_neural.engine.preparation import FEATURE_DROPOUT, Preparation, cut_shards
from flow_nexus_neural.engine.records import record
from flow_nexus_neural.engine.rounds import Pace, Task, collect, prepare_all
from flow_nexus_neural.engine.slots import Slot
from flow_nexus_neural.engine.trainings import Training
from flow_nexus_neural.errors import NeuralError, NoWorkers, RoundFailed, StoreError
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import Pass

ATTEMPTS = 3
COMEBACK_S = 20.0


@dataclass
class TrainingRun:
    """Drives one training to its end.

    Attributes:
        boundary: Changes that wait for the next round boundary; run in order.
        scope: Cancelled to stop the training.
        ended: Set when the training's row is durable.
    """

    context: EngineContext
    cluster: Cluster
    training: Training
    preparation: Preparation
    boundary: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)

    def __post_init__(self) -> None:
        prepared, config = self.preparation, self.preparation.config
        self.cohorts = dict(prepared.cohorts)
        self.exchange = Exchange(
            self.context,
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
        self._judge = Judge(
            Evaluator(self.context, self.cluster, prepared.data.parts), prepared.data
        )
        self._groups = dict(prepared.shards.groups)
        self._pace = Pace()
        self.rows_last_round = 0
        self._run = (config.seed, self.training.ordinal)

    async def run(self) -> None:
        """Train until all rounds are committed, the training is stopped, or it fails.

        Never raises: whatever happens ends up in the training's status.
        """
        status, error = "completed", None
        try:
            with self.scope:
                await self._rounds()
            if self.scope.cancelled_caught:
                status, error = "stopped", None
        except NeuralError as failure:
            status, error = "failed", str(failure)
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(status, error)

    async def _rounds(self) -> None:
        await self._start()
        for number in range(self.training.advance.rounds_done + 1, self.training.config.rounds + 1):
            await self._at_boundary()
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await self._round(number)
                except (RoundFailed, NoWorkers):
                    if attempt == ATTEMPTS:
                        raise
                    await self._wait_for_workers()
                else:
                    break
        await self._finish()

    async def _start(self) -> None:
        """Bring workers to the starting state: the committed one, or the drawn initial weights."""
        for key, cohort in list(self.cohorts.items()):
            members = [slot for slot, own in self._members() if own.key == key]
            digests = await prepare_all(self.exchange, [(slot, cohort) for slot in members])
            if cohort.state is None:
                state = await self._initial(members, cohort, digests)
                self.cohorts[key] = replace(cohort, state=state, digest=cohort.digest_of(state))
        digests = {key: cohort.digest or "" for key, cohort in self.cohorts.items()}
        self.training.advance = replace(self.training.advance, digest_before=model_digest(digests))

    async def _initial(
        self, members: Sequence[Slot], cohort: Cohort, digests: dict[str, str]
    ) -> ModelState:
        """The state before any step: every worker drew it from one seed, so one of them sends it."""
        for slot in members:
            if slot.name not in digests or not slot.healthy:
                continue
            try:
                return await self.exchange.initial_state(slot, cohort)
            except NeuralError as failure:
                slot.last_error = str(failure)
        raise NoWorkers(
            f"no worker of cohort {cohort.key} could build its network",
            hint="see neural_cluster_status for the nodes' errors",
        )

    def cohort_of(self, slot: str) -> Cohort | None:
        """The cohort in which a slot trains; None when it does not."""
        for cohort in self.cohorts.values():
            if slot in cohort.slots:
                return cohort
        return None

    def _members(self) -> list[tuple[Slot, Cohort]]:
        """Healthy workers with a shard, in slot order, each with its cohort."""
        members = []
        for slot in self.cluster.slots.healthy("worker"):
            cohort = self.cohort_of(slot.name)
            if cohort is not None and self.exchange.rows_of(slot.name) > 0:
                members.append((slot, cohort))
        return members

    async def _round(self, number: int) -> None:
        """One round: ask, fold, evaluate, commit."""
        context, cluster = self.context, self.cluster
        began_s, bytes_before = context.clock(), cluster.metrics.communication_bytes
        members = self._members()
        await prepare_all(self.exchange, members)
        members = [(slot, cohort) for slot, cohort in members if slot.healthy]
        if not members:
            raise NoWorkers(
                "no healthy worker with a shard is left",
                hint="deploy a worker with neural_node_deploy",
            )
        if self.training.config.federated:
            states, updates, excluded = await self._federated(number, members)
        else:
            states, updates, excluded = await self._local_sgd(number, members)
        candidate = Candidate(
            number=number,
            cohorts={key: self._renewed(key, states) for key in self.cohorts},
            renewed=frozenset(states),
            updates=updates,
            excluded=excluded,
            train_loss=mean_loss(updates),
            began_s=began_s,
            bytes_before=bytes_before,
        )
        data = (self.preparation.data.schema, self.preparation.dataset)
        self.cohorts = await commit_round(
            context, cluster, self.training, candidate, self._judge, data
        )
        self.rows_last_round = sum(update.rows for update in updates)
        for update in updates:
            slot = cluster.slots[update.slot]
            slot.rounds_done += 1
            slot.loss, slot.rows = update.loss, update.rows

    def _renewed(self, key: str, states: Mapping[str, ModelState]) -> Cohort:
        cohort = self.cohorts[key]
        if key not in states:
            return cohort
        return replace(cohort, state=states[key], digest=cohort.digest_of(states[key]))

    async def _finish(self) -> None:
        """After the last round: ensemble weights, calibration and the final evaluation."""
        committed = self.cluster.committed
        if committed is None:
            return
        bundle, accuracy = await self._judge.finish(committed.cohorts, committed.bundle)
        finished = replace(
            committed, bundle=bundle, evaluation=with_ensemble(committed.evaluation, accuracy)
        )
        fields: dict[str, JsonValue] = {
            "kind": "bundle",
            "model_version": finished.version,
            "bundle_sha": bundle.sha,
            "digests": dict(bundle.digests),
        }
        await record(self.context, self.cluster, [fields], [self.cluster.to_row(finished)])
        self.cluster.committed = finished
        self.context.changed(self.cluster)

    async def _federated(
        self, number: int, members: Sequence[tuple[Slot, Cohort]]
    ) -> tuple[dict[str, ModelState], list[Update], dict[str, str]]:
        """Local epochs of sampled clients, averaged once."""
        config = self.training.config
        by_name = {slot.name: (slot, cohort) for slot, cohort in members}
        clients = [
            Client(slot.name, self._groups.get(slot.name, ""), slot.last_round)
            for slot, _ in members
        ]
        chosen = sample_clients(
            clients, config.clients_per_round or 1, seed64(self._run, number, "", 0, "sample")
        )
        fewest = min(config.min_nodes_per_round or 1, len(chosen))
        states, updates, excluded = await self._exchange(
            [by_name[name] for name in chosen],
            passes=lambda slot: tuple(
                Pass(order_seed=seed64(self._run, number, slot, epoch, "order"))
                for epoch in range(config.local_epochs)
            ),
            dropout_seed=lambda slot: seed64(self._run, number, slot, 0, "dropout"),
            min_contributors=fewest,
        )
        for name in chosen:
            by_name[name][0].last_round = number
        return states, updates, excluded

    async def _local_sgd(
        self, number: int, members: Sequence[tuple[Slot, Cohort]]
    ) -> tuple[dict[str, ModelState], list[Update], dict[str, str]]:
        """One epoch of all workers on their shards, averaged every `sync_every_steps` steps."""
        config = self.training.config
        longest = max(self.exchange.rows_of(slot.name) for slot, _ in members)
        n_steps = -(-longest // config.batch_size)
        stride = config.sync_every_steps or n_steps
        committed = dict(self.cohorts)
        total: dict[str, Update] = {}
        excluded: dict[str, str] = {}
        try:
            for start in range(0, n_steps, stride):
                going = [
                    (slot, self.cohorts[cohort.key])
                    for slot, cohort in members
                    if slot.healthy and self.exchange.rows_of(slot.name) > start * config.batch_size
                ]
                states, updates, left_out = await self._exchange(
                    going,
                    passes=lambda slot, start=start: (  # type: ignore[misc]  # bound now
                        Pass(
                            order_seed=seed64(self._run, number, slot, 0, "order"),
                            start=start,
                            stop=start + stride,
                        ),
                    ),
                    dropout_seed=lambda slot, start=start: seed64(  # type: ignore[misc]  # bound now
                        self._run, number, slot, start, "dropout"
                    ),
                    min_contributors=1,
                )
                excluded |= left_out
                for key, state in states.items():
                    self.cohorts[key] = replace(self.cohorts[key], state=state)
                for update in updates:
                    total[update.slot] = _added(total.get(update.slot), update)
            reached = {key: c.state for key, c in self.cohorts.items() if c.state is not None}
        finally:
            self.cohorts = committed
        return reached, list(total.values()), excluded

    async def _exchange(
        self,
        members: Sequence[tuple[Slot, Cohort]],
        *,
        passes: Callable[[str], tuple[Pass, ...]],
        dropout_seed: Callable[[str], int],
        min_contributors: int,
    ) -> tuple[dict[str, ModelState], list[Update], dict[str, str]]:
        """Publish base states, collect updates, fold each cohort's in slot order."""
        bases = {}
        for _, cohort in members:
            if cohort.key not in bases and cohort.state is not None:
                bases[cohort.key] = await self.exchange.publish(cohort, cohort.state)
        tasks = [
            Task(
                slot=slot,
                cohort=cohort,
                base=bases[cohort.key],
                opt_step=cohort.state.opt_step if cohort.state else 0,
                passes=passes(slot.name),
                dropout_seed=dropout_seed(slot.name),
                work=float(self.exchange.rows_of(slot.name)),
            )
            for slot, cohort in members
        ]
        try:
            collected = await collect(
                self.exchange,
                tasks,
                min_contributors=min_contributors,
                pace=self._pace,
                clock=self.context.clock,
            )
        finally:
            with anyio.CancelScope(shield=True):
                for key, base in bases.items():
                    slots = [slot for slot, cohort in members if cohort.key == key]
                    await revoke_base(self.exchange, slots, base)
        states = {}
        for key in bases:
            own = [u for u in collected.updates if u.slot in self.cohorts[key].slots]
            if own:
                states[key] = await self.context.offload(fold, own)
        return states, collected.updates, collected.excluded

    async def _at_boundary(self) -> None:
        """Run queued changes, then give new or lost members their place."""
        while self.boundary:
            await self.boundary.pop(0)()
        workers = [
            slot
            for slot in self.cluster.slots.of_role("worker")
            if self._joins(slot) and slot.state != "failed_permanently"
        ]
        if any(slot.name not in self.exchange.shards for slot in workers):
            await self.reshard(workers)

    def _joins(self, slot: Slot) -> bool:
        """Whether a worker trains here; one that was deployed with a cohort's layers joins that cohort."""
        if self.cohort_of(slot.name) is not None:
            return True
        for key, cohort in self.cohorts.items():
            twins = [t for t in self.cluster.slots.of_role("worker") if t.name in cohort.slots]
            if any(twin.spec.layers == slot.spec.layers for twin in twins):
                self.cohorts[key] = replace(cohort, slots=(*cohort.slots, slot.name))
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
        await revive(self.context, self.cluster)
        with anyio.move_on_after(COMEBACK_S):
            while not self._members() and any(
                slot.restarting.locked() or slot.state == "recovering"
                for slot in self.cluster.slots.of_role("worker")
            ):
                await self.cluster.changes.wait_beyond(self.cluster.changes.count)

    async def _end(self, status: str, error: str | None) -> None:
        """Stop what still computes, close the books, tell everybody."""
        training, cluster = self.training, self.cluster
        if status != "completed":
            async with anyio.create_task_group() as group:
                for slot, _ in self._members():
                    group.start_soon(self.exchange.cancel, slot)
        self.exchange.close()
        self._judge.evaluator.close()
        training.status, training.error = status, error  # type: ignore[assignment]  # one of the literals
        training.ended_at = timestamp()
        cluster.run = None
        pending, self.boundary = self.boundary, []
        for change in pending:
            await change()
        try:
            await self.context.store.put_training(training.to_row(cluster.cluster_id))
            await self.context.store.put_cluster(cluster.to_row())
        except StoreError as failure:
            training.error = training.error or str(failure)
        self.ended.set()
        self.context.changed(cluster)


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
