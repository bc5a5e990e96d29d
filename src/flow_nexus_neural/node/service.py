"""The requests that a node serves: one method answers every request and never raises.

`NodeService._answer` has one case for every class of `messages.ServiceRequest`; mypy reports a missing one.

The transport grants and revokes memory by calling `attach` and `detach`. While a long request runs, the
service calls `poll` between its steps; in it the transport may call `handle` again with another request.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from flow_nexus_neural.node.denormals import flushed_denormals
from flow_nexus_neural.node.folding import fold_regions
from flow_nexus_neural.node.held import Held
from flow_nexus_neural.node.initializers import initial_weights
from flow_nexus_neural.node.links import announce, observe
from flow_nexus_neural.node.masking import MaskSeat
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.proofs import Given, execute_segment
from flow_nexus_neural.node.raft import RaftSeat
from flow_nexus_neural.node.regions import (
    Region,
    correction_of,
    publish_to,
    rows_of,
    shard_of,
    state_of,
)
from flow_nexus_neural.node.trainer import Workspace
from flow_nexus_neural.node.training import Order
from flow_nexus_neural.node.weights import Weights
from flow_nexus_neural.protocol.messages import (
    Announce,
    AskMasked,
    AskMaskKeys,
    AskMaskShares,
    AskUnmasking,
    Build,
    Built,
    Cancel,
    Done,
    Failed,
    Fold,
    Folded,
    GetWeights,
    Infer,
    Load,
    Loaded,
    Observe,
    Observed,
    Outputs,
    Ping,
    Pong,
    Predict,
    RaftHold,
    RaftStep,
    Reexecute,
    Reexecuted,
    Reply,
    Reveal,
    Revealed,
    ServiceRequest,
    Train,
    Trained,
)
from flow_nexus_neural.protocol.messages import Weights as WeightsReply

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NETWORKS = 8

Poll = Callable[[], bool]
Arrays = Mapping[str, NDArray[Any]]
Answer = tuple[Reply, dict[str, NDArray[Any]]]


class _Cancelled(Exception):
    """The engine asked to end the running request."""


class _Busy(Exception):
    """A long request came while another one runs."""


class NodeService:
    """The networks of one node and the operations on them.

    Args:
        node_id: Names this incarnation; part of error messages.
        incarnation: Of the slot.
        seed: Seeds torch's global generator. Nothing here draws from it; two nodes forked from one process
            would otherwise inherit the same generator state.
    """

    def __init__(self, *, node_id: str, incarnation: int, seed: int) -> None:
        self._name = f"{node_id} (incarnation {incarnation})"
        self._held: dict[str, Held] = {}
        self._regions: dict[str, Region] = {}
        self._raft = RaftSeat()
        self._masks = MaskSeat()
        self._running: str | None = None
        self._cancelled = False
        self._steps_done = 0
        self._longest_step_ms = 0.0
        torch.default_generator.manual_seed(seed)

    def attach(self, key: str, arrays: Arrays, *, writable: bool) -> None:
        """Store the arrays of a region under a key; replaces a region of that key."""
        self._raft.forget([key])
        self._regions[key] = Region(key, dict(arrays), writable)

    def detach(self, keys: Sequence[str]) -> None:
        """Drop regions; unknown keys are ignored. A running request keeps the arrays it already uses."""
        for key in keys:
            self._regions.pop(key, None)
            for held in self._held.values():
                if held.log is not None and held.log.base == key:
                    held.log = None  # its round is over
        self._raft.forget(keys)

    def handle(self, request: ServiceRequest, arrays: Arrays, poll: Poll) -> Answer:
        """Answer one request; any exception becomes a `Failed` reply, and the node goes on.

        Args:
            request: The request.
            arrays: The arrays of its frame, for Predict.
            poll: Called between optimiser steps and batches of a long request; True ends it.
        """
        try:
            long = self._long(request.kind) if request.is_long else nullcontext()
            with flushed_denormals(), long:
                return self._answer(request, arrays, poll)
        except Exception as failure:  # noqa: BLE001 - a node outlives every request; the engine gets the error
            return self.failed(failure), {}

    def failed(self, failure: Exception) -> Failed:
        """What the engine is told of an exception."""
        if isinstance(failure, _Cancelled):
            return Failed(type="cancelled", message=f"{self._name} was asked to stop")
        if isinstance(failure, _Busy):
            return Failed(type="busy", message=f"{self._name} is busy: {failure}")
        text = str(failure) or "no message"
        return Failed(type=type(failure).__name__[:80], message=text[:2000])

    @contextmanager
    def training(self, request: Train) -> "Iterator[Order]":
        """A training that others carry out together with theirs: this node is busy meanwhile.

        Raises:
            Exception: Whatever is wrong with the request; `failed` tells it.
        """
        with self._long(request.kind):
            self._longest_step_ms = 0.0
            yield Order.of(self._network(request.network), request, self._region)

    def note_step(self, step_ms: float) -> None:
        """An optimiser step took so long."""
        self._steps_done += 1
        self._longest_step_ms = max(self._longest_step_ms, step_ms)

    def _answer(  # noqa: C901, PLR0911, PLR0912 - one case a message, which mypy checks
        self, request: ServiceRequest, arrays: Arrays, poll: Poll
    ) -> Answer:
        match request:
            case Ping():
                return self._pong(), {}
            case Cancel():
                self._cancelled = True
                return Done(), {}
            case Build():
                return self._build(request), {}
            case GetWeights():
                return self._weights(request)
            case Load():
                return self._load(request), {}
            case Train():
                return self._train(request, poll), {}
            case Infer():
                return self._infer(request, poll)
            case Predict():
                return self._predict(request, arrays)
            case Announce():
                announce(self._region(request.key), request.token)
                return Done(), {}
            case Observe():
                return self._observe(request), {}
            case Reveal():
                return self._reveal(request), {}
            case Reexecute():
                return self._reexecute(request, poll), {}
            case RaftStep():
                return self._raft.step(request), {}
            case RaftHold():
                state = state_of(self._region(request.region), request.plan)
                return self._raft.hold(request, state), {}
            case Fold():
                return self._fold(request, poll), {}
            case AskMaskKeys() | AskMaskShares() | AskMasked() | AskUnmasking():
                return self._masks.answer(request, self._region), {}
            case _:
                assert_never(request)

    @contextmanager
    def _long(self, kind: str) -> "Iterator[None]":
        """Mark a long request as running; one at a time."""
        if self._running is not None:
            raise _Busy(f"{self._running} runs, {kind} must wait for its reply")
        # Reset at the start: a Cancel that arrived after the previous request must not end this one.
        self._running, self._cancelled = kind, False
        try:
            yield
        finally:
            self._running = None

    def _pong(self) -> Pong:
        """Report progress; the longest step is that of the running or the latest training."""
        return Pong(
            busy=self._running,
            steps_done=self._steps_done,
            longest_step_ms=self._longest_step_ms,
        )

    def _build(self, request: Build) -> Built:
        if request.network not in self._held and len(self._held) >= MAX_NETWORKS:
            raise ValueError(f"{self._name} holds {MAX_NETWORKS} networks, the most it may")
        plan = request.plan
        network, serving = Network(plan), Weights(plan)
        serving.load(*initial_weights(plan, request.seed))
        # One forward pass before the network is stored: a plan that does not work fails its Build.
        network.check(serving)
        digest = serving.digest()
        self._held[request.network] = Held(network, serving, digest)
        return Built(n_params=plan.n_params, n_buffers=plan.n_buffers, digest=digest)

    def _weights(self, request: GetWeights) -> Answer:
        held = self._network(request.network)
        copies = {name: array.copy() for name, array in held.serving.arrays().items()}
        return WeightsReply(digest=held.digest), dict(copies)

    def _load(self, request: Load) -> Loaded:
        held = self._network(request.network)
        state = state_of(self._region(request.region), held.network.plan)
        return Loaded(digest=held.serve(state))

    def _train(self, request: Train, poll: Poll) -> Trained:
        order = Order.of(self._network(request.network), request, self._region)
        self._longest_step_ms = 0.0
        return order.alone(lambda step_ms: self._stepped(step_ms, poll), self._masks.keep)

    def _reveal(self, request: Reveal) -> Revealed:
        held = self._network(request.network)
        if held.log is None:
            raise LookupError(f"{self._name} keeps no states of a training of {request.network!r}")
        into = publish_to(self._region(request.into), held.network.plan, held.log.optimizer)
        return Revealed(cpu_s=held.log.reveal(request.segment, into))

    def _reexecute(self, request: Reexecute, poll: Poll) -> Reexecuted:
        began_s, work = time.thread_time(), request.work
        held = self._network(work.network)
        plan = held.network.plan
        taught = work.temperature is not None
        shard = shard_of(self._region(work.shard), plan, taught=taught)
        state = state_of(self._region(request.state), plan, work.optimizer)
        if held.workspace is None:
            held.workspace = Workspace(held.network)
        self._longest_step_ms, held.log = 0.0, None
        # Under FedProx every segment is held to the base, not to the state before it.
        anchor = state_of(self._region(work.base), plan)["params"] if work.proximal_mu else None
        control = None if work.control is None else self._region(work.control)
        correction = None if control is None else correction_of(control, plan)
        given = Given(shard, state, anchor, correction)
        before, after = execute_segment(
            held.network,
            held.workspace,
            request,
            given,
            lambda step_ms: self._stepped(step_ms, poll),
        )
        return Reexecuted(before=before, after=after, cpu_s=time.thread_time() - began_s)

    def _infer(self, request: Infer, poll: Poll) -> Answer:
        held = self._network(request.network)
        plan = held.network.plan
        rows = rows_of(self._region(request.data), plan)
        state = state_of(self._region(request.weights), plan)
        if held.candidate is None:
            held.candidate = Weights(plan)
        held.candidate.load(state["params"], state["buffers"])
        y = infer(held.network, held.candidate, rows, lambda: self._checkpoint(poll))
        return Outputs(digest=None), {"y": y}

    def _predict(self, request: Predict, arrays: Arrays) -> Answer:
        held = self._network(request.network)
        rows = rows_of(Region("the request", arrays), held.network.plan)
        return Outputs(digest=held.digest), {"y": infer(held.network, held.serving, rows)}

    def _observe(self, request: Observe) -> Observed:
        views = [self._regions.get(key) for key in request.keys]
        return Observed(
            sights=tuple(None if view is None else observe(view, request.reads) for view in views)
        )

    def _stepped(self, step_ms: float, poll: Poll) -> None:
        """An optimiser step took so long; raises as `_checkpoint`."""
        self.note_step(step_ms)
        self._checkpoint(poll)

    def _fold(self, request: Fold, poll: Poll) -> Folded:
        return fold_regions(request, self._region, lambda: self._checkpoint(poll))

    def _checkpoint(self, poll: Poll) -> None:
        """Serve short requests; end the running one if it was cancelled."""
        if poll() or self._cancelled:
            raise _Cancelled

    def _network(self, name: str) -> Held:
        if name not in self._held:
            raise LookupError(f"{self._name} has no network {name!r}; it has {sorted(self._held)}")
        return self._held[name]

    def _region(self, key: str) -> Region:
        if key not in self._regions:
            raise LookupError(f"{self._name} was granted no region {key!r}")
        return self._regions[key]


def infer(
    network: Network,
    weights: Weights,
    rows: NDArray[Any],
    between_chunks: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Compute logits [rows, n_outputs] float32, chunk by chunk.

    Args:
        network: The network.
        weights: Weights of its plan.
        rows: [rows, *row_shape] float32; may be read-only.
        between_chunks: Called between two chunks; may raise.
    """
    outputs = np.empty((len(rows), network.plan.n_outputs), np.float32)
    size = network.chunk_rows
    for start in range(0, len(rows), size):
        if start:
            between_chunks()
        # A copy: torch warns about read-only memory, such as a granted shard.
        chunk = torch.from_numpy(np.array(rows[start : start + size], np.float32, order="C"))
        with torch.inference_mode():
            outputs[start : start + size] = network.logits(chunk, weights).numpy()
    return outputs
