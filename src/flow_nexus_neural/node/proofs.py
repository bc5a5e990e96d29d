"""Proof-of-learning in a node: commits to the states of a training, reveals one, executes a segment again.

States are kept, not trained again when one is asked for: half a training on average would have to be repeated
for each. The engine cuts a training into so few segments that they fit `SNAPSHOT_BYTES`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.proof_of_learning import chain
from flow_nexus_neural.node.network import Network
from flow_nexus_neural.node.trainer import Part, Shard, StepWatch, Workspace, train
from flow_nexus_neural.protocol.digest import training_digest
from flow_nexus_neural.protocol.messages import Commitment, ProofOrder, Reexecute, Train

State = Mapping[str, NDArray[np.float32]]


class SegmentLog:
    """The states between the segments of one training.

    Args:
        workspace: In which it trains; holds the base when this is made.
        request: The assignment.
        order: Its order of a proof.

    Attributes:
        base: Key of the region that the training started from.
        optimizer: Whose moments the states have.
    """

    def __init__(self, workspace: Workspace, request: Train, order: ProofOrder) -> None:
        self.base, self.optimizer = request.base, request.optimizer
        self._workspace = workspace
        self._request = request
        self._order = order
        self._digests: list[str] = []
        self._states: dict[int, dict[str, NDArray[np.float32]]] = {}
        self._steps = 0
        self._recorded = 0
        self._cpu_s = 0.0
        self._record()

    def stepped(self) -> None:
        """An optimiser step was made."""
        self._steps += 1
        if self._steps % self._order.segment_steps == 0:
            self._record()

    def commit(self) -> Commitment:
        """The training is complete; its last segment may be shorter, or empty where no step was made."""
        if self._steps > self._recorded or self._steps == 0:
            self._record()
        head = chain(self._order.context, self._digests)
        return Commitment(states=tuple(self._digests), head=head, cpu_s=self._cpu_s)

    def reveal(self, segment: int, into: State) -> float:
        """Copy the state before a segment; returns the CPU seconds.

        Raises:
            LookupError: There is no such segment.
        """
        if segment not in self._states:
            raise LookupError(f"the state before segment {segment} is not kept")
        began_s = time.thread_time()
        for name, vector in self._states[segment].items():
            np.copyto(into[name], vector)
        return time.thread_time() - began_s

    def _record(self) -> None:
        began_s = time.thread_time()
        segment = len(self._digests)  # the one that begins with this state
        self._digests.append(state_of_training(self._workspace, self._request, self._steps))
        # The first state is the base, which the engine has; the last one is published.
        if 0 < self._steps < self._order.steps:
            state = self._workspace.state(self.optimizer)
            self._states[segment] = {name: vector.copy() for name, vector in state.items()}
        self._recorded = self._steps
        self._cpu_s += time.thread_time() - began_s


def state_of_training(workspace: Workspace, request: Train, steps: int) -> str:
    """Training digest of a workspace after so many steps of an assignment."""
    return training_digest(workspace.state(request.optimizer), request.opt_step + steps)


@dataclass(frozen=True, slots=True)
class Given:
    """What a segment is executed on, all of it from the engine but the state.

    Attributes:
        shard: The rows.
        state: As the worker revealed it; only its vectors are read.
        anchor: As in `trainer.Part`.
        correction: As in `trainer.Part`.
    """

    shard: Shard
    state: dict[str, NDArray[Any]]
    anchor: NDArray[Any] | None = None
    correction: NDArray[Any] | None = None


def execute_segment(
    network: Network, workspace: Workspace, request: Reexecute, given: Given, watch: StepWatch
) -> tuple[str, str]:
    """Execute a segment again; returns the training digests before and after it.

    Only vectors are read from the revealed state: a learning rate that came with it would be the worker's.

    Raises:
        ValueError: The assignment orders no proof, or as `trainer.train`.
    """
    order = request.work.proof
    if order is None:
        raise ValueError("the assignment orders no proof, so it has no segments")
    workspace.load(given.state, request.work.optimizer)
    first = request.segment * order.segment_steps
    # Of the copy, not of the region: its writer may change that at any time.
    before = state_of_training(workspace, request.work, first)
    part = Part(first, first + order.segment_steps, given.anchor, given.correction)
    done = train(network, workspace, given.shard, request.work, watch, part)
    return before, state_of_training(workspace, request.work, first + done.steps)
