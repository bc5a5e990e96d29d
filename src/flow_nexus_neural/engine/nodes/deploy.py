"""Deploying a node: which slot, which network, and the reply that says what runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import isolation_warnings, restart, start
from flow_nexus_neural.engine.reports import IsolationReport, NodeReport
from flow_nexus_neural.engine.requests import DeployRequest
from flow_nexus_neural.engine.state.slots import (
    REPLACEABLE,
    Slot,
    SlotSpec,
    kind_of,
)
from flow_nexus_neural.errors import (
    InvalidArguments,
    LimitExceeded,
    UnsupportedCombination,
)
from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure
from flow_nexus_neural.runtime.base import Isolation
from flow_nexus_neural.vocabulary import Role, parse_capability


@dataclass
class Outcome:
    """How a deploy request was met."""

    slot: Slot
    source: str
    replaces: str | None = None
    sync_ms: float | None = None
    deduplicated: bool = False
    warnings: list[str] = field(default_factory=list)


async def deploy(cluster: LiveCluster, request: DeployRequest) -> NodeReport:
    """Start a node, or replace one; it is healthy and its row durable when this returns.

    Raises:
        InvalidArchitecture, UnsupportedCombination, LimitExceeded, NodeNotFound, InvalidArguments: Nothing
            was started.
        NodeError, IsolationUnavailable: The process did not come up; nothing of it is left.
    """
    role = request.role or request.node_type or "worker"
    warnings = _role_warnings(request, role)
    outcome = await _replacement(cluster, request, role)
    if outcome is None:
        outcome = await _new_slot(cluster, request, role)
    outcome.warnings = warnings + outcome.warnings
    return _report(cluster, request, outcome)


async def _replacement(cluster: LiveCluster, request: DeployRequest, role: Role) -> Outcome | None:
    """Replace a slot when the request means one; None when it means a new slot."""
    if request.replace_node_id is not None:
        slot = cluster.slots.find(request.replace_node_id)
        if slot.state not in REPLACEABLE | {"quarantined"}:
            raise InvalidArguments(
                f"node {slot.name} is {slot.state}; only a failed, recovering or quarantined node can be"
                " replaced",
                hint="leave replace_node_id out to deploy a further node",
            )
        return await _replaced(cluster, slot)
    if request.layers is not None or not request.replace:
        return None
    kind = kind_of(role, request.model, request.capabilities)
    same_kind = [slot for slot in cluster.slots.of_role(role) if slot.spec.kind == kind]
    restarting = [slot for slot in same_kind if slot.restarting.locked()]
    failed = [s for s in same_kind if s.state in REPLACEABLE and s not in restarting]
    for slot in (*failed, *restarting):
        return await _replaced(cluster, slot)
    now_s, recent_s = cluster.clock(), cluster.context.patience.deduplication_s
    for slot in same_kind:
        if slot.recovered_at_s is not None and now_s - slot.recovered_at_s < recent_s:
            return Outcome(slot=slot, source="inherited", deduplicated=True)
    return None


async def _replaced(cluster: LiveCluster, slot: Slot) -> Outcome:
    former, joined = slot.node_id, slot.restarting.locked()
    sync_ms = await restart(cluster, slot)
    return Outcome(
        slot=slot,
        source="inherited",
        replaces=None if joined else former,
        sync_ms=sync_ms,
        deduplicated=joined,
    )


async def _new_slot(cluster: LiveCluster, request: DeployRequest, role: Role) -> Outcome:
    layers, source, warnings = _network(cluster, request, role)
    if len(cluster.slots) >= cluster.context.settings.max_nodes:
        lost = next((slot.name for slot in cluster.slots if slot.lost), None)
        instead = f"replace a failed node (replace_node_id {lost!r}), " if lost else ""
        raise LimitExceeded(
            f"cluster {cluster.cluster_id} has {len(cluster.slots)} nodes;"
            f" the limit is {cluster.context.settings.max_nodes}",
            hint=f"{instead}start the server with a larger --max-nodes, or terminate the cluster",
        )
    spec = SlotSpec(
        role=role,
        node_type=request.node_type or role,
        model=request.model,
        capabilities=request.capabilities,
        autonomy=request.autonomy,
        template=request.template,
        layers=tuple(layers),
        layers_source=source,
    )
    slot = Slot(
        name=cluster.slots.next_name(role), spec=spec, node_id=cluster.context.new_id("node")
    )
    cluster.slots.add(slot)
    sync_ms = await start(cluster, slot)
    return Outcome(slot=slot, source=source, sync_ms=sync_ms, warnings=warnings)


def _network(
    cluster: LiveCluster, request: DeployRequest, role: Role
) -> tuple[Sequence[Mapping[str, JsonValue]], str, list[str]]:
    """Canonical layers of a new slot, where they come from, and what to warn of."""
    if request.layers is not None:
        parsed = parse_layers(request.layers)
        check_structure(parsed.layers)
        warnings = list(parsed.warnings)
        if request.model != "custom":
            warnings.append(
                f"layers win over model {request.model!r}: the size is only a label and a resource class"
            )
        return [layer.to_json() for layer in parsed.layers], "given", warnings
    if request.model == "custom":
        raise UnsupportedCombination(
            "model 'custom' needs layers, and none were given",
            hint="pass layers, or use model 'base', 'large' or 'xl'",
        )
    kind = kind_of(role, request.model, request.capabilities)
    peers = [s for s in cluster.slots.healthy(role) if s.spec.kind == kind]
    networks = {repr(slot.spec.layers) for slot in peers}
    if len(networks) == 1 and peers[0].spec.layers_source != "default":
        return list(peers[0].spec.layers), "peer", []
    number = int(cluster.slots.next_name(role).rsplit("-", 1)[1])
    raw = default_layers(cluster.spec.architecture, request.model, role, number)
    return [layer.to_json() for layer in parse_layers(raw).layers], "default", []


def _role_warnings(request: DeployRequest, role: Role) -> list[str]:
    warnings = []
    if request.node_type is not None and request.node_type != role:
        warnings.append(f"role {role!r} wins over node_type {request.node_type!r}")
    if role != "worker":
        warnings.append(
            f"a {role}'s own network is checked but not trained in this version; workers train and serve"
        )
    return warnings


def _capability_warnings(capabilities: Sequence[str]) -> list[str]:
    inert = [tag for tag in capabilities if not parse_capability(tag).has_effect]
    if not inert:
        return []
    return [f"capabilities without an effect in this version are stored only: {', '.join(inert)}"]


def _report(cluster: LiveCluster, request: DeployRequest, outcome: Outcome) -> NodeReport:
    slot = outcome.slot
    isolation = slot.handle.isolation if slot.handle else Isolation(level="unknown")
    committed = cluster.committed
    serves = committed is not None and committed.network_of(slot.name) is not None
    return NodeReport(
        node_id=slot.node_id,
        cluster_id=cluster.cluster_id,
        slot=slot.name,
        role=slot.spec.role,
        node_type=request.node_type or slot.spec.role,
        status="deployed",
        healthy=slot.healthy,
        model=slot.spec.model,
        capabilities=list(slot.spec.capabilities),
        autonomy=slot.spec.autonomy,
        template=slot.spec.template,
        runtime=slot.handle.runtime_version if slot.handle else "unknown",
        layers=[dict(layer) for layer in slot.spec.layers],
        layers_source=outcome.source,
        parameters=slot.parameters,
        implied_head=slot.implied_head,
        incarnation=slot.incarnation,
        replaces=outcome.replaces,
        synced_version=committed.version if committed and serves else None,
        sync_ms=outcome.sync_ms,
        deduplicated=outcome.deduplicated,
        joins="next_round" if cluster.is_training else "now",
        pid=slot.handle.pid if slot.handle else None,
        isolation=report_isolation(isolation),
        deployed_at=slot.deployed_at,
        warnings=[
            *outcome.warnings,
            *_capability_warnings(slot.spec.capabilities),
            *isolation_warnings(isolation, cluster.context.runtime.capabilities.isolation),
        ],
    )


def report_isolation(isolation: Isolation) -> IsolationReport:
    """A runtime's measurement as a report."""
    return IsolationReport(
        level=isolation.level,
        layers=dict(isolation.layers),
        probes=dict(isolation.probes),
        not_enforced=list(isolation.not_enforced),
        missing=list(isolation.missing),
        shared_with=list(isolation.shared_with),
    )
