"""What the networks of aggregators, validators and parameter servers learnt, as one bundle holds it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Final, Literal, Self

from pydantic import JsonValue

from flow_nexus_neural.coordination.role_gates import Gate
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.stacking import StackLayout
from flow_nexus_neural.vocabulary import Aggregation, Role

Purpose = Literal["stacker", "confidence", "student"]

ROLE_OF: Final[Mapping[Purpose, Role]] = {
    "stacker": "aggregator",
    "confidence": "validator",
    "student": "parameter_server",
}
STUDENT: Final = "student"
"""Name of the student's column among the slots of a stacking network."""


@dataclass(frozen=True)
class Learnt:
    """What one node's own network learnt in the last training, or why it learnt nothing.

    Attributes:
        rows: On which it was trained; None for an untrained network.
        loss: On rows that were held out of that; None likewise.
        digest: Of its weights; None likewise.
        reason: Why it is not trained; None where it is.
    """

    purpose: Purpose
    rows: int | None = None
    loss: float | None = None
    digest: str | None = None
    reason: str | None = None

    @property
    def trained(self) -> bool:
        """Whether it has learnt anything."""
        return self.digest is not None


@dataclass(frozen=True)
class Roles:
    """The role networks of a bundle.

    Attributes:
        networks: With one slot each, by that slot.
        learnt: Of every node of a role, also of one that is not trained, by slot.
        layout: Columns of the stacking networks; None where there are none.
        gates: What decides whether a network is used, by purpose; for confidence by `confidence:<mode>`.
        calibrators: Of the validators' logits, by aggregation.
    """

    networks: Mapping[str, NetworkGroup] = field(default_factory=dict)
    learnt: Mapping[str, Learnt] = field(default_factory=dict)
    layout: StackLayout | None = None
    gates: Mapping[str, Gate] = field(default_factory=dict)
    calibrators: Mapping[str, Calibrator] = field(default_factory=dict)

    @property
    def content(self) -> dict[str, JsonValue]:
        """Everything in it that shapes an answer."""
        return {
            "networks": {slot: [n.plan_digest, n.digest] for slot, n in self.networks.items()},
            "layout": list(self.layout.columns) if self.layout else None,
            "gates": {name: asdict(gate) for name, gate in self.gates.items()},
            "calibrators": {mode: c.to_json() for mode, c in self.calibrators.items()},
        }

    def for_purpose(self, purpose: Purpose) -> dict[str, NetworkGroup]:
        """Trained networks of one purpose, by slot."""
        return {
            slot: network
            for slot, network in self.networks.items()
            if slot in self.learnt and self.learnt[slot].purpose == purpose
        }

    def uses(self, gate: str) -> bool:
        """Whether a gate is open."""
        return gate in self.gates and self.gates[gate].used

    def confident_in(self, mode: Aggregation) -> bool:
        """Whether validators say how sure decisions of this aggregation are."""
        return self.uses(confidence_gate(mode))

    def without_weights(self) -> Self:
        """The same for reports only."""
        networks = {slot: replace(one, state=None) for slot, one in self.networks.items()}
        return replace(self, networks=networks)


def confidence_gate(mode: Aggregation) -> str:
    """Name of the gate for an aggregation's confidence."""
    return f"confidence:{mode}"


NO_ROLES: Final = Roles()
