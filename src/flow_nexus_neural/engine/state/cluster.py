"""One cluster: what it was declared to be, what it is now, and the order in which it may change.

What predict and status read of the model is one value that is replaced as a whole, so they take no lock.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from pydantic import JsonValue

from flow_nexus_neural.coordination.ledger import GENESIS
from flow_nexus_neural.coordination.topology import Graph
from flow_nexus_neural.engine.autonomy.observe import AutonomyLog
from flow_nexus_neural.engine.calls.calls import NodeCalls
from flow_nexus_neural.engine.links.grants import Wiring
from flow_nexus_neural.engine.nodes.memory_readings import MemoryWatch
from flow_nexus_neural.engine.requests import Architecture, Consensus, InitRequest, Topology
from flow_nexus_neural.engine.state.changes import Changes
from flow_nexus_neural.engine.state.metrics import Metrics
from flow_nexus_neural.engine.state.network_groups import Bundle
from flow_nexus_neural.engine.state.slots import SlotBook
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import Committed
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.errors import ClusterTerminated, TrainingNotFound

if TYPE_CHECKING:
    from flow_nexus_neural.engine.training.run import TrainingRun


@dataclass(frozen=True)
class ClusterSpec:
    """The declared settings of a cluster."""

    name: str
    topology: Topology
    architecture: Architecture
    consensus: Consensus
    wasm_optimization: bool
    daa_enabled: bool
    seed: int

    @classmethod
    def of(cls, request: InitRequest, seed: int) -> "ClusterSpec":
        """From a request whose seed has been drawn."""
        return cls(
            name=request.name,
            topology=request.topology,
            architecture=request.architecture,
            consensus=request.consensus,
            wasm_optimization=request.wasm_optimization,
            daa_enabled=request.daa_enabled,
            seed=seed,
        )

    def differences(self, request: InitRequest) -> dict[str, tuple[object, object]]:
        """Fields in which a request asks for something else, with both values."""
        asked = request.model_dump(exclude={"reuse"})
        if request.seed is None:
            del asked["seed"]
        mine = {name: getattr(self, name) for name in asked}
        return {name: (mine[name], asked[name]) for name in asked if mine[name] != asked[name]}


@dataclass(frozen=True)
class Links:
    """How the nodes are linked now."""

    topology: Topology
    epoch: int
    graph: Graph
    members: tuple[str, ...]


@dataclass
class LedgerHead:
    """Where the next ledger entry goes."""

    seq: int = 0
    sha: str = GENESIS
    versions: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Cluster:
    """A cluster and everything the engine knows of it.

    Attributes:
        changing: Held while links change or a training is prepared, so that no two rest on one version.
        ending: Held while the cluster is terminated.
        head: Where the next ledger entry goes; moved under `ledger_lock`.
        links: None before the first connect.
        wiring: Who may read whose link buffer, and which edges work.
        committed: What serves and is reported; None before the first version.
        installing: A version that is durable and on its way into the nodes; it will be `committed`.
        networks_made: Networks that ever were; a new network gets a key that no other had.
        run: The training in progress; None between trainings.
        reserved: A training is being prepared; no other may start.
        predictions_waiting: Predictions being answered now.
        end_recorded: That it was terminated is durable.
        final: What a terminated cluster had reached.
    """

    cluster_id: str
    spec: ClusterSpec
    created_at: str
    clock: Callable[[], float]
    created_at_s: float
    slots: SlotBook = field(default_factory=SlotBook)
    changes: Changes = field(default_factory=Changes)
    reviving: anyio.Lock = field(default_factory=anyio.Lock)
    ledger_lock: anyio.Lock = field(default_factory=anyio.Lock)
    changing: anyio.Lock = field(default_factory=anyio.Lock)
    ending: anyio.Lock = field(default_factory=anyio.Lock)
    head: LedgerHead = field(default_factory=LedgerHead)
    links: Links | None = None
    topology_epoch: int = 0
    committed: Committed | None = None
    installing: Committed | None = None
    networks_made: int = 0
    trainings: list[Training] = field(default_factory=list)
    run: "TrainingRun | None" = None
    reserved: bool = False
    predictions_waiting: int = 0
    memory: MemoryWatch = field(default_factory=MemoryWatch)
    autonomy: AutonomyLog = field(default_factory=AutonomyLog)
    terminated_at: str | None = None
    end_recorded: bool = False
    final: dict[str, JsonValue] | None = None

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.clock)
        self.wiring = Wiring(self.slots, NodeCalls(self, "sync"))

    @property
    def topology(self) -> Topology:
        """The current topology; the declared one before the first connect."""
        return self.links.topology if self.links else self.spec.topology

    @property
    def bundle(self) -> Bundle | None:
        """What answers predictions."""
        return self.committed.bundle if self.committed else None

    @property
    def latest_training(self) -> Training | None:
        """The newest training, running or past."""
        return self.trainings[-1] if self.trainings else None

    def training(self, training_id: str) -> Training:
        """A training by its id.

        Raises:
            TrainingNotFound: The cluster has none of this id.
        """
        for training in self.trainings:
            if training.training_id == training_id:
                return training
        known = ", ".join(t.training_id for t in self.trainings[-8:]) or "none"
        raise TrainingNotFound(
            f"cluster {self.cluster_id} has no training {training_id!r}; it has {known}",
            hint="take the id from neural_train_distributed or neural_cluster_status",
        )

    @property
    def is_training(self) -> bool:
        """Whether a training runs or is being prepared."""
        return self.run is not None or self.reserved

    def uptime_s(self) -> float:
        """Seconds since the cluster was created or, after a restart of the server, read back.

        They stand still once it is terminated.
        """
        final_s = (self.final or {}).get("uptime_seconds")
        return final_s if isinstance(final_s, int) else self.clock() - self.created_at_s

    def to_row(self, committed: Committed | None = None) -> ClusterRow:
        """The durable part: everything but slots, trainings and ledger, which have rows of their own.

        Args:
            committed: A version that is about to be committed, in place of the one in force.
        """
        model = committed or self.installing or self.committed
        spec: dict[str, JsonValue] = {
            "topology": self.spec.topology,
            "architecture": self.spec.architecture,
            "consensus": self.spec.consensus,
            "wasm_optimization": self.spec.wasm_optimization,
            "daa_enabled": self.spec.daa_enabled,
            "seed": self.spec.seed,
        }
        state: dict[str, JsonValue] = {
            "topology": self.links.topology if self.links else None,
            "topology_epoch": self.topology_epoch,
            "cohorts_made": self.networks_made,
            "committed": model.to_json() if model else None,
            "communication": self.metrics.communication().model_dump(mode="json"),
            "final": self.final,
        }
        return ClusterRow(
            cluster_id=self.cluster_id,
            name=self.spec.name,
            created_at=self.created_at,
            terminated_at=self.terminated_at,
            spec=spec,
            state=state,
        )


def refuse_ended(cluster: Cluster) -> None:
    """Stop what must not go on in a terminated cluster.

    Raises:
        ClusterTerminated: It is one.
    """
    if cluster.terminated_at is not None:
        raise ClusterTerminated(
            f"cluster {cluster.cluster_id} was terminated at {cluster.terminated_at}",
            hint="create a cluster with neural_cluster_init",
        )
