"""The records with which voters begin, and begin anew where most of those before were removed for good.

Departure from Ongaro and Ousterhout, USENIX ATC 2014: there a cluster that loses most of its disks is lost.
Here all logs are on the engine's disk and every message goes through it. So once most voters can never answer
again nothing can be decided any more by the old configuration, and a new one may begin after all that was
ever logged.
"""

from collections.abc import Collection, Mapping

from flow_nexus_neural.coordination.consensus.raft.quorum import majority
from flow_nexus_neural.protocol.raft_records import HardState, Records, Snapshot


def is_abandoned(voters: Collection[str], slots: Collection[str]) -> bool:
    """Whether too few of the voters are left for a majority ever to come back.

    Args:
        voters: A configuration; one without voters is not abandoned, for nobody has begun.
        slots: All that were not removed for good; the name of one that was is never given again.
    """
    return bool(voters) and len(set(voters) & set(slots)) < majority(voters)


def beginning(
    voters: Collection[str], former: Mapping[str, Records], state: str
) -> Mapping[str, Records]:
    """The records of new voters: equal snapshots, after every entry and term of any former log.

    A former log can win no election against them, and a voter that is among them again keeps its vote.

    Args:
        voters: Who votes from now on.
        former: The records of all voters that there ever were.
        state: What the log has come to, as in a snapshot.
    """
    term = max((_last_term(records) for records in former.values()), default=0)
    index = max((records.last_index + 1 for records in former.values()), default=0)
    snapshot = Snapshot(index, term, tuple(sorted(voters)), state)
    begun = {}
    for name in sorted(voters):
        hard = former[name].hard if name in former else HardState()
        begun[name] = Records(hard if hard.term == term else HardState(term), snapshot)
    return begun


def _last_term(records: Records) -> int:
    return max(records.hard.term, records.snapshot.term, *(e.term for e in records.entries), 0)
