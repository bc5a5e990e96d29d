"""Between the role networks of a bundle and what is stored of them."""

from collections.abc import Callable
from dataclasses import asdict
from typing import get_args

from flow_nexus_neural.coordination.role_gates import Gate
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.roles import NO_ROLES, Learnt, Purpose, Roles
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.stacking import StackLayout


def stored_roles(
    roles: Roles, network: Callable[[NetworkGroup], persisted.StoredNetwork]
) -> persisted.StoredRoles | None:
    """Everything of role networks but their vectors; None where there are none.

    Args:
        roles: Of a bundle.
        network: Makes the stored form of one network.
    """
    if roles == NO_ROLES:
        return None
    return persisted.StoredRoles(
        networks={slot: network(one) for slot, one in roles.networks.items()},
        learnt={s: persisted.StoredLearnt(**asdict(one)) for s, one in roles.learnt.items()},
        layout=persisted.StoredLayout(**asdict(roles.layout)) if roles.layout else None,
        gates={name: persisted.StoredGate(**asdict(gate)) for name, gate in roles.gates.items()},
        calibrators={mode: c.to_json() for mode, c in roles.calibrators.items()},
    )


def load_roles(
    stored: persisted.StoredRoles | None,
    network: Callable[[persisted.StoredNetwork], NetworkGroup],
) -> Roles:
    """The role networks of a bundle; none for one that was stored without.

    Args:
        stored: As stored.
        network: Reads one network with its weights.

    Raises:
        StoreCorrupt: A checkpoint is missing or altered, or a purpose is unknown.
    """
    if stored is None:
        return NO_ROLES
    return Roles(
        networks={slot: network(one) for slot, one in stored.networks.items()},
        learnt={slot: _learnt(one) for slot, one in stored.learnt.items()},
        layout=StackLayout(**dict(stored.layout)) if stored.layout else None,
        gates={name: Gate(**dict(gate)) for name, gate in stored.gates.items()},
        calibrators={mode: Calibrator.from_json(c) for mode, c in stored.calibrators.items()},
    )


def _learnt(stored: persisted.StoredLearnt) -> Learnt:
    purpose: Purpose | None = next((p for p in get_args(Purpose) if p == stored.purpose), None)
    if purpose is None:
        raise StoreCorrupt(
            f"a stored network has the purpose {stored.purpose!r}", hint="train again"
        )
    return Learnt(purpose, stored.rows, stored.loss, stored.digest, stored.reason)
