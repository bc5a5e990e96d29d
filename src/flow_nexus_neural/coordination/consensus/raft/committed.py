"""What durable logs show to be committed, whatever a voter says of it.

Source: Ongaro and Ousterhout, USENIX ATC 2014, section 5.4.2: an entry is committed when a majority has it,
or a later one, in the term in which it was appended. The term of those voters has to be that one still: none
of them has let another lead meanwhile, whose log may lack the entry.
"""

from collections.abc import Callable, Collection, Mapping

from flow_nexus_neural.coordination.consensus.raft.quorum import majority
from flow_nexus_neural.protocol.raft_records import LogEntry, Records


def committed_up_to(
    log: Records,
    said: int,
    after: int,
    configuration: Collection[str],
    durable: Mapping[str, Records],
    holds: Callable[[str, LogEntry], bool],
) -> int:
    """The last entry of a log that is committed; `after` where no further one is.

    Args:
        log: Of one voter.
        said: Up to where that voter says that its log is committed.
        after: The last entry that is known to be committed.
        configuration: The voters there; from an entry of kind `voters` on, those that it names.
        durable: The records of all voters.
        holds: Whether a voter holds what it needs to acknowledge an entry.
    """
    found, voters = after, set(configuration)
    for index in range(after + 1, min(said, log.last_index) + 1):
        entry = log.entry(index)
        if entry is None:
            break
        if entry.kind == "voters":
            voters = set(entry.voters)
        having = {name for name in voters & durable.keys() if has(durable[name], entry)}
        needed = majority(voters)
        if sum(holds(name, entry) for name in having) < needed:
            break
        if sum(durable[name].hard.term == entry.term for name in having) >= needed:
            found = index
    return found


def has(records: Records, entry: LogEntry) -> bool:
    """Whether a log has an entry, or had it before it was compacted."""
    if entry.index <= records.snapshot.index:
        return True
    own = records.entry(entry.index)
    return own is not None and own.term == entry.term
