"""One question to one node: its answer judged, or the proof that it withholds one."""

from dataclasses import dataclass, field, replace
from typing import Any, Self

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.backend_choice import Backend
from flow_nexus_neural.coordination.conduct import Answer as ConductAnswer
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline, Patience
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.loading import serving_name
from flow_nexus_neural.errors import Fenced, NodeError, NodeFault
from flow_nexus_neural.protocol.messages import Outputs, Ping, Predict

MAX_DEADLINE_S = 20.0
SAME_MOMENT_S = 0.1
"""An answer that arrived together with a later one is handed over within this time."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Question:
    """Records for one committed version.

    Attributes:
        x: [rows, *row_shape] float32, as the network takes it.
        usual: They are like the training rows, so that the answer of an honest node is finite.
        by_nodes: Whether the nodes' own processes are to answer, and no WebAssembly for them.
    """

    committed: CommittedVersion
    x: NDArray[np.float32]
    usual: bool
    by_nodes: bool = False

    def first_row(self) -> Self:
        """A part that cannot be too large for a node."""
        return replace(self, x=self.x[:1])


@dataclass(frozen=True)
class Outcome:
    """What became of a question to one node.

    Attributes:
        logits: [rows, n_outputs] float64; None where the answer cannot be used or none came.
        reason: Why there is none.
        conduct: What that says about the node; None when it may be honest and none of this its fault.
        doubtful: Whether the node is worth a question of the engine's own.
        backend: What computed the answer.
    """

    logits: NDArray[np.float64] | None = None
    reason: str = ""
    conduct: ConductAnswer | None = None
    doubtful: bool = False
    backend: Backend = "torch"


async def put(cluster: LiveCluster, slot: Slot, question: Question) -> Outcome:
    """Ask a slot's living process. Never raises for what the node does; ends when it has answered or died.

    Otherwise it ends after `MAX_DEADLINE_S` and the longest grace that a node gets: callers stop waiting on
    their own.
    """
    network = question.committed.loaded_into(slot.name)
    if network is None:
        return Outcome(reason="serves no network of this version")
    calls, patience = cluster.calls("predict"), cluster.context.patience
    try:
        outcome = await _by_wasm_once_heard(cluster, calls, slot, question)
        if outcome is not None:
            return outcome
        answer = await _Asking(calls, slot, question).answer(patience)
    except (NodeFault, Fenced) as failure:
        # Many rows may be more than its memory holds; whoever cannot do one is to blame for it.
        counted: ConductAnswer | None = "refused" if len(question.x) == 1 else None
        return Outcome(None, f"{failure.code}: {failure.message}", counted, doubtful=True)
    except NodeError as failure:
        return Outcome(reason=f"{failure.code}: {failure.message}")
    if answer is None:
        reason = "it did not answer, although it answered a later ping"
        return Outcome(None, reason, "unanswered", doubtful=True)
    holds = slot.served.get(serving_name(question.committed.bundle.parity)) == network.digest
    unchanged = cluster.committed is question.committed or slot.state == "suspect"
    invented = answer[0].digest not in slot.offered
    return judged(network, question, answer, to_blame=invented or (holds and unchanged))


def by_wasm(cluster: LiveCluster, slot: Slot, question: Question) -> Outcome | None:
    """The answer that WebAssembly computes for a node that was just heard to live; None where it does not."""
    backends = cluster.backends
    if backends is None or question.by_nodes:
        return None
    if not backends.answers(slot, question.committed, len(question.x)):
        return None
    if not backends.is_fresh(slot):
        return None
    outputs = backends.outputs(slot, question.committed, question.x)
    return None if outputs is None else Outcome(outputs.astype(np.float64), backend="wasm")


async def _by_wasm_once_heard(
    cluster: LiveCluster, calls: NodeCalls, slot: Slot, question: Question
) -> Outcome | None:
    """The same for a node that may have died or frozen meanwhile: a ping first. Raises `NodeError`."""
    backends = cluster.backends
    if backends is None or question.by_nodes:
        return None
    if not backends.answers(slot, question.committed, len(question.x)):
        return None
    patience = cluster.context.patience
    await calls.ask(slot, Ping(), Deadline(MAX_DEADLINE_S + patience.max_grace_s, None))
    return by_wasm(cluster, slot, question)


def judged(
    network: NetworkGroup, question: Question, answer: tuple[Outputs, Arrays], *, to_blame: bool
) -> Outcome:
    """Whether an answer can be used.

    Args:
        network: That the node serves.
        question: What it was asked.
        answer: Its reply.
        to_blame: Whether other weights than the question's speak against the node: they were never loaded
            into it, or it must still hold the question's version. Nothing is loaded into a suspect node, and
            into others only the next version.
    """
    reply, arrays = answer
    outputs = arrays.get("y")
    if outputs is None or outputs.shape != (len(question.x), network.plan.n_outputs):
        return _refused("its answer has the wrong shape")
    if reply.digest != network.digest:
        return _refused("it answered with weights of another version", counted=to_blame)
    if not bool(np.isfinite(outputs).all()):
        return _refused("its answer is not finite", counted=question.usual)
    return Outcome(outputs.astype(np.float64), conduct="right")


def _refused(reason: str, *, counted: bool = True) -> Outcome:
    return Outcome(None, reason, "refused" if counted else None, doubtful=counted)


@dataclass
class _Asking:
    """A question under way.

    A node answers in the order in which it was asked, also while it trains. So a ping behind a question that
    takes long tells a slow node from one that withholds its answer, however long either takes.
    """

    calls: NodeCalls
    slot: Slot
    question: Question
    answers: list[tuple[Outputs, Arrays]] = field(default_factory=list)
    failures: list[NodeError] = field(default_factory=list)
    settled: anyio.Event = field(default_factory=anyio.Event)
    told_apart: anyio.Event = field(default_factory=anyio.Event)

    async def answer(self, patience: Patience) -> tuple[Outputs, Arrays] | None:
        """The answer; None when a later ping was answered and this was not. Raises `NodeError`."""
        deadline = Deadline(MAX_DEADLINE_S + patience.max_grace_s, None)
        async with anyio.create_task_group() as group:
            group.start_soon(self._ask, deadline)
            with anyio.move_on_after(patience.prediction_s):
                await self.settled.wait()
            if not self.settled.is_set():
                group.start_soon(self._ping, deadline)
                await self.told_apart.wait()
                with anyio.move_on_after(SAME_MOMENT_S):
                    await self.settled.wait()
                group.cancel_scope.cancel()
        if self.failures:
            raise self.failures[0]
        return self.answers[0] if self.answers else None

    async def _ask(self, deadline: Deadline) -> None:
        committed = self.question.committed
        request = Predict(network=serving_name(committed.bundle.parity))
        try:
            answer = await self.calls.ask(self.slot, request, deadline, {"x": self.question.x})
            self.answers.append(answer)
        except NodeError as failure:
            self.failures.append(failure)
        self.settled.set()
        self.told_apart.set()

    async def _ping(self, deadline: Deadline) -> None:
        try:
            await self.calls.ask(self.slot, Ping(), deadline)
        except NodeError:
            return  # whoever supervises the node sees to that; the question ends with it or in time
        self.told_apart.set()
