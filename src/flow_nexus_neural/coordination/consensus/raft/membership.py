"""Which configurations of voters may follow each other.

The voters change one at a time: the majorities of two configurations that differ in one voter overlap, so
no two leaders can be elected in one term (Ongaro's thesis, section 4.1). A joint configuration, in which two
majorities decide, allows any change (USENIX ATC 2014, section 6); learners receive the log and do not vote.
The leader of a cluster here makes changes of the first kind only. What a leader must have committed before it
may change anything (the erratum of 2015) is for `voter` to know.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Refusal = Literal[
    "already_joint", "not_joint", "joint_needs_voters", "no_voters", "more_than_one", "is_joint"
]

ChangeKind = Literal["voter", "learner", "removed", "updated"]


class Change(NamedTuple):
    """One member becomes a voter or a learner, leaves, or is told something that does not matter here.

    A change of the empty id does nothing.
    """

    kind: ChangeKind
    member: str


class MembershipRefused(ValueError):
    """A configuration may not be changed in this way; `refusal` is why."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal: Refusal = refusal


@dataclass(frozen=True, slots=True)
class Configuration:
    """Who votes and who listens.

    Attributes:
        voters: Of the configuration, or of the incoming one of a joint configuration.
        outgoing: Voters of the configuration before, while it is joint.
        learners: Receive the log only.
        learners_next: Become learners when the joint configuration is left, for until then they vote.
    """

    voters: frozenset[str] = frozenset()
    outgoing: frozenset[str] = frozenset()
    learners: frozenset[str] = frozenset()
    learners_next: frozenset[str] = frozenset()

    @property
    def is_joint(self) -> bool:
        """Whether two majorities decide."""
        return bool(self.outgoing)

    @property
    def members(self) -> frozenset[str]:
        """Everybody who receives the log."""
        return self.voters | self.outgoing | self.learners | self.learners_next


def simple(configuration: Configuration, changes: Iterable[Change]) -> Configuration:
    """The configuration after changes of which at most one is of the voters.

    Raises:
        MembershipRefused: It is joint, no voter would be left, or more than one voter changes.
    """
    if configuration.is_joint:
        raise MembershipRefused("is_joint")
    changed = _changed(configuration, changes)
    if len(configuration.voters ^ changed.voters) > 1:
        raise MembershipRefused("more_than_one")
    return changed


def enter_joint(configuration: Configuration, changes: Iterable[Change]) -> Configuration:
    """The joint configuration on the way from this one to the one after any changes.

    Raises:
        MembershipRefused: It is joint already, it has no voters, or none would be left.
    """
    if configuration.is_joint:
        raise MembershipRefused("already_joint")
    if not configuration.voters:
        raise MembershipRefused("joint_needs_voters")
    return _changed(replace(configuration, outgoing=configuration.voters), changes)


def leave_joint(configuration: Configuration) -> Configuration:
    """The incoming configuration alone.

    Raises:
        MembershipRefused: It is not joint.
    """
    if not configuration.is_joint:
        raise MembershipRefused("not_joint")
    learners = configuration.learners | configuration.learners_next
    return Configuration(voters=configuration.voters, learners=learners)


def _changed(configuration: Configuration, changes: Iterable[Change]) -> Configuration:
    for change in changes:
        if not change.member:
            continue
        if change.kind == "voter":
            configuration = _with_voter(configuration, change.member)
        elif change.kind == "learner":
            configuration = _with_learner(configuration, change.member)
        elif change.kind == "removed":
            configuration = _without(configuration, change.member)
    if not configuration.voters:
        raise MembershipRefused("no_voters")
    return configuration


def _with_voter(configuration: Configuration, member: str) -> Configuration:
    rest = _without(configuration, member)
    return replace(rest, voters=rest.voters | {member})


def _with_learner(configuration: Configuration, member: str) -> Configuration:
    if member in configuration.learners:
        return configuration
    rest = _without(configuration, member)
    if member in configuration.outgoing:
        return replace(rest, learners_next=rest.learners_next | {member})
    return replace(rest, learners=rest.learners | {member})


def _without(configuration: Configuration, member: str) -> Configuration:
    return replace(
        configuration,
        voters=configuration.voters - {member},
        learners=configuration.learners - {member},
        learners_next=configuration.learners_next - {member},
    )
