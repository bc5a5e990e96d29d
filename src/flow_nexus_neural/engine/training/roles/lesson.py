"""One node's own network trained on rows that the engine made for its role, with the usual messages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.early_stop import rounds_without_gain
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import OF_ROLE, ModelState, NetworkGroup
from flow_nexus_neural.engine.state.roles import Learnt, Purpose
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.exchange import Exchange
from flow_nexus_neural.engine.training.tasks import Base, Recipe, Task
from flow_nexus_neural.engine.versions.evaluation import Evaluator
from flow_nexus_neural.engine.versions.served import Logits
from flow_nexus_neural.errors import NeuralError, NodeTimeout, StoreError, UpdateRejected
from flow_nexus_neural.kernels.row_losses import row_losses
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.messages import Pass
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.vocabulary import Task as LearningTask

LEARNING_RATE = 1e-3
BATCH_SIZE = 32
STRIDES = 12
"""A network learns in so many strides at most; after each it is measured on rows that were held out."""
EPOCHS_PER_STRIDE = 3
STEPS_PER_STRIDE = 400
"""Of many rows a stride has fewer epochs."""
PATIENCE = 3
"""Strides without a gain after which it ends; the best one counts."""
LEAST_ROWS = 50
MAX_ROWS = 20_000
"""Of which a network learns, and by which it is measured; of more they are sampled."""
STRIDE_S = 120.0
"""Of at most 625 steps; a node that takes longer hangs. What is learnt depends on steps alone."""
TEMPERATURE = 2.0
"""Of distillation."""
FIT, HELD = "fit", "held"


@dataclass(frozen=True)
class Lesson:
    """What the networks of one role learn.

    Attributes:
        fit: Rows to train on.
        held: Rows that end the training in time.
        further: Parts whose outputs are wanted, by name.
        task: What its outputs are.
        n_outputs: How many there are.
        input: Layout of a row.
        run: Root of every seed.
        teacher: [rows, n_outputs] from which a student learns beside the labels; None for labels alone.
    """

    purpose: Purpose
    fit: Rows
    held: Rows
    further: Mapping[str, Rows]
    task: LearningTask
    n_outputs: int
    input: InputSpec
    run: tuple[int, int]
    teacher: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Taught:
    """What became of a node's lesson.

    Attributes:
        network: Trained; None where it was not, for the reason in `learnt`.
        outputs: [rows, n_outputs] of the parts that were wanted.
    """

    learnt: Learnt
    network: NetworkGroup | None = None
    outputs: Mapping[str, Logits] | None = None


def as_rows(x: NDArray[np.float32], y: NDArray[np.generic]) -> Rows:
    """Rows of features and labels, without symbols and clients."""
    nobody = np.full(len(x), -1, dtype=np.int32)
    labels = y if y.dtype == np.int64 else y.astype(np.float32)
    return Rows(x=np.ascontiguousarray(x), y=labels, symbols=nobody, clients=nobody)  # type: ignore[arg-type]


def held_out(rows: int, *, ordered: bool) -> NDArray[np.bool_]:
    """[rows] True for every fifth row; for the last fifth of rows in time order."""
    index = np.arange(rows)
    return index >= rows - rows // 5 if ordered else index % 5 == 4


async def teach(cluster: LiveCluster, slot: Slot, lesson: Lesson) -> Taught:
    """Train a node's own network.

    Whatever goes wrong with the node or its network is the reason why it is not trained, and ends nothing
    else. What it learnt is measured on another node, and its weights come to the engine.

    Raises:
        StoreError: That is nobody's fault here.
    """
    try:
        lesson = await cluster.context.offload(_bounded, lesson, slot.name)
        network = _planned(cluster, slot, lesson)
        async with _Desk(cluster, slot, lesson) as desk:
            return await desk.run(network)
    except StoreError:
        raise
    except NeuralError as failure:
        return Taught(Learnt(lesson.purpose, reason=f"{failure.code}: {failure.message}"))


def _bounded(lesson: Lesson, slot: str) -> Lesson:
    """The lesson with `MAX_ROWS` to learn from and to measure by at most."""
    if max(len(lesson.fit), len(lesson.held)) <= MAX_ROWS:
        return lesson
    fit, held = (
        _sample(rows, seed64(lesson.run, 0, f"{lesson.purpose}:{slot}", k, "sample"))
        for k, rows in enumerate((lesson.fit, lesson.held))
    )
    teacher = lesson.teacher
    return replace(
        lesson,
        fit=lesson.fit.at(fit),
        held=lesson.held.at(held),
        teacher=None if teacher is None else teacher[fit],
    )


def _sample(rows: Rows, seed: int) -> NDArray[np.int64]:
    """Which rows count, in their order."""
    if len(rows) <= MAX_ROWS:
        return np.arange(len(rows), dtype=np.int64)
    draw = np.random.Generator(np.random.PCG64(seed))
    return np.sort(draw.choice(len(rows), MAX_ROWS, replace=False)).astype(np.int64)


def _planned(cluster: LiveCluster, slot: Slot, lesson: Lesson) -> NetworkGroup:
    """The node's deployed layers on such rows. Raises `InvalidArchitecture`, `LimitExceeded`."""
    planned = plan_network(
        parse_layers(slot.layers_for(cluster.spec.architecture, lesson.input)).layers,
        input=lesson.input,
        task=lesson.task,
        n_outputs=lesson.n_outputs,
        max_parameters=cluster.context.settings.max_parameters,
    )
    return NetworkGroup(
        key=f"{lesson.purpose}{OF_ROLE}{slot.name}",
        plan=planned.plan,
        slots=(slot.name,),
        layers_source=slot.spec.layers_source,
        optimizer="adam",
        rows={slot.name: len(lesson.fit)},
    )


class _Desk:
    """Everything that one node's lesson needs; given up at its end, also where it is interrupted."""

    def __init__(self, cluster: LiveCluster, slot: Slot, lesson: Lesson) -> None:
        self._cluster, self._slot, self._lesson = cluster, slot, lesson
        every = np.arange(len(lesson.fit), dtype=np.int64)
        taught = lesson.teacher is not None
        recipe = Recipe(
            LEARNING_RATE, BATCH_SIZE, 0.0, (), temperature=TEMPERATURE if taught else None
        )
        shards = {slot.name: every}
        self._exchange = Exchange(cluster, lesson.fit, shards, recipe, lesson.teacher)
        parts = {HELD: lesson.held, **lesson.further}
        self._evaluator = Evaluator(cluster, parts, f"{lesson.purpose}-{slot.name}")
        self._training = False

    async def __aenter__(self) -> "_Desk":
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            if self._training:
                await self._exchange.cancel(self._slot)
            await self._exchange.release([self._slot])
            await self._evaluator.release()
            self._exchange.close()
            self._evaluator.close()

    async def run(self, network: NetworkGroup) -> Taught:
        """Train stride by stride until nothing is gained; the best stride counts."""
        exchange, slot = self._exchange, self._slot
        await exchange.prepare(slot, network)
        state = await exchange.initial_state(slot, network)
        best, losses = state, [await self._loss(network, state)]
        for number in range(1, STRIDES + 1):
            with anyio.move_on_after(STRIDE_S) as limit:
                state = await self._stride(network, state, number)
            if limit.cancelled_caught:
                if number == 1:
                    raise NodeTimeout(
                        f"{slot.name} did not take its first steps within {STRIDE_S:g} s",
                        hint="see neural_cluster_status",
                    )
                break
            losses.append(await self._loss(network, state))
            if losses[-1] <= min(losses):
                best = state
            if rounds_without_gain(losses) >= PATIENCE:
                break
        return await self._taught(network, best, min(losses))

    async def _taught(self, network: NetworkGroup, best: ModelState, loss: float) -> Taught:
        lesson = self._lesson
        final = network.with_state(replace(best, moments={}, opt_step=0))
        outputs = await self._evaluator.infer(final, list(lesson.further))
        if not all(bool(np.isfinite(values).all()) for values in outputs.values()):
            raise UpdateRejected("its network gives outputs that are not finite")
        rows = len(lesson.fit)
        return Taught(Learnt(lesson.purpose, rows, loss, final.digest), final, outputs)

    async def _stride(self, network: NetworkGroup, state: ModelState, number: int) -> ModelState:
        rows = len(self._lesson.fit)
        epochs = max(1, min(EPOCHS_PER_STRIDE, STEPS_PER_STRIDE * BATCH_SIZE // rows))
        base = await self._exchange.publish(network, state, f"lesson-{number}")
        try:
            self._training = True
            update = await self._exchange.train(
                Task(
                    slot=self._slot,
                    network=network,
                    base=Base(base.key, base),
                    copied=True,
                    opt_step=state.opt_step,
                    passes=self._passes(number, epochs),
                    dropout_seed=seed64(self._lesson.run, number, network.key, 0, "dropout"),
                    work=float(rows),
                )
            )
            self._training = False
            return update.copied
        finally:
            with anyio.CancelScope(shield=True):
                await self._exchange.calls.revoke(self._slot, base.key)
                base.close()

    def _passes(self, number: int, epochs: int) -> tuple[Pass, ...]:
        run, key = self._lesson.run, f"{self._lesson.purpose}:{self._slot.name}"
        seeds: Sequence[int] = [seed64(run, number, key, k, "order") for k in range(epochs)]
        return tuple(Pass(order_seed=seed) for seed in seeds)

    async def _loss(self, network: NetworkGroup, state: ModelState) -> float:
        outputs = await self._evaluator.infer(replace(network, state=state), [HELD])
        held = self._lesson.held
        return float(row_losses(outputs[HELD], held.y, self._lesson.task).mean())
