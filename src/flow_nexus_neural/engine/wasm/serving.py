"""Which nodes' predictions are computed by WebAssembly in this process, and their computation.

A node's twin has the weights that the node was verified to hold. It answers in the node's place only as long
as the node lives: a slot without a process has no twin, and a process that has said nothing for `FRESH_S`
must answer a ping first. So a dead or frozen node is missing from a prediction as it would be without a twin.

Clusters whose nodes may lie (`byzantine`) always ask the nodes: there the answers also show who lies.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.backend_choice import Choice
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import NodeBackend
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.loading import holds_version
from flow_nexus_neural.engine.wasm.calibration import calibrate
from flow_nexus_neural.engine.wasm.twins import Twins
from flow_nexus_neural.wasm.machine import WasmTrap, availability

FRESH_S: Final = 0.25
"""A node that said something in this time lives, as far as a prediction is concerned."""
NOT_REQUESTED: Final = "wasmOptimization is false"
ONE_PROCESS: Final = "the nodes of this runtime live in the server's process"
MAY_LIE: Final = "under byzantine consensus the nodes themselves are asked"
NO_VERSION: Final = "there is no trained model yet"
LATER: Final = "it is measured when no training runs"
NOT_YET: Final = "it is being measured"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Measured:
    """A choice, and of what: it holds for one process with one network, and was measured with a version."""

    node_id: str
    plan_digest: str
    version: int
    choice: Choice

    def fits(self, slot: Slot, network: NetworkGroup) -> bool:
        """Whether it holds for a slot's process and network."""
        return (self.node_id, self.plan_digest) == (slot.node_id, network.plan_digest)


class WasmServing:
    """The back ends of one cluster's nodes."""

    def __init__(self, cluster: LiveCluster) -> None:
        self._cluster = cluster
        self._twins = Twins(cluster.context)
        self._measured: dict[str, _Measured] = {}
        self._flaws: dict[str, str] = {}
        """Why a network has no twin, by plan digest."""
        self._situation: object = None
        self._at_work = False
        self._asked: tuple[Floats, dict[str, Floats]] | None = None

    @property
    def unusable(self) -> str | None:
        """Why no node of this cluster can run WebAssembly; None where some may."""
        if not self._cluster.spec.wasm_optimization:
            return NOT_REQUESTED
        if not self._cluster.context.runtime.capabilities.processes:
            return ONE_PROCESS
        if self._cluster.spec.consensus == "byzantine":
            return MAY_LIE
        return availability().reason

    # answering

    def answers(self, slot: Slot, committed: CommittedVersion, rows: int) -> bool:
        """Whether a slot's twin answers a batch of this size, once the node was heard to live."""
        choice = self._choice(slot, committed)
        return choice is not None and choice.uses_wasm(rows)

    def is_fresh(self, slot: Slot) -> bool:
        """Whether the node said something just now."""
        return slot.healthy and self._cluster.clock() - slot.heard_at_s <= FRESH_S

    def outputs(self, slot: Slot, committed: CommittedVersion, x: Floats) -> Floats | None:
        """[rows, n_outputs] of the twin; None where it cannot answer, and the node itself is to be asked.

        Nodes with equal weights share one run of one question: their outputs are equal to the last bit.
        """
        network = committed.loaded_into(slot.name)
        twin = None if network is None else self._twins.get(network.digest)
        if network is None or network.digest is None or twin is None:
            return None
        if self._asked is None or self._asked[0] is not x:
            self._asked = x, {}
        shared = self._asked[1]
        if network.digest not in shared:
            try:
                outputs = twin.infer(x)
            except WasmTrap:
                self._twins.drop(network.digest)
                return None
            except ValueError:  # rows that it does not take: the node says what is wrong with them
                return None
            if not np.isfinite(outputs).all():
                return None
            shared[network.digest] = outputs
        return shared[network.digest]

    def _choice(self, slot: Slot, committed: CommittedVersion) -> Choice | None:
        """What was chosen for a slot's process, if its twin for this version is ready."""
        found, network = self._measured.get(slot.name), committed.loaded_into(slot.name)
        if found is None or network is None or not slot.healthy:
            return None
        ready = self._twins.get(network.digest) is not None
        usable = found.fits(slot, network) and ready
        return found.choice if usable and holds_version(self._cluster, slot, committed) else None

    # reporting

    def of(self, slot: Slot) -> NodeBackend:
        """What runs a slot's predictions."""
        requested, committed = self._cluster.spec.wasm_optimization, self._cluster.committed
        choice = None if committed is None else self._choice(slot, committed)
        if choice is None:
            return NodeBackend(
                requested=requested, backend={}, speedup_measured={}, reason=self._why(slot)
            )
        return NodeBackend(
            requested=requested,
            backend={str(bucket): name for bucket, name in choice.backend.items()},
            speedup_measured={str(bucket): round(x, 2) for bucket, x in choice.speedup.items()},
            reason=choice.reason,
        )

    def _why(self, slot: Slot) -> str:
        """Why nothing was chosen for a slot."""
        committed = self._cluster.committed
        unusable = self.unusable
        if unusable is not None:
            return unusable
        network = None if committed is None else committed.loaded_into(slot.name)
        if network is None:
            return NO_VERSION if committed is None else "it has no network of this version"
        if not slot.healthy:
            return f"the node is {slot.state}"
        found = self._measured.get(slot.name)
        if found is not None and found.node_id == slot.node_id and found.choice.reason:
            return found.choice.reason
        return self._flaws.get(network.plan_digest) or (
            LATER if self._cluster.is_training else NOT_YET
        )

    @property
    def active(self) -> bool:
        """Whether WebAssembly answers some batches of some node now."""
        committed = self._cluster.committed
        if committed is None:
            return False
        choices = [self._choice(slot, committed) for slot in self._cluster.slots]
        return any(choice is not None and choice.active for choice in choices)

    # keeping up

    def consider(self) -> None:
        """Something changed: see to it that twins and choices fit, in a task of its own."""
        if self._at_work or self.unusable is not None or self._seen() == self._situation:
            return
        self._at_work = True
        self._cluster.context.spawn(self._keep_up)

    def _seen(self) -> object:
        """What twins and choices depend on."""
        cluster = self._cluster
        committed = cluster.committed
        if committed is None or cluster.state.terminated_at is not None:
            return None
        holding = tuple(
            slot.node_id
            for slot in cluster.slots
            if slot.healthy and holds_version(cluster, slot, committed)
        )
        return id(committed), committed.version, holding, cluster.is_training

    async def _keep_up(self) -> None:
        try:
            while (seen := self._seen()) != self._situation:
                committed = self._cluster.committed
                if seen is None or committed is None:
                    self._twins.keep_only(())
                else:
                    await self._fit(committed)
                self._situation = seen
        finally:
            self._at_work = False
        self._cluster.changed()

    async def _fit(self, committed: CommittedVersion) -> None:
        """Twins of a version, and choices where nobody trains."""
        cluster = self._cluster
        wanted = [*committed.networks.values(), *committed.bundle.roles.networks.values()]
        self._twins.keep_only({network.digest or "" for network in wanted})
        for slot in cluster.slots:
            network = committed.loaded_into(slot.name)
            if network is not None and slot.healthy:
                await self._fit_one(slot, committed, network)

    async def _fit_one(
        self, slot: Slot, committed: CommittedVersion, network: NetworkGroup
    ) -> None:
        cluster, known = self._cluster, self._measured.get(slot.name)
        fits = known is not None and known.fits(slot, network)
        if cluster.is_training and not (fits and known is not None and known.choice.active):
            return  # its twin would not be used
        flaw = await self._twins.bring(network)
        twin = self._twins.get(network.digest)
        if twin is None:
            self._flaws[network.plan_digest] = flaw or NOT_YET
            return
        measured = fits and known is not None and known.version == committed.version
        if measured or cluster.is_training or not holds_version(cluster, slot, committed):
            return
        node_id, choice = slot.node_id, await calibrate(cluster, slot, committed, twin)
        if choice is not None:
            version = committed.version
            self._measured[slot.name] = _Measured(node_id, network.plan_digest, version, choice)
