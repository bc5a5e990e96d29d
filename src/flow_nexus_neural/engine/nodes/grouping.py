"""Which workers share a process, so that it can train them in one stack.

One process is one failure and one adversary. So only workers share one, only under raft and gossip, and only
with workers of equal layers; guarantees count processes.
"""

from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.protocol.digest import json_digest
from flow_nexus_neural.vocabulary import MAX_NODES_PER_PROCESS, Consensus, Role

GROUPED: frozenset[Consensus] = frozenset({"raft", "gossip"})
"""Not proof-of-learning, whose proofs execute single clients again; not byzantine: one process, one liar."""


def group_of(cluster: LiveCluster, slot: Slot) -> tuple[str | None, int]:
    """The group in whose process a slot lives, and how many may be there; (None, 1) for a process alone.

    Workers with equal layers are dealt out to as many processes as there are groups, in slot order.
    """
    context = cluster.context
    capabilities = context.runtime.capabilities
    n_groups = context.settings.groups_on(capabilities.places)
    allowed = slot.spec.role == "worker" and cluster.spec.consensus in GROUPED
    if n_groups is None or not allowed or not capabilities.groups:
        return None, 1
    kind = _kind(cluster, slot)
    alike = [one.name for one in cluster.slots.of_role("worker") if _kind(cluster, one) == kind]
    names = sorted({*alike, slot.name}, key=slot_order)
    place = names.index(slot.name) % n_groups
    most = -(-context.settings.max_nodes // n_groups)
    return f"{cluster.cluster_id}/{kind[:16]}/{place}", min(max(most, 1), MAX_NODES_PER_PROCESS)


def why_alone(cluster: LiveCluster, role: Role) -> list[str]:
    """A warning where the operator wants workers to share processes and this cluster's have their own."""
    context = cluster.context
    if role != "worker" or context.settings.node_groups == "off":
        return []
    if not context.runtime.capabilities.groups:
        why = "nodes are started one by one on this system, and none hosts another"
    elif cluster.spec.consensus not in GROUPED:
        why = f"under consensus {cluster.spec.consensus} a process has to be one node"
    else:
        return []
    return [f"node groups ({context.settings.node_groups}) have no effect: {why}"]


def _kind(cluster: LiveCluster, slot: Slot) -> str:
    layers = slot.layers_for(cluster.spec.architecture, None)
    return json_digest([slot.spec.model, [dict(layer) for layer in layers]])
