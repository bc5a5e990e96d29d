"""What a cluster was declared to be and what it is now.

Only the methods here change it. What predict and status read of the model is one value that is replaced as a
whole, so they take no lock.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from flow_nexus_neural.coordination.ledger import GENESIS, Head
from flow_nexus_neural.coordination.topology import Graph
from flow_nexus_neural.engine.reports import FinalMetrics
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.autonomy_log import AutonomyLog
from flow_nexus_neural.engine.state.feedback import Feedback
from flow_nexus_neural.engine.state.metrics import Metrics
from flow_nexus_neural.engine.state.slots import Slot, SlotBook
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion
from flow_nexus_neural.errors import ClusterTerminated, TrainingNotFound
from flow_nexus_neural.vocabulary import Architecture, Consensus, Topology


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
            name=request.name or "",
            topology=request.topology,
            architecture=request.architecture,
            consensus=request.consensus,
            wasm_optimization=request.wasm_optimization,
            daa_enabled=request.daa_enabled,
            seed=seed,
        )

    def differences(self, request: InitRequest) -> dict[str, tuple[object, object]]:
        """Fields in which a request asks for something else, with both values."""
        asked = request.model_dump(exclude={"reuse", "restore", "version"})
        if request.seed is None:
            del asked["seed"]
        if request.restore is not None:  # what was not said stays as it was
            asked = {name: asked[name] for name in request.model_fields_set & asked.keys()}
        mine = {name: getattr(self, name) for name in asked}
        return {name: (mine[name], asked[name]) for name in asked if mine[name] != asked[name]}


@dataclass(frozen=True)
class Links:
    """How the nodes are linked now."""

    topology: Topology
    epoch: int
    graph: Graph
    members: tuple[str, ...]


def _genesis() -> Head:
    return Head(prev_sha=GENESIS, next_seq=0, versions={})


@dataclass
class ClusterState:
    """Everything the engine knows of a cluster, apart from what runs.

    Attributes:
        clock: Seconds of a monotonic clock.
        created_at_s: Monotonic time of its creation or, after a restart of the server, of reading it back.
        ledger_head: Where the next ledger entry goes.
        links: None before the first connect.
        topology_epoch: Counts changes of the links.
        committed: What serves and is reported; None before the first version.
        installing: A version that is durable and being loaded into the nodes; it will be `committed`.
        networks_made: Network groups that ever were; a new one gets a key that no other had.
        preparing: A training is being prepared; no other may start.
        predictions_waiting: Predictions being answered now.
        end_recorded: That it was terminated is durable.
        final: What a terminated cluster had reached.
        fell_back: A version that took the place of a damaged one, and what is said while it is in force.
        lost_commits: What is to be said where the disk lost the last commits of the cluster.
        last_topology: How the nodes were linked when it was terminated, or when the former server ended;
            None where they were not.
        artifacts_deleted: Its files were deleted on request, so that it cannot come back.
        feedback: What it was told of the outcomes of its predictions.
    """

    cluster_id: str
    spec: ClusterSpec
    created_at: str
    clock: Callable[[], float]
    created_at_s: float
    slots: SlotBook = field(default_factory=SlotBook)
    ledger_head: Head = field(default_factory=_genesis)
    links: Links | None = None
    topology_epoch: int = 0
    committed: CommittedVersion | None = None
    installing: CommittedVersion | None = None
    networks_made: int = 0
    trainings: list[Training] = field(default_factory=list)
    preparing: bool = False
    predictions_waiting: int = 0
    autonomy: AutonomyLog = field(default_factory=AutonomyLog)
    terminated_at: str | None = None
    end_recorded: bool = False
    final: FinalMetrics | None = None
    lost_commits: str | None = None
    fell_back: tuple[int, str] | None = None
    last_topology: Topology | None = None
    artifacts_deleted: bool = False
    feedback: Feedback = field(default_factory=Feedback)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.clock)

    @property
    def topology(self) -> Topology:
        """The current topology, or the last of a cluster that has ended; the declared one before that."""
        if self.links is not None:
            return self.links.topology
        return self.last_topology or self.spec.topology

    @property
    def cautions(self) -> tuple[str, ...]:
        """What every reply about it has to say."""
        damage = self.autonomy.audit_damage
        audit = None if damage is None else f"the audit log of autonomy was altered: {damage}"
        told = (self.lost_commits, self._fell_back, audit, self._lost_numbers)
        return tuple(text for text in told if text is not None)

    @property
    def _fell_back(self) -> str | None:
        of = self.committed
        if of is None or self.fell_back is None or self.fell_back[0] != of.version:
            return None
        return self.fell_back[1]

    @property
    def _lost_numbers(self) -> str | None:
        """What is gone where other workers answer than those that were measured; None where they do not."""
        of = self.committed
        if of is None or of.evaluation is not None:
            return None
        if of.bundle.calibrators or of.bundle.conformal or of.bundle.roles.learnt:
            return None  # only its weights were averaged anew
        return (
            "what answers now is not the model that was measured: accuracy, calibration, prediction"
            " sets and what other roles had learnt are gone until the next training"
        )

    @property
    def bundle(self) -> Bundle | None:
        """What answers predictions."""
        return self.committed.bundle if self.committed else None

    @property
    def durable_version(self) -> CommittedVersion | None:
        """The newest version that the ledger holds; it may not serve yet."""
        return self.installing or self.committed

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

    def uptime_s(self) -> float:
        """Seconds since the cluster was created or read back; they stand still once it is terminated."""
        final_s = self.final.uptime_seconds if self.final else None
        return final_s if final_s is not None else self.clock() - self.created_at_s

    def refuse_ended(self) -> None:
        """Stop what must not go on in a terminated cluster.

        Raises:
            ClusterTerminated: It is one.
        """
        if self.terminated_at is not None:
            raise was_terminated(
                self.cluster_id, self.terminated_at, deleted=self.artifacts_deleted
            )

    def with_current_members(self, version: CommittedVersion) -> CommittedVersion:
        """A version as it has to serve now: slots that joined since it was made, none that was removed."""
        joined = self.committed.members if self.committed else {}
        return version.with_members(joined, self.slots.names())

    def begin_install(self, version: CommittedVersion) -> CommittedVersion:
        """A version is durable and about to be loaded into the nodes; returns it as it has to serve."""
        self.installing = self.with_current_members(version)
        return self.installing

    def finish_install(self) -> None:
        """The version being installed is in force."""
        if self.installing is not None:
            self.committed, self.installing = self.installing, None

    def commit(self, version: CommittedVersion) -> None:
        """Put a version in force whose weights the nodes hold already."""
        self.committed = self.with_current_members(version)

    def serve(self, slot: str, key: str) -> None:
        """Let a slot serve a network group, in the version in force and in one being installed."""
        if self.committed is not None and self.committed.network_of(slot) is None:
            self.committed = self.committed.with_slot(slot, key)
        installing = self.installing
        if installing is None or key not in installing.networks:
            return
        if installing.network_of(slot) is None:
            self.installing = installing.with_slot(slot, key)

    def remove_slot(self, slot: Slot) -> None:
        """Forget a slot that never came up: it has no name, serves nothing, and does not come back."""
        self.slots.remove(slot)
        if self.committed is not None:
            self.committed = self.committed.without_slot(slot.name)
        if self.installing is not None:
            self.installing = self.installing.without_slot(slot.name)

    def retire_slot(self, slot: Slot) -> None:
        """A slot that was healthy once is no member any more; its name is not used again."""
        slot.move("retired")
        if self.committed is not None:
            self.committed = self.committed.without_slot(slot.name)
        if self.installing is not None:
            self.installing = self.installing.without_slot(slot.name)

    def link(self, topology: Topology, graph: Graph, members: tuple[str, ...]) -> int:
        """The healthy nodes are to be linked in this way; returns the new epoch."""
        self.topology_epoch += 1
        self.links = Links(topology, self.topology_epoch, graph, members)
        return self.topology_epoch

    def restore(
        self,
        *,
        topology_epoch: int,
        networks_made: int,
        committed: CommittedVersion | None,
        final: FinalMetrics | None,
        last_topology: Topology | None,
    ) -> None:
        """Bring a cluster that was just read back to what was stored of it."""
        self.last_topology = last_topology
        self.topology_epoch, self.networks_made = topology_epoch, networks_made
        self.committed, self.final = committed, final

    def advance_ledger(self, head: Head) -> None:
        """Entries were made durable; the next one continues here."""
        self.ledger_head = head

    @contextmanager
    def preparing_training(self) -> Iterator[None]:
        """Keep other trainings from starting while one is prepared."""
        self.preparing = True
        try:
            yield
        finally:
            self.preparing = False

    def restore_training(self, training: Training) -> None:
        """A training that was stored."""
        self.trainings.append(training)

    def restart_clock(self) -> None:
        """Count the uptime from now, when the cluster was read back."""
        self.created_at_s = self.clock()

    def add_training(self, training: Training, *, new_networks: int) -> None:
        """A training starts that brings so many network groups that the cluster never had."""
        self.trainings.append(training)
        self.networks_made += new_networks

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a prediction while it is being answered."""
        self.predictions_waiting += 1
        try:
            yield
        finally:
            self.predictions_waiting -= 1

    def end(self, at: str) -> None:
        """It is terminated; when it was first ended counts."""
        self.terminated_at = self.terminated_at or at

    def record_final(self, final: FinalMetrics) -> None:
        """Keep what it had reached."""
        self.final = final

    def forget_weights(self) -> None:
        """That it ended is durable; nobody will ask for its weights again."""
        self.end_recorded = True
        if self.committed is not None:
            self.committed = self.committed.without_weights()

    def forget_model(self) -> None:
        """Its checkpoint files are given up."""
        self.committed, self.artifacts_deleted = None, True
        self.feedback = Feedback()

    def note_fall_back(self, version: int, told: str) -> None:
        """This version took the place of a damaged one."""
        self.fell_back = (version, told)

    def note_feedback(self, feedback: Feedback) -> None:
        """What it has learnt from outcomes is durable."""
        self.feedback = feedback

    def reopen(self, name: str | None, linked_as: Topology | None) -> None:
        """It goes on after its end.

        Args:
            name: Its new name; None for the one that it had.
            linked_as: How its nodes were linked; None where they were not.
        """
        self.final, self.last_topology = None, linked_as
        if name is not None:
            self.spec = replace(self.spec, name=name)


def was_terminated(cluster_id: str, at: str, *, deleted: bool = False) -> ClusterTerminated:
    """What to say of something that must not go on in a terminated cluster.

    Args:
        cluster_id: Its id.
        at: When it ended.
        deleted: Its files were deleted.
    """
    back = f"bring it back with neural_cluster_init (restore {cluster_id!r}), or "
    return ClusterTerminated(
        f"cluster {cluster_id} was terminated at {at}" + (" and its files were deleted" * deleted),
        hint=("" if deleted else back) + "create a cluster with neural_cluster_init",
    )
