"""A cluster while the server runs: its state, and what acts on it.

The rooms above (nodes, links, training) put their part into it; what the rooms below need of such a part is
said here as a protocol, so that no import points upwards.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

import anyio
import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.step_cost import Ordered
from flow_nexus_neural.coordination.topology import Edge, Graph
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.reports import NodeBackend
from flow_nexus_neural.engine.state.changes import Changes
from flow_nexus_neural.engine.state.cluster import ClusterSpec, ClusterState
from flow_nexus_neural.engine.state.feedback import InputDrift, RecentPredictions
from flow_nexus_neural.engine.state.metrics import Category, Metrics
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot, SlotBook
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.ledger_writer import LedgerWriter
from flow_nexus_neural.runtime.base import MemoryReading


class LinkTable(Protocol):
    """The links of a cluster, as the rest of the engine sees them; `links.wiring.Wiring` is the real one."""

    async def rewire(self, graph: Graph, epoch: int) -> None:
        """Link the nodes in another way."""
        ...

    async def join(self, slot: Slot) -> None:
        """Give a slot's new process the edges of its slot."""
        ...

    async def leave(self, slot: Slot, node_id: str) -> None:
        """Take the edges of one incarnation away."""
        ...

    def close(self) -> None:
        """Give up every buffer; for when the processes are gone."""
        ...

    def working(self) -> list[Edge]:
        """Edges whose ends both live and were seen to read each other."""
        ...

    def degree(self, name: str) -> int:
        """Working edges of one slot."""
        ...

    def latency_ms(self, edge: Edge) -> float | None:
        """Time in which one end reads the other; None where that is not known."""
        ...

    def faults(self) -> Mapping[Edge, str]:
        """Edges that do not work, and why."""
        ...


class RunningTraining(Protocol):
    """A training in progress as the rest of the engine sees it; really `training.run.TrainingRun`."""

    training: Training
    ended: anyio.Event
    rows_last_round: int
    delivered: list[int]

    def stop(self) -> None:
        """End it after what is being committed."""
        ...

    def interrupt(self) -> None:
        """End it because the server ends; it is then reported as interrupted."""
        ...

    def at_next_boundary(self, change: Callable[[], Awaitable[None]]) -> None:
        """Run a change between two rounds, after those that wait already."""
        ...

    def network_of(self, slot: str) -> NetworkGroup | None:
        """The network group in which a slot trains; None when it does not."""
        ...

    @property
    def shards(self) -> Mapping[str, NDArray[np.int64]]:
        """Row numbers of every slot's shard."""
        ...

    @property
    def least_workers(self) -> int:
        """Healthy workers without which no round can be done."""
        ...

    @property
    def is_steered(self) -> bool:
        """Whether it follows `steer`; nothing is decided about a training that does not."""
        ...

    def steer(self, **changes: float | str | None) -> None:
        """Change its course from the next boundary on; see `state.steering`."""
        ...

    def back_to_best(self) -> None:
        """Go on from the best round's weights, which are in force from the next boundary on."""
        ...

    async def reshard(self, workers: Sequence[Slot]) -> int:
        """Divide the training rows anew among these workers; returns how many shards changed."""
        ...


class Voters(Protocol):
    """The voters of a cluster under raft as its status sees them; really `raft.group.VoterGroup`."""

    @property
    def missing(self) -> str | None:
        """Why nothing can be decided now; None where it can."""
        ...


class Backends(Protocol):
    """What computes the predictions of a cluster's nodes; really `wasm.serving.WasmServing`."""

    @property
    def unusable(self) -> str | None:
        """Why no node can run WebAssembly; None where some may."""
        ...

    @property
    def active(self) -> bool:
        """Whether WebAssembly answers some batches of some node now."""
        ...

    def consider(self) -> None:
        """Something changed."""
        ...

    def answers(self, slot: Slot, committed: CommittedVersion, rows: int) -> bool:
        """Whether WebAssembly answers a batch of this size for a node that lives."""
        ...

    def is_fresh(self, slot: Slot) -> bool:
        """Whether the node was just heard to live."""
        ...

    def outputs(
        self, slot: Slot, committed: CommittedVersion, x: NDArray[np.float32]
    ) -> NDArray[np.float32] | None:
        """The answer; None where the node itself is to be asked."""
        ...

    def of(self, slot: Slot) -> NodeBackend:
        """What runs a node's predictions."""
        ...


class FilePrediction(Protocol):
    """A file being predicted as the rest of the engine sees it; really `prediction.predict_file.FileJob`."""

    async def stop(self) -> None:
        """End it; nothing of its output is left when this returns."""
        ...


@dataclass(frozen=True)
class MemoryReadings:
    """The last readings of the nodes' memory, by slot, and when they were made."""

    read_at_s: float = float("-inf")
    by_slot: dict[str, MemoryReading | None] = field(default_factory=dict)


@dataclass
class LiveCluster:
    """A cluster and what acts on it.

    Attributes:
        wiring: Which node may read whose link buffer, and which edges work.
        run: The training in progress; None between trainings.
        file: The file being predicted, or the last one as long as nobody asked what became of it.
        memory: What the nodes occupied when last looked at.
        voters: Who agrees on versions, under raft; None under every other mode, and before anybody asked.
        changes: Wakes calls that wait for a change.
        looked: Wakes a training that waits for autonomy to have seen its last round.
        reviving: Held while slots without a process are started again.
        changing: Held while links change or a training is prepared, so that no two rest on one version.
        ending: Held while the cluster is terminated.
        recording: Held while outcomes are made durable.
        recent: Predictions whose outcomes may still come.
        inputs: How far recent inputs were from the training rows when last looked at.
        comparing: Held while that is looked at.
        backends: What computes the predictions of its nodes; None where nodes always do.
        stepped_s: By process that several nodes share, when one of them was last seen to get on.
        ordered: By slot, the training that it was asked for and has not answered.
    """

    context: EngineContext
    state: ClusterState
    wiring: LinkTable
    run: RunningTraining | None = None
    file: FilePrediction | None = None
    memory: MemoryReadings = field(default_factory=MemoryReadings)
    voters: Voters | None = None
    changes: Changes = field(default_factory=Changes)
    looked: Changes = field(default_factory=Changes)
    reviving: anyio.Lock = field(default_factory=anyio.Lock)
    changing: anyio.Lock = field(default_factory=anyio.Lock)
    ending: anyio.Lock = field(default_factory=anyio.Lock)
    recording: anyio.Lock = field(default_factory=anyio.Lock)
    recent: RecentPredictions = field(default_factory=RecentPredictions)
    inputs: InputDrift | None = None
    comparing: anyio.Lock = field(default_factory=anyio.Lock)
    backends: Backends | None = None
    stepped_s: dict[int, float] = field(default_factory=dict)
    ordered: dict[str, Ordered] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._orders = count(1)
        self.ledger = LedgerWriter(self.context.store, self.state, self.context.timestamp)

    @property
    def cluster_id(self) -> str:
        """Its id."""
        return self.state.cluster_id

    @property
    def spec(self) -> ClusterSpec:
        """What it was declared to be."""
        return self.state.spec

    @property
    def slots(self) -> SlotBook:
        """Its slots."""
        return self.state.slots

    @property
    def metrics(self) -> Metrics:
        """What it measured about itself."""
        return self.state.metrics

    @property
    def committed(self) -> CommittedVersion | None:
        """What serves and is reported; None before the first version."""
        return self.state.committed

    @property
    def is_training(self) -> bool:
        """Whether a training runs or is being prepared."""
        return self.run is not None or self.state.preparing

    @contextmanager
    def ordering(self, slot: Slot, steps: int, step_s: float) -> Iterator[None]:
        """A slot is asked to make so many optimiser steps, of which each may take so long."""
        order = Ordered(next(self._orders), steps, step_s)
        self.ordered[slot.name] = order
        try:
            yield
        finally:
            if self.ordered.get(slot.name) is order:
                del self.ordered[slot.name]

    def calls(self, category: Category) -> NodeCalls:
        """Calls to its nodes, counted under one category of traffic."""
        return NodeCalls(self.metrics, self.context.clock, category, self.context.patience)

    def clock(self) -> float:
        """Seconds of a monotonic clock."""
        return self.context.clock()

    def begin_run(self, run: RunningTraining) -> None:
        """A training is in progress."""
        self.run = run

    def end_run(self) -> None:
        """No training is in progress any more."""
        self.run = None

    def begin_file(self, file: FilePrediction) -> None:
        """A file is being predicted."""
        self.file = file

    def end_file(self) -> None:
        """Somebody knows what became of the file."""
        self.file = None

    def begin_voting(self, voters: Voters) -> None:
        """From now on these agree on versions."""
        self.voters = voters

    def keep_memory(self, readings: MemoryReadings) -> None:
        """Remember what the nodes occupied."""
        self.memory = readings

    def keep_inputs(self, inputs: InputDrift) -> None:
        """Remember how far recent inputs were from the training rows."""
        self.inputs = inputs

    def compute_with(self, backends: Backends) -> None:
        """From now on these compute predictions."""
        self.backends = backends

    def changed(self) -> None:
        """Wake whoever waits for a change of this cluster, and tell the listeners."""
        self.changes.bump()
        if self.backends is not None:
            self.backends.consider()
        for listener in self.context.listeners:
            listener(self.cluster_id)
