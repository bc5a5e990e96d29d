"""Majorities: what they have committed, and whether they have elected somebody.

Source: Ongaro and Ousterhout, USENIX ATC 2014, sections 5.3 and 5.4; joint configurations from section 6. The
empty majority commits everything and wins every vote, so that a configuration that is not joint is a joint
one whose other half is empty.
"""

from collections.abc import Collection, Mapping
from typing import Literal

VoteResult = Literal["won", "lost", "pending"]

EVERYTHING = (1 << 63) - 1
"""What an empty majority has committed: more than any log has entries."""


def majority(voters: Collection[str]) -> int:
    """Fewest voters that are more than half of these; an id that is repeated counts once."""
    return len(set(voters)) // 2 + 1


def committed_index(voters: Collection[str], matched: Mapping[str, int]) -> int:
    """The last index that a majority has acknowledged.

    Args:
        voters: Their ids.
        matched: Last acknowledged index by voter, 0 for those that are missing; only voters count.
    """
    distinct = set(voters)
    if not distinct:
        return EVERYTHING
    acknowledged = sorted((matched.get(voter, 0) for voter in distinct), reverse=True)
    return acknowledged[majority(distinct) - 1]


def vote_result(voters: Collection[str], votes: Mapping[str, bool]) -> VoteResult:
    """What a vote has come to, by voter whether it was granted; those that are missing have not answered."""
    distinct = set(voters)
    if not distinct:
        return "won"
    needed = majority(distinct)
    granted = sum(votes.get(voter) is True for voter in distinct)
    refused = sum(votes.get(voter) is False for voter in distinct)
    if granted >= needed:
        return "won"
    return "lost" if len(distinct) - refused < needed else "pending"


def joint_committed_index(
    incoming: Collection[str], outgoing: Collection[str], matched: Mapping[str, int]
) -> int:
    """The last index that a majority of each of two configurations has acknowledged."""
    return min(committed_index(incoming, matched), committed_index(outgoing, matched))


def joint_vote_result(
    incoming: Collection[str], outgoing: Collection[str], votes: Mapping[str, bool]
) -> VoteResult:
    """What a vote has come to where each of two configurations has to grant it."""
    results = {vote_result(incoming, votes), vote_result(outgoing, votes)}
    if results == {"won"}:
        return "won"
    return "lost" if "lost" in results else "pending"
