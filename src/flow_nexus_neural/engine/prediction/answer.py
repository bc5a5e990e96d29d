"""What a reply is made of: the version that answered, and what its nodes said."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.backend_choice import Backend
from flow_nexus_neural.coordination.quorum import (
    RobustQuorum,
    prediction_quorum,
    robust_quorum,
)
from flow_nexus_neural.data.schema import Adapted
from flow_nexus_neural.engine.prediction.weighting import BY_CALLER, Weighting
from flow_nexus_neural.engine.requests import PredictRequest
from flow_nexus_neural.engine.state.roles import Purpose
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.served import routed
from flow_nexus_neural.kernels.conformal import LEVEL, AdaptiveLevel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """Everything a reply is made of.

    Attributes:
        slots: Expected slots in slot order.
        logits: [rows, n_outputs] of those that answered.
        weighting: The weights of all expected slots.
        levels: Where sets and intervals are cut after outcomes, by aggregation; {} before any.
        cautions: What is to be said of the cluster, whatever was asked.
        undecided: Why no later version can be committed now; None where one can.
        stacked: [rows, n_outputs] mean outputs of the stacking networks; None where none answered.
        sure: [rows] P(the decision is right) by validators; None where none was asked or answered.
        students: [rows, n_outputs] of the distilled students that answered, by slot.
        student_slots: Those, in slot order.
        backends: What computed the answers of those that answered.
        role_excluded: Nodes of other roles that were wanted and did not answer, with reasons.
    """

    committed: CommittedVersion
    request: PredictRequest
    adapted: Adapted
    slots: Sequence[Slot]
    logits: Mapping[str, Floats]
    latency_ms: Mapping[str, float]
    excluded: Mapping[str, str]
    weighting: Weighting
    elapsed_ms: float
    levels: Mapping[str, AdaptiveLevel] = field(default_factory=dict)
    cautions: Sequence[str] = ()
    undecided: str | None = None
    stacked: Floats | None = None
    sure: Floats | None = None
    students: Mapping[str, Floats] = field(default_factory=dict)
    student_slots: Sequence[Slot] = ()
    role_excluded: Mapping[str, str] = field(default_factory=dict)
    backends: Mapping[str, Backend] = field(default_factory=dict)

    @property
    def level(self) -> Fraction | None:
        """At which sets and intervals are cut; None where only everything would do."""
        adapted = self.levels.get(self.request.aggregation)
        return LEVEL if adapted is None else adapted.level

    @property
    def routes(self) -> bool:
        """Whether symbols of records may give weight to slots; not to weights that the caller chose."""
        return self.weighting.source != BY_CALLER and len(self.adapted.symbols) == len(
            self.adapted.x
        )

    def weights_of(self, slots: Sequence[Slot]) -> Floats:
        """[K] weights of these slots, or [K, rows]."""
        own = {slot.name: self.weighting.by_slot[slot.name] for slot in slots}
        symbols = self.adapted.symbols if self.routes else []
        return routed(self.committed.bundle, own, symbols)

    @property
    def stacks(self) -> bool:
        """Whether stacking networks are to say what `ensemble` serves."""
        wanted = self.request.aggregation == "ensemble"
        decides = self.quorum is None or self.quorum.met
        return (
            wanted
            and decides
            and not self.by_student
            and self.committed.bundle.roles.uses("stacker")
        )

    @property
    def one_model(self) -> bool:
        """Whether all expected slots serve the same weights."""
        return len({digest_of(self, slot) for slot in self.slots}) == 1

    @property
    def lacks_nodes(self) -> bool:
        """Whether students are to answer: nobody else does, or too few of nodes that differ.

        Of nodes that are alike any one answers as all do. Never where one node's word is not enough.
        """
        if self.committed.bundle.robust:
            return False
        few = not prediction_quorum(len(self.slots), len(self.logits)).met
        return not self.logits or (few and not self.one_model)

    @property
    def by_student(self) -> bool:
        """Whether students answer in the place of the serving nodes."""
        return self.lacks_nodes and bool(self.students)

    @property
    def tellers(self) -> Sequence[Slot]:
        """Those whose answers the reply rests on, in slot order."""
        return self.student_slots if self.by_student else self.answered

    @property
    def student(self) -> Floats | None:
        """[rows, n_outputs] mean of the students; None where none answered."""
        told = list(self.students.values())
        return np.mean(told, axis=0) if told else None

    def missing(self, purpose: Purpose) -> dict[str, str]:
        """Nodes of one role that were wanted and did not answer, with reasons."""
        trained = self.committed.bundle.roles.for_purpose(purpose)
        return {slot: why for slot, why in self.role_excluded.items() if slot in trained}

    @property
    def threshold(self) -> float:
        """At which two classes are decided: the caller's, else the version's."""
        own = self.request.threshold
        return self.committed.bundle.rule.threshold if own is None else own

    @property
    def quorum(self) -> RobustQuorum | None:
        """The answers that it takes to decide although nodes may lie; None for a bundle that trusts them."""
        if not self.committed.bundle.robust:
            return None
        return robust_quorum(len(self.slots), len(self.logits))

    @property
    def answered(self) -> list[Slot]:
        """Slots that answered, in slot order."""
        return [slot for slot in self.slots if slot.name in self.logits]


def digest_of(answer: Answer, slot: Slot) -> str | None:
    """Digest of the weights with which a slot serves the version; None for one that does not."""
    network = answer.committed.loaded_into(slot.name)
    return network.digest if network else None
