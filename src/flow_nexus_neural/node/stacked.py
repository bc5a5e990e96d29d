"""Training of several clients at once, their weights stacked: one pass of Python, one optimiser call.

What a client gets is what `node.trainer` makes of it: its own batches, its own draws, its own moments, by the
same products. Promised is equality to 1e-6 a round, whoever is in the stack. The dense workloads of `bench`
come out bitwise equal; functions such as `exp` round differently at the end of a vector than in its middle.
Small networks spend most of a step in calls, not in arithmetic: a stack makes those element by element once
for all clients, and none of autograd's.

Stacked are networks of dense layers, activations and dropout, without running statistics or frozen tensors.

Shapes: C clients, n rows of a batch, P parameters; [C, P] float32 holds one client's flat vector a row.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flow_nexus_neural.kernels.seeds import step_seed
from flow_nexus_neural.node.inputs import drop_features
from flow_nexus_neural.node.optimizers import Descent, fused_adam_is_sound, fused_adam_of_many
from flow_nexus_neural.node.stacked_layers import (
    Bound,
    Flow,
    Tables,
    aligned,
    binders_of,
    draws,
    padded,
)
from flow_nexus_neural.node.stacked_losses import StackedLoss, loss_of
from flow_nexus_neural.node.trainer import Progress, Shard, batches_of
from flow_nexus_neural.protocol.messages import Train
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import NetworkPlan, TensorSpec

STACK_BYTES: Final = 4 << 20
"""Parameters, gradients and moments of one stack: what a processor keeps near. Larger stacks were slower."""
FEWEST: Final = 2

GroupWatch = Callable[[float, Sequence[int]], None]
"""Called after each step of a stack with its duration in ms and the numbers of the clients that made it."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client of a cohort.

    Attributes:
        base: `params` [P] and the optimiser's moments [P], float32; may be read-only.
        shard: The rows.
        request: What is to be done.
    """

    base: Mapping[str, NDArray[Any]]
    shard: Shard
    request: Train


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one client; `state` has new vectors under the names of its base.

    `stacked` is the number of clients in its stack.
    """

    state: dict[str, NDArray[np.float32]]
    progress: Progress
    stacked: int


def can_be_stacked(plan: NetworkPlan, request: Train) -> bool:
    """Whether a training is of the kind that gives the same result in a stack."""
    plain = (
        request.proof is None
        and request.private is None
        and request.control is None
        and request.temperature is None
        and request.proximal_mu == 0.0
        and not request.kept
    )
    return plain and plan.view == "flat" and not plan.buffers and binders_of(plan) is not None


def can_share_a_stack(one: Train, other: Train) -> bool:
    """Whether two trainings of one plan differ only in rows, order and draws."""
    return all(
        getattr(one, name) == getattr(other, name)
        for name in (
            "opt_step",
            "optimizer",
            "learning_rate",
            "batch_size",
            "feature_dropout",
            "class_weight",
        )
    )


def clients_per_stack(n_params: int, optimizer_moments: int) -> int:
    """How many clients of P parameters each are trained in one stack."""
    bytes_of_one = 4 * n_params * (2 + optimizer_moments)
    return max(FEWEST, STACK_BYTES // max(bytes_of_one, 1))


def train_stacked(plan: NetworkPlan, clients: Sequence[Client], watch: GroupWatch) -> list[Outcome]:
    """Train clients of one plan; their requests may share a stack (`can_share_a_stack`).

    Args:
        plan: `can_be_stacked` with each of the requests.
        clients: In the order that decides in which stack each is.
        watch: May raise, which ends everything.

    Returns:
        One outcome a client, in their order.

    Raises:
        ValueError: As `trainer.train`.
    """
    request = clients[0].request
    size = clients_per_stack(plan.n_params, len(MOMENTS[request.optimizer]))
    outcomes: list[Outcome] = []
    for start in range(0, len(clients), size):
        part = clients[start : start + size]

        def told(step_ms: float, numbers: Sequence[int], start: int = start) -> None:
            watch(step_ms, [start + number for number in numbers])

        outcomes += _Stack(plan, part).run(told)
    return outcomes


class _Stack:
    """The state of clients in training, those with most steps first, so that the others end at the tail."""

    def __init__(self, plan: NetworkPlan, clients: Sequence[Client]) -> None:
        self._plan, self._request = plan, clients[0].request
        batches = [list(batches_of(one.request, len(one.shard.x), 1)) for one in clients]
        self._order = sorted(range(len(clients)), key=lambda i: (-len(batches[i]), i))
        self._clients = [clients[i] for i in self._order]
        self._batches = [batches[i] for i in self._order]
        # The gaps between the clients' vectors hold zeros, which every optimiser leaves as they are.
        shape = (len(clients), padded(plan.n_params))
        self._params, self._grads = torch.zeros(shape), torch.zeros(shape)
        self._moments = {name: torch.zeros(shape) for name in MOMENTS[self._request.optimizer]}
        for row, one in enumerate(self._clients):
            for name, table in self._tables.items():
                np.copyto(table[row, : plan.n_params].numpy(), one.base[name])
        # Seeding costs as much as a small product; most trainings draw nothing.
        self._draws = self._request.feature_dropout > 0.0 or draws(plan)
        self._noises = [torch.Generator() for _ in clients]
        self._loss = loss_of(plan, self._request)

    def run(self, watch: GroupWatch) -> list[Outcome]:
        """All steps of all clients."""
        totals, cpu_s = np.zeros(len(self._clients)), np.zeros(len(self._clients))
        # Between two of these lengths the same clients are in the stack.
        for active, numbers in _shrinking([len(batches) for batches in self._batches]):
            descend = self._descent(active)
            passes: dict[tuple[int, ...], _Pass] = {}
            who = sorted(self._order[:active])
            for number in numbers:
                started, cpu_started = time.perf_counter(), time.thread_time()
                totals[:active] += self._step(number, active, passes)
                descend(self._request.opt_step + number)
                cpu_s[:active] += (time.thread_time() - cpu_started) / active
                watch((time.perf_counter() - started) * 1000.0, who)
        return self._outcomes(totals, cpu_s)

    @property
    def _tables(self) -> dict[str, Tensor]:
        """What a state of training consists of."""
        return {"params": self._params, **dict(self._moments.items())}

    def _descent(self, active: int) -> Callable[[int], None]:
        """The optimiser of the first clients, called with the number of the step."""
        request, size = self._request, self._plan.n_params
        tables = [self._params, self._grads, *self._moments.values()]
        if request.optimizer == "adam" and fused_adam_is_sound():
            params, grads, m, v = (list(table[:active, :size]) for table in tables)
            rate = request.learning_rate
            return lambda number: fused_adam_of_many(params, grads, (m, v), number, rate)
        moments: dict[str, Tensor] = {name: table[:active] for name, table in self._moments.items()}
        return Descent(
            request.optimizer,
            request.learning_rate,
            self._params[:active],
            self._grads[:active],
            moments,
        ).step

    def _step(
        self, number: int, active: int, passes: dict[tuple[int, ...], "_Pass"]
    ) -> NDArray[np.float64]:
        """Gradients of step `number` of the first clients; each one's loss times its rows, [active]."""
        chosen = [self._batches[row][number - 1] for row in range(active)]
        counts = tuple(len(rows) for rows in chosen)
        if counts not in passes:
            passes[counts] = self._pass(counts)
        one = passes[counts]
        for row, rows in enumerate(chosen):
            client = self._clients[row]
            if self._draws:
                self._noises[row].manual_seed(step_seed(client.request.dropout_seed, number))
            one.take(row, client.shard, rows)
        rate = self._request.feature_dropout
        if rate > 0.0:
            for row, count in enumerate(counts):
                mine = one.x[row, :count]
                mine.copy_(drop_features(mine, self._plan.input, rate, self._noises[row]))
        with one.mode():
            return one.run(self._noises[:active])

    def _pass(self, counts: tuple[int, ...]) -> "_Pass":
        specs, active = self._plan.trainable, len(counts)
        tables = Tables(
            stacked_views(self._params[:active], specs), stacked_views(self._grads[:active], specs)
        )
        return _Pass(self._plan, counts, tables, self._loss, self._clients[0].shard.y.dtype)

    def _outcomes(self, totals: NDArray[np.float64], cpu_s: NDArray[np.float64]) -> list[Outcome]:
        found: dict[int, Outcome] = {}
        size = self._plan.n_params
        for row, number in enumerate(self._order):
            batches = self._batches[row]
            seen = sum(len(rows) for rows in batches)
            mean = float(totals[row]) / seen if seen else None
            progress = Progress(
                loss=mean if mean is not None and np.isfinite(mean) else None,
                steps=len(batches),
                opt_step=self._request.opt_step + len(batches),
                cpu_s=float(cpu_s[row]),
            )
            state = {name: table[row, :size].numpy() for name, table in self._tables.items()}
            found[number] = Outcome(state, progress, len(self._clients))
        return [found[number] for number in range(len(self._order))]


class _Pass:
    """Forward and backward over batches of given lengths, in memory of its own."""

    def __init__(
        self,
        plan: NetworkPlan,
        counts: tuple[int, ...],
        tables: Tables,
        loss: StackedLoss,
        targets: Any,
    ) -> None:
        binders = binders_of(plan)
        if binders is None:
            raise ValueError("this network cannot be trained in a stack")
        shape = (len(counts), max(counts))
        self.x = aligned(*shape, *plan.input.row_shape)
        self._x_rows = self.x.numpy()
        self._y = np.zeros(shape, targets)
        self._layers: list[Bound] = []
        flow = Flow(self.x.flatten(2), None)
        for binder in binders:
            self._layers.append(binder(flow, tables, counts))
            flow = self._layers[-1].out
        self._logits, self._counts, self._loss = flow, counts, loss
        self._records = any(layer.records for layer in self._layers)
        n = torch.tensor(counts, dtype=torch.float32)[:, None]
        self._row_share = (torch.arange(shape[1]) < n) / n

    def mode(self) -> AbstractContextManager[object]:
        """Without gradients; cheaper where nothing has to be recorded in between."""
        return torch.no_grad() if self._records else torch.inference_mode()

    def take(self, row: int, shard: Shard, rows: NDArray[np.int64]) -> None:
        """Copy the batch of one client."""
        shard.x.take(rows, axis=0, out=self._x_rows[row, : len(rows)], mode="clip")
        shard.y.take(rows, axis=0, out=self._y[row, : len(rows)], mode="clip")

    def run(self, noises: Sequence[torch.Generator]) -> NDArray[np.float64]:
        """Set the gradients; each client's loss times its rows, [C]."""
        for layer in self._layers:
            layer.forward(noises)
        y = torch.from_numpy(self._y)
        losses = self._loss(self._logits, y, self._row_share)
        for layer in reversed(self._layers):
            layer.backward()
        table = losses.numpy()
        if min(self._counts) == len(table[0]):
            return table.sum(1, dtype=np.float64)  # type: ignore[no-any-return]
        return np.array([table[c, :n].sum(dtype=np.float64) for c, n in enumerate(self._counts)])


def stacked_views(table: Tensor, specs: Sequence[TensorSpec]) -> dict[str, Tensor]:
    """Views of [C, at least P] by tensor name, each [C, *shape]."""
    views: dict[str, Tensor] = {}
    start = 0
    for spec in specs:
        views[spec.name] = table[:, start : start + spec.size].view(len(table), *spec.shape)
        start += spec.size
    return views


def _shrinking(steps: Sequence[int]) -> list[tuple[int, range]]:
    """For how many clients which steps are done, of descending numbers of steps."""
    found, done = [], 0
    for length in sorted(set(steps)):
        if length > done:
            active = sum(one >= length for one in steps)
            found.append((active, range(done + 1, length + 1)))
            done = length
    return found
