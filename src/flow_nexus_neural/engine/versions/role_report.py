"""What status says of the networks of aggregators, validators and parameter servers."""

from dataclasses import asdict

from pydantic import JsonValue

from flow_nexus_neural.engine.state.roles import NO_ROLES, ROLE_OF, Roles
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion

STATES = {True: "net", False: "fallback"}


def roles_report(roles: Roles) -> dict[str, JsonValue] | None:
    """The comparisons by which the networks of roles are used or not; None where there are none."""
    if roles == NO_ROLES:
        return None
    return {
        name: {"state": STATES[gate.used], **{k: v for k, v in asdict(gate).items() if k != "used"}}
        for name, gate in roles.gates.items()
    }


def learnt_by(slot: Slot, committed: CommittedVersion | None) -> dict[str, JsonValue] | None:
    """What a slot's own network learnt for a version, or why nothing; None for workers and before any."""
    purpose = next((p for p, role in ROLE_OF.items() if role == slot.spec.role), None)
    if purpose is None or committed is None:
        return None
    learnt = committed.bundle.roles.learnt.get(slot.name)
    if learnt is None:
        reason = "no training has come to its end since it was deployed"
        nothing = dict.fromkeys(("rows", "loss", "digest"))
        return {"purpose": purpose, "trained": False, **nothing, "reason": reason}
    own = asdict(learnt)
    return {"purpose": own.pop("purpose"), "trained": learnt.trained, **own}
