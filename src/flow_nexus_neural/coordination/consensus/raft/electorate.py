"""Who votes: which slots should be the voters of a cluster, and which change comes closer to that."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.vocabulary import Role

ROLES: tuple[Role, ...] = ("parameter_server", "validator", "aggregator", "worker")
"""In the order in which slots become voters. The first is preferred as leader."""
MOST = 5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A slot that may vote.

    Attributes:
        lives: Whether its process answers, or is being started.
    """

    slot: str
    role: Role
    lives: bool


def voters_of(candidates: Sequence[Candidate], present: Collection[str] = ()) -> tuple[str, ...]:
    """The slots that should vote: the largest odd number of them up to five, by role and then by name.

    Two or four never do: they tolerate no more crashes than one or three, and one more can fail. A voter that
    does not live stays one, for it may come back, unless there is another slot in its place.

    Args:
        candidates: All slots that are not gone for good.
        present: Slots that vote now; only these count as voters while they do not live.
    """
    eligible = [c for c in candidates if c.lives or c.slot in present]
    ordered = sorted(eligible, key=lambda c: (not c.lives, ROLES.index(c.role), slot_order(c.slot)))
    number = min(MOST, len(ordered) - (len(ordered) + 1) % 2)
    return tuple(sorted(c.slot for c in ordered[:number]))


def next_configuration(
    present: Collection[str], wanted: Collection[str], living: Collection[str]
) -> tuple[str, ...] | None:
    """The configuration that differs in one voter and is closer to the wanted one; None when it is reached.

    Voters that do not live leave first, for they only make majorities larger. Before one that lives leaves,
    its successor is there.
    """
    now, then = set(present), set(wanted)
    leaving = sorted(now - then, key=lambda name: (name in living, name))
    joining = sorted(then - now)
    if leaving and leaving[0] not in living:
        return tuple(sorted(now - {leaving[0]}))
    if joining:
        return tuple(sorted(now | {joining[0]}))
    return tuple(sorted(now - {leaving[0]})) if leaving else None
