"""The states of a slot, and the legal transitions between them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from flow_nexus_neural.errors import InvalidState
from flow_nexus_neural.vocabulary import Role

SlotState = Literal[
    "declared",
    "starting",
    "syncing",
    "healthy",
    "suspect",
    "failed",
    "recovering",
    "quarantined",
    "failed_permanently",
    "retired",
]

ROLE_ORDER: tuple[Role, ...] = ("parameter_server", "aggregator", "validator", "worker")
"""Order of roles when slots of several roles are listed or linked."""

TRANSITIONS: dict[SlotState, frozenset[SlotState]] = {
    "declared": frozenset({"starting", "retired"}),
    "starting": frozenset({"syncing", "failed", "retired"}),
    "syncing": frozenset({"healthy", "failed", "retired"}),
    "healthy": frozenset({"suspect", "failed", "recovering", "quarantined", "retired"}),
    "suspect": frozenset({"healthy", "failed", "recovering", "quarantined", "retired"}),
    "failed": frozenset({"recovering", "failed_permanently", "quarantined", "retired"}),
    "recovering": frozenset({"syncing", "failed", "retired"}),
    "quarantined": frozenset({"recovering", "retired"}),
    "failed_permanently": frozenset({"recovering", "retired"}),
    "retired": frozenset(),
}
"""Legal successors of each state. `healthy -> recovering` replaces a running node on request; `quarantined`
and `failed_permanently` end only by an explicit replacement."""

FAILED: frozenset[SlotState] = frozenset({"failed", "failed_permanently", "quarantined"})
_SLOT = re.compile(r"([a-z_]+)-([0-9]+)")


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers of slots: `total` without retired ones, `active` healthy ones, `failed` those in FAILED.

    `recovering` are being started again, or are by the next call that needs them.
    """

    total: int
    active: int
    failed: int
    recovering: int


def advance(slot: str, state: SlotState, successor: SlotState) -> SlotState:
    """Check a transition and return the new state. A state is not its own successor.

    Raises:
        InvalidState: If the transition is not legal.
    """
    if successor not in TRANSITIONS[state]:
        allowed = ", ".join(sorted(TRANSITIONS[state])) or "nothing"
        raise InvalidState(
            f"slot {slot} cannot go from {state} to {successor}",
            hint=f"from {state} it can go to {allowed}",
            details={"slot": slot, "state": state, "successor": successor},
        )
    return successor


def after_restart(state: SlotState) -> SlotState:
    """The state of a slot after a restart of the server.

    No node process outlives the server, so a slot with a running or starting node must recover.
    """
    if state in {"retired", "quarantined", "failed_permanently"}:
        return state
    return "recovering"


def count(states: Iterable[SlotState]) -> Counts:
    """Count the slots of a cluster by state."""
    kept = [state for state in states if state != "retired"]
    return Counts(
        total=len(kept),
        active=sum(state == "healthy" for state in kept),
        failed=sum(state in FAILED for state in kept),
        recovering=sum(state == "recovering" for state in kept),
    )


@lru_cache(maxsize=4096)
def slot_order(slot: str) -> tuple[int, int, str]:
    """Sort key of slot names: by role, then by number. Names that are not `<role>-<number>` come last."""
    match = _SLOT.fullmatch(slot)
    if match is None or match[1] not in ROLE_ORDER:
        return len(ROLE_ORDER), 0, slot
    return ROLE_ORDER.index(match[1]), int(match[2]), slot
