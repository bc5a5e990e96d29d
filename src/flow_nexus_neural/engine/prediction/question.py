"""One question to one node: its answer judged, or the proof that it withholds one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.backend_choice import Backend
from flow_nexus_neural.coordination.conduct import Answer as ConductAnswer
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.patience import Deadline
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
    asking = Asking(cluster, slot, question)
    async with anyio.create_task_group() as group:
        group.start_soon(tell_apart, cluster, (asking,))
        outcome = await asking.outcome()
        group.cancel_scope.cancel()
    return outcome


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


class Asking:
    """A question under way to one node, which `tell_apart` watches.

    Attributes:
        settled: It has ended.
    """

    def __init__(self, cluster: LiveCluster, slot: Slot, question: Question) -> None:
        self.settled = anyio.Event()
        self._cluster, self._slot, self._question = cluster, slot, question
        self._calls = cluster.calls("predict")
        grace_s = cluster.context.patience.max_grace_s
        self._deadline = Deadline(MAX_DEADLINE_S + grace_s, None)
        self._withheld, self._sent = anyio.CancelScope(), anyio.Event()

    async def outcome(self) -> Outcome:
        """As `put`; it ends only by itself, or where somebody watches it."""
        try:
            return await self._outcome()
        finally:
            self.settled.set()

    async def _outcome(self) -> Outcome:
        cluster, slot, question = self._cluster, self._slot, self._question
        network = question.committed.loaded_into(slot.name)
        if network is None:
            return Outcome(reason="serves no network of this version")
        answer = None
        try:
            outcome = await _by_wasm_once_heard(cluster, self._calls, slot, question)
            if outcome is not None:
                return outcome
            with self._withheld:
                answer = await self._ask()
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

    async def _ask(self) -> tuple[Outputs, Arrays]:
        request = Predict(network=serving_name(self._question.committed.bundle.parity))
        self._sent.set()
        return await self._calls.ask(self._slot, request, self._deadline, {"x": self._question.x})

    async def ping(self) -> None:
        """Ask behind the question whether the node lives; a question that is still open then is withheld."""
        if not self._sent.is_set():  # it began late: its time begins with it
            await self._sent.wait()
            await anyio.sleep(self._cluster.context.patience.prediction_s)
        try:
            await self._calls.ask(self._slot, Ping(), self._deadline)
        except NodeError:
            return  # whoever supervises the node sees to that; the question ends with it or in time
        with anyio.move_on_after(SAME_MOMENT_S):
            await self.settled.wait()
        self._withheld.cancel()


async def tell_apart(cluster: LiveCluster, questions: Sequence[Asking]) -> None:
    """End questions that nodes withhold the answers to; it ends with the last one.

    A node answers in the order in which it was asked, also while it trains. So a ping behind a question that
    takes long tells a slow node from one that withholds its answer, however long either takes. One watcher
    sees to all nodes that were asked at one time: most questions end before it has anything to do.
    """
    await anyio.sleep(cluster.context.patience.prediction_s)
    async with anyio.create_task_group() as group:
        for asking in questions:
            if not asking.settled.is_set():
                group.start_soon(asking.ping)
