"""Training: passes over a shard, from a committed state to a new one."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from flow_nexus_neural.kernels.seeds import step_seed
from flow_nexus_neural.networks.batches import smallest_batch
from flow_nexus_neural.node.example_gradients import ExampleGradients
from flow_nexus_neural.node.inputs import drop_features
from flow_nexus_neural.node.losses import distilled, loss_of
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.optimizers import Descent
from flow_nexus_neural.node.private_steps import StepDraws
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.messages import PrivateSteps, Train
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.vocabulary import Optimizer

StepWatch = Callable[[float], None]
"""Called with the duration of each optimiser step in ms; may raise to end the training."""


@dataclass(frozen=True, slots=True)
class Shard:
    """The rows a node trains on.

    Attributes:
        x: [rows, *row_shape] float32.
        y: [rows]; float32, or int64 class numbers.
        teacher: [rows, n_outputs] float32, outputs to learn from beside the labels; None for labels alone.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    teacher: NDArray[Any] | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Which steps of a request are done, and what they need besides the state before them.

    Attributes:
        start: Steps that are skipped.
        stop: End of the steps that are done, exclusive; None for all that are left.
        anchor: [n_params] float32, the base's parameters, to which FedProx pulls; None for those before the
            first of these steps.
        correction: [n_params] float32, added to every gradient; None for nothing.
    """

    start: int = 0
    stop: int | None = None
    anchor: NDArray[Any] | None = None
    correction: NDArray[Any] | None = None


WHOLE = Part()


@dataclass(frozen=True, slots=True)
class Progress:
    """Result of a training.

    Attributes:
        loss: Mean over the rows seen, each times its class weight and with the network's weights before the
            step of its batch; None if not finite or without rows.
        cpu_s: CPU seconds of the optimiser steps alone.
    """

    loss: float | None
    steps: int
    opt_step: int
    cpu_s: float


class Workspace:
    """The state that training changes: weights with gradients, and moments, in memory of their own."""

    def __init__(self, network: Network) -> None:
        self.weights = Weights(network.plan, trainable=True)
        self._moments: dict[str, Tensor] = {}

    def load(self, state: dict[str, NDArray[Any]], optimizer: Optimizer) -> None:
        """Copy the flat vectors of a state into the workspace."""
        self.weights.load(state["params"], state["buffers"])
        for name in MOMENTS[optimizer]:
            if name not in self._moments:
                self._moments[name] = torch.empty_like(self.weights.params)
            np.copyto(self._moments[name].numpy(), state[name])

    def moments(self, optimizer: Optimizer) -> dict[str, Tensor]:
        """The optimiser's moment vectors."""
        return {name: self._moments[name] for name in MOMENTS[optimizer]}

    def state(self, optimizer: Optimizer) -> dict[str, NDArray[np.float32]]:
        """Views of every vector of the state."""
        moments = {name: tensor.numpy() for name, tensor in self.moments(optimizer).items()}
        return self.weights.arrays() | moments


def train(
    network: Network,
    workspace: Workspace,
    shard: Shard,
    request: Train,
    watch: StepWatch,
    part: Part = WHOLE,
) -> Progress:
    """Run requested optimiser steps in place in `workspace`, all of them or a part.

    Equal arguments give equal bytes on the same machine: the order of rows and dropout follow from seeds in
    the request, and nothing is drawn from a global generator. What a step draws depends on its number alone,
    so that steps from the middle can be repeated from the state before them.

    Args:
        network: The network.
        workspace: Holds the state before the first of the steps.
        shard: The rows.
        request: What is to be done as a whole.
        watch: Called after every step.
        part: Which of its steps are done, and with what.

    Raises:
        ValueError: If a pass names steps that the shard does not have, no batch is large enough for the
            network's batch norm, or the class weights are not one per class; single rows are to be protected
            and a teacher or running statistics learn from them too.
        Exception: Any exception of `watch`; the workspace then holds an incomplete state.
    """
    needed = smallest_batch(network.plan)
    if request.batch_size < needed:
        raise ValueError(
            f"batch_size={request.batch_size} is too small for batch_normalization, which needs"
            f" {needed} rows"
        )
    work = _Work(network, workspace, shard, request, _Pull(workspace, request, part))
    step = _Step(work) if request.private is None else _PrivateStep(work, request.private)
    total, rows_seen, steps, cpu_s, skip = 0.0, 0, 0, 0.0, part.start
    for rows in islice(batches_of(request, len(shard.x), needed), skip, part.stop):
        started, cpu_started = time.perf_counter(), time.thread_time()
        steps += 1
        total += step(rows, skip + steps) * len(rows)
        rows_seen += len(rows)
        cpu_s += time.thread_time() - cpu_started
        watch((time.perf_counter() - started) * 1000.0)
    mean = total / rows_seen if rows_seen else None
    return Progress(
        loss=mean if mean is not None and np.isfinite(mean) else None,
        steps=steps,
        opt_step=request.opt_step + skip + steps,
        cpu_s=cpu_s,
    )


def batches_of(request: Train, rows: int, least: int) -> Iterator[NDArray[np.int64]]:
    """Row indices of every batch, in order; of private steps those that are drawn for each.

    A last batch of fewer than `least` rows is left out: one row has no variance for batch norm to divide by.
    """
    batch_size, private = request.batch_size, request.private
    available = -(-rows // batch_size) if private is None else private.steps
    drawn = 0
    for part in request.passes:
        stop = available if part.stop is None else part.stop
        if stop > available or part.start > stop:
            raise ValueError(
                f"steps {part.start} to {stop} are not among the {available} of {rows} rows in batches"
                f" of {batch_size}"
            )
        if private is not None:
            for _ in range(part.start, stop):
                yield StepDraws(private).rows(drawn, rows)
                drawn += 1
            continue
        order = np.random.Generator(np.random.PCG64(part.order_seed)).permutation(rows)
        for number in range(part.start, stop):
            batch = order[number * batch_size : (number + 1) * batch_size]
            if len(batch) >= least:
                yield batch


class _Pull:
    """What is added to the gradient of the loss.

    FedProx holds a client near its base by `proximal_mu` (w - w_base). Source: Li et al., "Federated
    Optimization in Heterogeneous Networks", MLSys 2020. Departure: the learning rate is at most
    1 / `proximal_mu`. The proximal term alone has the curvature `proximal_mu`, so that a longer step
    overshoots the base and one of twice that diverges; limited so, weights stay at the base as it grows.

    SCAFFOLD adds c - c_i. Source: Karimireddy et al., ICML 2020, algorithm 1, line 10.
    """

    def __init__(self, workspace: Workspace, request: Train, part: Part) -> None:
        self._params = workspace.weights.params
        self._mu, correction = request.proximal_mu, part.correction
        base = self._params if part.anchor is None else torch.from_numpy(part.anchor.copy())
        self._base = base.clone() if self._mu > 0 else None
        self._moved = torch.empty_like(self._params if self._mu > 0 else self._params[:0])
        # A copy: torch never gets an array over read-only memory.
        self._correction = None if correction is None else torch.from_numpy(correction.copy())
        self.highest_rate = 1.0 / self._mu if self._mu > 0 else float("inf")

    def add_to(self, grads: Tensor) -> None:
        """Add it, for the present parameters."""
        if self._base is not None:
            # The difference first: mu w - mu w_base would lose the gradient in rounding where mu is large.
            torch.sub(self._params, self._base, out=self._moved)
            grads.add_(self._moved, alpha=self._mu)
        if self._correction is not None:
            grads.add_(self._correction)


@dataclass(frozen=True, slots=True)
class _Work:
    """What every step of a request works with."""

    network: Network
    workspace: Workspace
    shard: Shard
    request: Train
    pull: _Pull


class _Step:
    """One optimiser step on given rows."""

    def __init__(self, work: _Work) -> None:
        network, workspace, request, pull = work.network, work.workspace, work.request, work.pull
        self._network = network
        self._weights = workspace.weights
        self._shard = work.shard
        self._noise = torch.Generator()
        self._seed, self._first = request.dropout_seed, request.opt_step
        self._pull = pull
        self._feature_dropout = request.feature_dropout
        self._loss = loss_of(network.plan, request.class_weight)
        self._distilled = distilled(network.plan, request.temperature or 1.0)
        self._descent = Descent(
            request.optimizer,
            min(request.learning_rate, pull.highest_rate),
            workspace.weights.params,
            workspace.weights.grads,
            workspace.moments(request.optimizer),
        )

    def __call__(self, rows: NDArray[np.int64], number: int) -> float:
        """Run step `number` of the request on these rows; return the batch's mean loss before the step."""
        self._noise.manual_seed(self._seed_of(number))
        # take() copies, so torch never gets an array over the shard's read-only memory.
        x = torch.from_numpy(self._shard.x.take(rows, axis=0))
        y = torch.from_numpy(self._shard.y.take(rows, axis=0))
        if self._feature_dropout > 0.0:
            x = drop_features(x, self._network.plan.input, self._feature_dropout, self._noise)
        loss = self._gradients(x, y, rows, number)
        self._pull.add_to(self._weights.grads)
        self._descent.step(self._first + number)
        return loss

    def _seed_of(self, number: int) -> int:
        """Of what step `number` draws."""
        return step_seed(self._seed, number)

    def _gradients(self, x: Tensor, y: Tensor, rows: NDArray[np.int64], number: int) -> float:
        """Set the gradients of a batch, [n, *row_shape] and [n]; return its mean loss."""
        del number  # only what is drawn depends on it
        self._weights.grads.zero_()
        logits = self._network.logits(x, self._weights, self._noise)
        teacher = self._shard.teacher
        if teacher is None:
            loss = self._loss(logits, y)
        else:
            loss = self._distilled(logits, y, torch.from_numpy(teacher.take(rows, axis=0)))
        torch.autograd.backward(loss)
        return float(loss.item())


class _PrivateStep(_Step):
    """One step of DP-SGD: rows that were drawn, each clipped, with noise on their sum.

    What the pull, the optimiser and any average make of the noised sum costs no privacy.

    Source: Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, algorithm 1. Departure: the sum
    is divided by the rows that are expected, not by those that came: their number would have to be noised.
    """

    def __init__(self, work: _Work, order: PrivateSteps) -> None:
        if work.shard.teacher is not None:
            raise ValueError("what a teacher says of single rows would not be protected")
        super().__init__(work)
        self._order, self._draws = order, StepDraws(order)
        self._of_rows = ExampleGradients(work.network, work.workspace.weights, self._loss)

    @override
    def _seed_of(self, number: int) -> int:
        return self._draws.seed(number - 1)

    @override
    def _gradients(self, x: Tensor, y: Tensor, rows: NDArray[np.int64], number: int) -> float:
        grads = self._weights.grads
        total, loss = self._of_rows.clipped_sum(x, y, self._order.clip_norm, self._noise)
        noise = self._draws.noise(number - 1, grads.numel())
        noised = (total.numpy() + noise) / self._order.expected_rows
        np.copyto(grads.numpy(), noised.astype(np.float32))
        return loss / len(rows) if len(rows) else 0.0
