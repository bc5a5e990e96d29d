"""What the consensus mode promises with the nodes that are alive."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import replace

from flow_nexus_neural.coordination.consensus.gossip import GossipPolicy
from flow_nexus_neural.coordination.consensus.raft.electorate import voters_of as elected
from flow_nexus_neural.coordination.consensus.registry import AVERAGING, find_policy, policy_for
from flow_nexus_neural.coordination.consensus.tolerance import RobustPolicy
from flow_nexus_neural.coordination.guarantees import Electorate, Guarantee, Proving, Vote
from flow_nexus_neural.coordination.guarantees import guarantees as promised
from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.gate import voters_of
from flow_nexus_neural.engine.reports import Guarantees
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.advice import NAMES_TOLD
from flow_nexus_neural.engine.state.slots import Slot, vertex_order
from flow_nexus_neural.runtime.base import NodeHandle
from flow_nexus_neural.vocabulary import EACH_CLIENT


def guarantees(cluster: LiveCluster) -> Guarantees:
    """What the mode promises with the workers that are alive.

    Where it promises nothing since nodes are recovering, as after a start of the server: what it promises
    once they are up, and `holds` null, for it is not known yet whether they come up.
    """
    found = _promised(cluster, [])
    returning = [slot for slot in cluster.slots if slot.state == "recovering"]
    if found.holds or not returning:
        return _told(found, found.reason, holds=found.holds)
    once_up = _promised(cluster, returning)
    if not once_up.holds:
        return _told(once_up, once_up.reason, holds=False)
    names = ", ".join(slot.name for slot in returning[:NAMES_TOLD])
    more = f" and {len(returning) - NAMES_TOLD} more" if len(returning) > NAMES_TOLD else ""
    reason = f"{names}{more} recovering: these are the numbers once they are up, which the next call sees to"
    return _told(once_up, reason, holds=None)


def _promised(cluster: LiveCluster, returning: Sequence[Slot]) -> Guarantee:
    """What the mode promises where these slots are up beside those that are."""
    names = {slot.name for slot in returning}
    up = [slot for slot in cluster.slots if slot.healthy or slot.name in names]
    workers = [slot.name for slot in up if slot.spec.role == "worker"]
    evaluators = [slot.name for slot in up if slot.spec.role == "validator"] or workers
    evaluator = min(evaluators, key=slot_order) if evaluators else None
    vote = _vote(cluster, workers, selecting=any(s.spec.role == "validator" for s in up))
    electorate, proving = _electorate(cluster, names), _proving(cluster, up)
    return promised(cluster.spec.consensus, len(workers), evaluator, vote, electorate, proving)


def _told(found: Guarantee, reason: str | None, *, holds: bool | None) -> Guarantees:
    return Guarantees(
        mode=found.mode,
        n=found.n,
        f_tolerated=found.f_tolerated,
        condition=found.condition,
        holds=holds,
        reason=reason,
        trusted=list(found.trusted),
        notes=list(found.notes),
    )


def _proving(cluster: LiveCluster, up: Sequence[Slot]) -> Proving:
    """How updates of the latest training were proved, and those of the next will be by who is up."""
    latest = cluster.state.latest_training
    validators = [slot for slot in up if slot.spec.role == "validator"]
    verifiers = sorted(validators or [s for s in up if s.spec.role != "worker"], key=vertex_order)
    advance = latest.advance if latest else Advance()
    return Proving(
        verifiers=tuple(slot.name for slot in verifiers),
        unproved=advance.rounds_done > 0 and advance.proofs.verified_rounds == 0,
        detection=advance.proofs.detection,
    )


def _electorate(cluster: LiveCluster, returning: Collection[str]) -> Electorate | None:
    """Who votes, or would if something were to be decided now; None under other modes than raft.

    Args:
        cluster: Whose voters.
        returning: Slots that count as alive.
    """
    group = voters_of(cluster)
    if group is None:
        return None
    voters = group.voters
    if not voters and returning:
        voters = elected(
            [
                replace(one, lives=one.lives or one.slot in returning)
                for one in group.network.candidates()
            ]
        )
    alive = [name for name in voters if group.network.slot(name) is not None or name in returning]
    return Electorate(len(voters), len(alive), _per_process(cluster, alive))


def _per_process(cluster: LiveCluster, names: list[str]) -> tuple[int, ...]:
    """How many of these slots each process holds; empty where nothing is known of processes."""
    handles = [cluster.slots[name].handle for name in names if name in cluster.slots.names()]
    found = Counter(handle.pid for handle in handles if handle is not None and shares(handle))
    alone = sum(handle is not None and not shares(handle) for handle in handles)
    return (*sorted(found.values(), reverse=True), *([1] * alone)) if found else ()


def shares(handle: NodeHandle) -> bool:
    """Whether other slots live in the same process."""
    return bool(handle.isolation.shared_with)


def mixing_obstacle(cluster: LiveCluster) -> str | None:
    """Why workers cannot mix where this server's nodes live; None if they can."""
    runtime = cluster.context.runtime
    if runtime.capabilities.peer_views:
        return None
    return (
        f"nodes of the runtime {runtime.name} cannot read each other's memory, and under gossip"
        " nobody averages for them"
    )


def _vote(cluster: LiveCluster, workers: list[str], *, selecting: bool) -> Vote:
    """How the latest training combines updates of these workers, or the first one will."""
    latest = cluster.state.latest_training
    updates, lends = _smallest_group(cluster, workers), False
    if latest is None:
        policy, f = policy_for(None, cluster.spec.consensus), None
    else:
        config = latest.config
        policy, lends = find_policy(config.aggregation_method), config.partition == EACH_CLIENT
        f = None if "byzantine_f" in config.chosen else config.byzantine_f
        if not isinstance(policy, GossipPolicy):  # under gossip all mix, whoever trains
            updates = min(updates, config.clients_per_round or updates)
    if isinstance(policy, GossipPolicy):
        return Vote(policy.name, updates, obstacle=mixing_obstacle(cluster))
    if not isinstance(policy, RobustPolicy):
        return Vote(policy.name if policy else AVERAGING.name, updates, lends=lends)
    return Vote(
        policy.name,
        updates,
        policy.usual_f(updates) if f is None else f,
        selecting=selecting,
    )


def _smallest_group(cluster: LiveCluster, workers: list[str]) -> int:
    """Workers of the smallest group with equal networks, by their layers where none was trained yet."""
    groups: dict[str, int] = {}
    for name in workers:
        network = cluster.run.network_of(name) if cluster.run else None
        if network is None and cluster.committed is not None:
            network = cluster.committed.network_of(name)
        slot = cluster.slots[name]
        key = (
            network.shared_key
            if network
            else repr(slot.layers_for(cluster.spec.architecture, None))
        )
        groups[key] = groups.get(key, 0) + 1
    return min(groups.values(), default=0)
