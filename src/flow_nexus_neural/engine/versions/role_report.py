"""What status says of the networks of aggregators, validators and parameter servers."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict

from pydantic import JsonValue

from flow_nexus_neural.engine.state.roles import NO_ROLES, ROLE_OF, Learnt, Purpose, Roles
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.out_of_fold import OutOfFold
from flow_nexus_neural.vocabulary import Role

NO_NETWORK = (
    "version {version} holds no network of this node: one is made at the end of a training that meets it"
    " and given up where other workers answer than those of which it learnt"
)
STATES = {True: "net", False: "fallback"}


def roles_report(
    roles: Roles,
    ablation: Mapping[str, JsonValue] | None = None,
    crossed: OutOfFold | None = None,
) -> dict[str, JsonValue] | None:
    """The comparisons by which the networks of roles are used or not; None where there are none.

    Args:
        roles: Of a bundle.
        ablation: What each adds on test rows, where that was measured.
        crossed: Answers out of fold, where they learnt from these.
    """
    if roles == NO_ROLES:
        return None
    told: dict[str, JsonValue] = {
        name: {"state": STATES[gate.used], **{k: v for k, v in asdict(gate).items() if k != "used"}}
        for name, gate in roles.gates.items()
    }
    if crossed:
        told["out_of_fold"] = dict(crossed.report)
    return told if ablation is None else {**told, "ablation": dict(ablation)}


def learnt_by(
    slots: Iterable[Slot], committed: CommittedVersion | None
) -> dict[str, dict[str, JsonValue]] | None:
    """What the own networks of nodes learnt for a version, or why nothing; None where no node has one.

    Workers have none of their own: theirs is that of their group.
    """
    if committed is None:
        return None
    purposes: dict[Role, Purpose] = {role: purpose for purpose, role in ROLE_OF.items()}
    learnt, why = committed.bundle.roles.learnt, NO_NETWORK.format(version=committed.version)
    return {
        slot.name: _told(learnt.get(slot.name) or Learnt(purposes[slot.spec.role], reason=why))
        for slot in slots
        if slot.spec.role in purposes
    } or None


def _told(learnt: Learnt) -> dict[str, JsonValue]:
    own = asdict(learnt)
    return {"purpose": own.pop("purpose"), "trained": learnt.trained, **own}
