"""What passes between the engine and the workers of one training: shards, base states, updates.

A worker is granted its own shard and nothing of another's. It writes its new state into its publish buffer;
the engine copies the buffer before it looks at a single value.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import ceil

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.step_cost import step_s
from flow_nexus_neural.data.prepare import Rows
from flow_nexus_neural.engine.calls.deadlines import BUILD, CANCEL
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.training.collectives import LinkExchange
from flow_nexus_neural.engine.training.left_out import LeftOut
from flow_nexus_neural.engine.training.own_states import OwnStates
from flow_nexus_neural.engine.training.tasks import Recipe, Task
from flow_nexus_neural.errors import NodeError, NodeTimeout, UpdateRejected
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.messages import (
    Build,
    Cancel,
    GetWeights,
    Pass,
    Train,
)
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.runtime.base import Buffer, Region

TRAINING = "train"
"""Name of the network that a worker trains."""
RELEASE_S = 2.0
"""A node that takes longer to forget is left to supervision."""
NEVER = Deadline(float("inf"), None)
"""Training answers when it is done; the round's own rule decides how long that may take, and supervision ends
one that takes longer than its steps can (`engine.nodes.supervision`)."""


class Exchange:
    """Prepares workers, publishes base states and collects updates.

    Everything it grants is closed by `close`.
    """

    def __init__(
        self,
        cluster: LiveCluster,
        train_rows: Rows,
        shards: Mapping[str, NDArray[np.int64]],
        recipe: Recipe,
        teacher: NDArray[np.float32] | None = None,
    ) -> None:
        self._context, self._cluster = cluster.context, cluster
        self._rows, self._teacher = train_rows, teacher
        self.recipe = recipe
        self._prepared: dict[str, str] = {}
        self._shards: dict[str, Region] = {}
        self._buffers: dict[str, Buffer] = {}
        self.calls = cluster.calls("train")
        self.links = LinkExchange(cluster, self._buffers.get)
        self._setup = cluster.calls("sync")
        self.shards = dict(shards)
        self.controls: Mapping[str, Region] = {}  # correct each slot's gradients in this round
        self.lends = (
            False  # whether workers are lent the rows of clients, and have no shards of their own
        )
        self.keeps = False  # whether workers keep what they make, for secure aggregation
        self._links_epoch: int | None = None
        self.times_asked = cluster.context.times_asked
        self.own_states = OwnStates()

    def rows_of(self, slot: str) -> int:
        """Rows of a slot's shard, as the engine cut it."""
        return int(self.shards[slot].size) if slot in self.shards else 0

    def steps_of_pass(self, slot: str) -> int:
        """Optimiser steps of one pass over a slot's shard."""
        whole = -(-self.rows_of(slot) // self.recipe.batch_size)
        return whole if self.recipe.steps_of_pass is None else self.recipe.steps_of_pass

    def steps_of(self, slot: str, passes: Sequence[Pass]) -> int:
        """Optimiser steps that passes over a slot's shard can have."""
        whole = self.steps_of_pass(slot)
        return sum((whole if p.stop is None else p.stop) - p.start for p in passes)

    def reshard(self, shards: Mapping[str, NDArray[np.int64]]) -> int:
        """Replace the shards; workers get theirs before they train again.

        Returns:
            How many slots have another shard than before.
        """
        names = self.shards.keys() | shards.keys()
        moved = [name for name in names if not _same(self.shards.get(name), shards.get(name))]
        self.shards = dict(shards)
        for name in moved:
            self._prepared.pop(name, None)
            region = self._shards.pop(name, None)
            if region is not None:
                region.close()
        return len(moved)

    def is_ready(self, slot: Slot) -> bool:
        """Whether the slot's living process has its network, shard and buffer."""
        return self._prepared.get(slot.name) == slot.node_id

    def able(
        self, network: NetworkGroup, left_out: LeftOut, excluded: Collection[str] = ()
    ) -> list[Slot]:
        """Workers of a group that can take part in an exchange, whether or not they trained in this round."""
        return [
            slot
            for slot in self._cluster.slots.healthy("worker")
            if slot.name in network.slots
            and slot.name not in excluded
            and self.is_ready(slot)
            and not left_out.holds(slot)
        ]

    async def prepare(self, slot: Slot, network: NetworkGroup) -> str | None:
        """Build the network in a worker and grant it its shard and buffer; once per process.

        Returns:
            Digest of the network's initial weights when it was built now, else None.

        Raises:
            NodeError: The node failed.
        """
        if self.is_ready(slot):
            return None
        seed = seed64((self._cluster.spec.seed, 0), 0, network.key, 0, "init")
        built, _ = await self._setup.ask(
            slot,
            Build(network=TRAINING, plan=network.plan, seed=seed),
            BUILD,
        )
        slot.note_built(TRAINING, network.plan_digest)
        if not self.lends:
            await self._grant_shard(slot)
        await self._setup.grant(slot, self._buffer(slot, network))
        self._prepared[slot.name] = slot.node_id
        return built.digest

    async def lend(self, slot: Slot, rows: NDArray[np.int64]) -> None:
        """Let a prepared worker have these rows, and no longer those that it was lent before.

        Raises:
            NodeError: The node failed.
        """
        await self.take_back(slot)
        self.shards[slot.name] = rows
        await self._grant_shard(slot)

    async def take_back(self, slot: Slot) -> None:
        """A worker forgets the rows that it was lent."""
        region = self._shards.pop(slot.name, None)
        if region is not None:
            await self._setup.revoke(slot, region.key)
            region.close()

    async def initial_state(self, slot: Slot, network: NetworkGroup) -> ModelState:
        """The weights that a worker drew from the seed, before any step.

        Raises:
            NodeError: The node failed.
            UpdateRejected: What it sent does not fit the plan or is not finite.
        """
        reply, arrays = await self._setup.ask(slot, GetWeights(network=TRAINING), BUILD)
        vectors = {name: arrays.get(name) for name in ("params", "buffers")}
        params, buffers = vectors["params"], vectors["buffers"]
        if (
            params is None
            or buffers is None
            or params.shape != (network.plan.n_params,)
            or buffers.shape != (network.plan.n_buffers,)
            or params.dtype != np.float32
            or buffers.dtype != np.float32
        ):
            raise UpdateRejected(f"node {slot.name} sent weights that do not fit its network")
        state = ModelState(params, buffers, {}, 0).with_fresh_moments(network.optimizer)
        if not state.is_finite or network.digest_of(state) != reply.digest:
            raise UpdateRejected(f"node {slot.name} sent weights that do not have their digest")
        return state

    async def publish(
        self, network: NetworkGroup, state: ModelState, purpose: str = "base"
    ) -> Region:
        """Write a state once, sealed, for any number of readers."""
        return await self._context.offload(
            self._context.runtime.share, f"{purpose}:{network.key}", state.arrays
        )

    async def train(self, task: Task) -> Update:
        """Let a worker train from a base state, and take its update, as far as the task says so.

        Raises:
            NodeError: The node failed.
            UpdateRejected: The update is not finite, does not have the digest that came with it, or claims
                steps that it was not asked for.
        """
        slot = task.slot
        for region in (task.base.region, self.controls.get(slot.name)):
            if region is not None:
                await self.calls.grant(slot, region)
                self.calls.pulled(region.nbytes)
        request = self.request(task)
        asked = self.steps_of(slot.name, task.passes)
        with self._cluster.ordering(slot, asked, self._step_s(task)):
            reply, _ = await self.calls.ask(slot, request, NEVER)
        if reply.opt_step != request.opt_step + reply.steps or reply.steps > asked:
            raise UpdateRejected(f"the update of {slot.name} claims {reply.steps} steps")
        update = Update(
            slot=slot.name,
            state=None,
            digest=reply.digest,
            rows=self.rows_of(slot.name),
            steps=reply.steps,
            opt_step=reply.opt_step,
            loss=reply.loss,
            cpu_s=reply.cpu_s,
            commitment=reply.commitment,
            stacked=reply.stacked,
        )
        return await self.copied(task.network, update) if task.copied else update

    def _step_s(self, task: Task) -> float:
        """Seconds that one step of a task may take."""
        if task.private is None:
            return step_s(task.network.plan, self.recipe.batch_size)
        return step_s(task.network.plan, ceil(task.private.expected_rows), one_by_one=True)

    async def copied(self, network: NetworkGroup, update: Update) -> Update:
        """An update with the engine's own copy of its state, which is judged.

        Raises:
            UpdateRejected: It is not finite, or does not have the digest that came with it.
        """
        if update.state is not None:
            return update
        # The node can write there until it ends: what is checked must be a copy that it cannot reach.
        buffer = self._buffers[update.slot]
        arrays = await self._context.offload(buffer.copy)
        self.calls.pulled(buffer.nbytes)
        state = ModelState(
            params=arrays["params"],
            buffers=arrays["buffers"],
            moments={name: arrays[name] for name in MOMENTS[network.optimizer]},
            opt_step=update.opt_step,
        )
        await self._context.offload(_admit, update.slot, network, state, update.digest)
        return replace(update, state=state)

    def request(self, task: Task) -> Train:
        """A task as its prepared worker is asked to do it."""
        return Train(
            network=TRAINING,
            base=task.base.key,
            opt_step=task.opt_step,
            shard=self._shards[task.slot.name].key,
            publish=self._buffers[task.slot.name].key,
            optimizer=task.network.optimizer,
            learning_rate=self.recipe.learning_rate,
            batch_size=self.recipe.batch_size,
            passes=task.passes,
            dropout_seed=task.dropout_seed,
            feature_dropout=self.recipe.feature_dropout,
            class_weight=self.recipe.class_weight,
            proximal_mu=self.recipe.proximal_mu,
            temperature=self.recipe.temperature,
            control=self.controls[task.slot.name].key if task.slot.name in self.controls else None,
            proof=task.proof,
            kept=self.keeps,
            private=task.private,
            together=None if self.keeps else task.together,
        )

    def buffer(self, slot: str) -> Buffer:
        """Into which a prepared worker writes what it makes."""
        return self._buffers[slot]

    def control_region(self, slot: str) -> Region | None:
        """What corrects a worker's gradients in this round; None without SCAFFOLD."""
        return self.controls.get(slot)

    def shard_region(self, slot: str) -> Region:
        """The rows of a prepared worker, as the engine wrote them."""
        return self._shards[slot]

    async def cancel(self, slot: Slot) -> None:
        """End a worker's training; one that does not obey is frozen and gets killed."""
        try:
            await self.calls.ask(slot, Cancel(), CANCEL)
        except NodeTimeout:
            if slot.handle is not None:
                await slot.handle.stop(grace_s=0)
        except NodeError:
            return

    async def follow_links(self) -> None:
        """After a change of the links nobody may still read what a former neighbour writes.

        A revoke cannot be enforced: a process may keep what it has mapped. So all get new buffers.
        """
        epoch = self._cluster.state.topology_epoch
        if epoch == self._links_epoch:
            return
        if self._links_epoch is not None:
            await self.links.release()
            self.links.close()
            self._prepared.clear()
        self._links_epoch = epoch

    async def release(self, slots: Sequence[Slot]) -> None:
        """Make workers forget their shards and buffers, so that no row outlives its training in a node."""
        await self.links.release()
        with anyio.move_on_after(RELEASE_S):
            async with anyio.create_task_group() as group:
                for slot in slots:
                    if self.is_ready(slot):
                        held = (self._shards.get(slot.name), self._buffers.get(slot.name))
                        keys = [one.key for one in held if one is not None]
                        group.start_soon(self._setup.revoke, slot, *keys)

    def close(self) -> None:
        """Give up every region and buffer."""
        self.links.close()
        for held in (*self._shards.values(), *self._buffers.values()):
            held.close()
        self._shards.clear()
        self._buffers.clear()
        self._prepared.clear()

    async def _grant_shard(self, slot: Slot) -> None:
        region = await self._shard(slot.name)
        await self._setup.grant(slot, region)
        self._setup.pulled(region.nbytes)

    async def _shard(self, slot: str) -> Region:
        if slot not in self._shards:
            chosen = self.shards[slot]

            def cut() -> Region:
                arrays = {"x": self._rows.x[chosen], "y": self._rows.y[chosen]}
                taught = {} if self._teacher is None else {"teacher": self._teacher[chosen]}
                return self._context.runtime.share(f"shard:{slot}", arrays | taught)

            self._shards[slot] = await self._context.offload(cut)
        return self._shards[slot]

    def _buffer(self, slot: Slot, network: NetworkGroup) -> Buffer:
        former = self._buffers.pop(slot.name, None)
        if former is not None:
            former.close()
        layout = state_layout(network)
        self._buffers[slot.name] = self._context.runtime.buffer(f"publish:{slot.name}", layout)
        return self._buffers[slot.name]


def state_layout(network: NetworkGroup) -> list[tuple[str, str, tuple[int, ...]]]:
    """Arrays of a whole state of training, as (name, dtype, shape)."""
    return [
        ("params", "f4", (network.plan.n_params,)),
        ("buffers", "f4", (network.plan.n_buffers,)),
        *((name, "f4", (network.plan.n_params,)) for name in MOMENTS[network.optimizer]),
    ]


def mean_loss(updates: Sequence[Update]) -> float | None:
    """Training loss of those that made a step, weighted by rows; None as soon as one of them was not finite.

    A shard that is too small for one batch makes no step and has no loss; it must not hide the others'.
    """
    stepped = [update for update in updates if update.steps > 0]
    if not stepped or any(update.loss is None for update in stepped):
        return None
    total = sum(update.rows for update in stepped)
    return sum((update.loss or 0.0) * update.rows for update in stepped) / total


def _admit(slot: str, network: NetworkGroup, state: ModelState, digest: str) -> None:
    wrong = state.flaw
    if wrong is not None:
        raise UpdateRejected(f"the update of {slot} {wrong}")
    if network.digest_of(state) != digest:
        raise UpdateRejected(f"the update of {slot} does not have the digest that came with it")


def _same(one: NDArray[np.int64] | None, other: NDArray[np.int64] | None) -> bool:
    return one is not None and other is not None and np.array_equal(one, other)
