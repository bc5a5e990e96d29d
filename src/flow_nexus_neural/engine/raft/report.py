"""What status says of the voters: who they are, who leads, and how far each of them is."""

from pydantic import JsonValue

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.gate import cannot_decide, voters_of
from flow_nexus_neural.engine.raft.group import VoterGroup

DURABILITY = "one disk"
"""All voters of a machine: raft withstands the death of their processes, not of the disk."""


async def raft_report(cluster: LiveCluster) -> dict[str, JsonValue] | None:
    """Whether versions can be agreed on, and the voters; None under another mode.

    Numbers that only a leader knows are None where nobody leads: before the first version, after a restart,
    and when the leader has died since something was decided.
    """
    group = voters_of(cluster)
    if group is None:
        return None
    missing = await cannot_decide(cluster)
    network, leader = group.network, group.network.leader()
    commit = leader.report.commit if leader is not None and leader.report is not None else None
    terms = [seat.records.hard.term for seat in network.seats.values()]
    return {
        "available": missing is None,
        "reason": missing,
        "raft": {
            "term": max(terms, default=None),
            "leader": leader.name if leader is not None else None,
            "voters": [_voter(group, name) for name in group.voters],
            "commit_index": commit,
            "applied_index": group.applied.index if network.seats else None,
            "elections": group.elections,
            "f_tolerated": (len(group.voters) - 1) // 2 if group.voters else 0,
            "durability": DURABILITY,
            "commit_ms": group.commit_ms,
        },
    }


def _voter(group: VoterGroup, name: str) -> JsonValue:
    network = group.network
    seat, leader, slot = network.seats.get(name), network.leader(), network.slot(name)
    match: int | None = None
    lag: int | None = None
    if leader is not None and leader.report is not None:
        match = leader.report.last if name == leader.name else leader.report.matched.get(name)
        lag = None if match is None else leader.report.last - match
    at_work = seat is not None and slot is not None and seat.in_step_with == slot.node_id
    role = seat.report.role if at_work and seat is not None and seat.report is not None else None
    return {"slot": name, "role": role, "alive": slot is not None, "match": match, "lag": lag}
