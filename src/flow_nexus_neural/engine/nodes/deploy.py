"""Deploying a node: which slot, which network, and the reply that says what runs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
from pydantic import JsonValue

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.grouping import why_alone
from flow_nexus_neural.engine.nodes.lifecycle import give_way, isolation_warnings, restart, start
from flow_nexus_neural.engine.nodes.removal import retire
from flow_nexus_neural.engine.reports import IsolationReport, NodeReport
from flow_nexus_neural.engine.requests import DeployRequest
from flow_nexus_neural.engine.state.slot_spec import SlotSpec, kind_of
from flow_nexus_neural.engine.state.slots import REPLACEABLE, Slot
from flow_nexus_neural.errors import (
    InvalidArguments,
    LimitExceeded,
    NeuralError,
    StoreError,
    UnsupportedCombination,
)
from flow_nexus_neural.networks.defaults import default_layers
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import check_structure
from flow_nexus_neural.protocol.plan import InputSpec
from flow_nexus_neural.runtime.base import Isolation
from flow_nexus_neural.vocabulary import Role, parse_capability

log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """How a deploy request was met."""

    slot: Slot
    source: str
    replaces: str | None = None
    sync_ms: float | None = None
    deduplicated: bool = False
    warnings: list[str] = field(default_factory=list)


async def deploy(
    cluster: LiveCluster, request: DeployRequest, *, stands_in_for: str | None = None
) -> NodeReport:
    """Start a node, or replace one; it is healthy and its row durable when this returns.

    With a count, that many new nodes are started, all or none; the report is that of the first. A single new
    one may stand in for a slot that is lost for good.

    Raises:
        InvalidArchitecture, UnsupportedCombination, LimitExceeded, NodeNotFound, InvalidArguments: Nothing
            was started.
        NodeError, IsolationUnavailable: A process did not come up; nothing of this deploy is left.
    """
    if request.force and request.replace_node_id is None:
        raise InvalidArguments(
            "force replaces a healthy node, and replace_node_id names none",
            hint="pass replace_node_id too, or leave force out",
        )
    role = request.role or request.node_type or "worker"
    warnings = _role_warnings(cluster, request, role)
    if request.count > 1:
        return await _several(cluster, request, role, warnings)
    outcome = await _replacement(cluster, request, role)
    if outcome is None:
        outcome = await _new_slot(cluster, request, role, stands_in_for)
    outcome.warnings = warnings + outcome.warnings
    return _report(cluster, request, [outcome])


async def _several(
    cluster: LiveCluster, request: DeployRequest, role: Role, warnings: list[str]
) -> NodeReport:
    """Start several new nodes; where one does not come up, those before it are removed again."""
    if request.replace_node_id is not None:
        raise InvalidArguments(
            f"count is {request.count}, but replace_node_id names one node",
            hint="leave count out to replace that node, or replace_node_id to deploy further ones",
        )
    _refuse_too_many(cluster, request.count)
    outcomes: list[Outcome] = []
    with anyio.CancelScope(shield=True):
        # One after the other, so that slots are stored in the order of their numbers on every run.
        while len(outcomes) < request.count:
            try:
                outcomes.append(await _new_slot(cluster, request, role))
            except NeuralError as failure:
                await _undo(cluster, [outcome.slot for outcome in outcomes])
                undone = f"; the {len(outcomes)} before it were removed again" if outcomes else ""
                raise type(failure)(
                    f"node {len(outcomes) + 1} of {request.count} did not come up{undone}:"
                    f" {failure.message}",
                    hint=failure.hint,
                    details=failure.details,
                ) from failure
    kind = outcomes[0].slot.spec.kind
    lost = [s.name for s in cluster.slots.of_role(role) if s.lost and s.spec.kind == kind]
    if lost:
        warnings.append(
            f"{', '.join(lost)} failed and was not replaced, as count deploys further nodes; a call without"
            " count and layers replaces one"
        )
    outcomes[0].warnings = warnings + outcomes[0].warnings
    return _report(cluster, request, outcomes)


async def _undo(cluster: LiveCluster, slots: Sequence[Slot]) -> None:
    """Remove what came up of a deploy that failed.

    Their processes end in any case; that it could not be recorded must not hide why they have to.
    """
    for slot in slots:
        async with slot.restarting:
            if slot.state == "retired":  # the cluster was ended, or somebody removed it
                continue
            try:
                await retire(cluster, slot)
            except StoreError as failure:
                log.warning("that %s was removed again is not recorded: %s", slot.name, failure)


async def _replacement(cluster: LiveCluster, request: DeployRequest, role: Role) -> Outcome | None:
    """Replace a slot when the request means one; None when it means a new slot."""
    if request.replace_node_id is not None:
        return await _named_replacement(cluster, request, request.replace_node_id)
    if request.layers is not None or not request.replace:
        return None
    kind = kind_of(role, request.model, request.capabilities)
    same_kind = [slot for slot in cluster.slots.of_role(role) if slot.spec.kind == kind]
    restarting = [slot for slot in same_kind if slot.restarting.locked()]
    failed = [s for s in same_kind if s.state in REPLACEABLE and s not in restarting]
    for slot in (*failed, *restarting):
        return await _replaced(cluster, slot)
    for slot in same_kind:
        if _is_recent(cluster, slot) and not _differs(slot, request):
            return _nothing_deployed(cluster, slot, "is what this call would have replaced")
    return None


async def _named_replacement(cluster: LiveCluster, request: DeployRequest, named: str) -> Outcome:
    """Replace the node that a request names, once however often it is named.

    Raises:
        InvalidArguments: It is healthy.
    """
    slot = _named(cluster, named)
    former = slot.node_id
    if slot.restarting.locked():
        return await _replaced(cluster, slot)
    replaced = _is_done(cluster, slot, request)
    if request.force and slot.state in ("healthy", "suspect") and not replaced:
        await give_way(cluster, slot)
        if slot.restarting.locked():  # another call was first, and is not done
            return await _replaced(cluster, slot)
        replaced = slot.node_id != former
    if slot.state in ("healthy", "suspect") and replaced:
        return _nothing_deployed(cluster, slot, "took the place of the node that is named")
    if slot.state not in REPLACEABLE:
        raise InvalidArguments(
            f"node {slot.name} is {slot.state}; only a failed, recovering or quarantined node can be"
            " replaced",
            hint="pass force: true to replace a healthy node, or leave replace_node_id out to deploy a"
            " further one",
        )
    return await _replaced(cluster, slot)


def _named(cluster: LiveCluster, named: str) -> Slot:
    """The slot of a name or node id, also of a node that was replaced. Raises `NodeNotFound`."""
    replaced = (s for s in cluster.slots if named in [former.node_id for former in s.former])
    return next(replaced, None) or cluster.slots.find(named)


def _is_done(cluster: LiveCluster, slot: Slot, request: DeployRequest) -> bool:
    """Whether what a call names was replaced already: the node of that id, or the slot a moment ago."""
    if request.replace_node_id not in (slot.name, slot.node_id):
        return True  # the id of a former node
    return not request.force and _is_recent(cluster, slot)


def _is_recent(cluster: LiveCluster, slot: Slot) -> bool:
    recovered_at_s, recent_s = slot.recovered_at_s, cluster.context.patience.deduplication_s
    return recovered_at_s is not None and cluster.clock() - recovered_at_s < recent_s


def _nothing_deployed(cluster: LiveCluster, slot: Slot, why: str) -> Outcome:
    ago = (
        "" if slot.recovered_at_s is None else f" {cluster.clock() - slot.recovered_at_s:.0f} s ago"
    )
    told = (
        f"nothing was deployed: {slot.name} was restarted{ago} and {why}; pass replace: false for a further"
        " node"
    )
    return Outcome(slot=slot, source="inherited", deduplicated=True, warnings=[told])


def _differs(slot: Slot, request: DeployRequest) -> bool:
    """Whether a call gives what this slot does not have, so that it cannot mean the slot."""
    mine = {
        "node_type": slot.spec.node_type,
        "autonomy": slot.spec.autonomy,
        "template": slot.spec.template,
    }
    given = request.model_fields_set
    if request.role is not None:
        given = given - {"node_type"}  # the role wins
    return any(getattr(request, name) != own for name, own in mine.items() if name in given)


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


async def _new_slot(
    cluster: LiveCluster, request: DeployRequest, role: Role, stands_in_for: str | None = None
) -> Outcome:
    layers, source, warnings = _network(cluster, request, role)
    _refuse_too_many(cluster, 1)
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
        name=cluster.slots.next_name(role),
        spec=spec,
        node_id=cluster.context.new_id("node"),
        stands_in_for=stands_in_for,
    )
    cluster.slots.add(slot)
    sync_ms = await start(cluster, slot)
    return Outcome(slot=slot, source=source, sync_ms=sync_ms, warnings=warnings)


def _refuse_too_many(cluster: LiveCluster, count: int) -> None:
    present, limit = len(cluster.slots), cluster.context.settings.max_nodes
    if present + count <= limit:
        return
    lost = next((slot.name for slot in cluster.slots if slot.lost), None)
    instead = f"replace a failed node (replace_node_id {lost!r}), " if lost else ""
    more = f" and {count} more were asked for" if count > 1 else ""
    raise LimitExceeded(
        f"cluster {cluster.cluster_id} has {present} nodes{more}; the limit is {limit}",
        hint=f"{instead}remove a node with neural_cluster_terminate (node_id), or start the server with a"
        " larger --max-nodes",
    )


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
    # A default worker has no layers of its own, unless an earlier version stored some: new ones share them.
    own = role == "worker" or (bool(peers) and peers[0].spec.layers_source != "default")
    if len(networks) == 1 and own and peers[0].spec.layers:
        return list(peers[0].spec.layers), "peer", []
    if role == "worker":
        return [], "default", []  # chosen for each training, when it is known what rows are like
    raw = default_layers(cluster.spec.architecture, request.model, role, slot_number=0)
    return [layer.to_json() for layer in parse_layers(raw).layers], "default", []


def _role_warnings(cluster: LiveCluster, request: DeployRequest, role: Role) -> list[str]:
    warnings = why_alone(cluster, role)
    if request.node_type is not None and request.node_type != role:
        warnings.append(f"role {role!r} wins over node_type {request.node_type!r}")
    return warnings


def _default_warnings(slot: Slot, rows: InputSpec | None) -> list[str]:
    if slot.spec.layers or rows is not None:
        return []
    warning = (
        "default layers follow the data of a training: these are for sequences of many channels (a window, a"
        " vector column); rows without one get dense layers"
    )
    return [warning]


def _mix_warnings(cluster: LiveCluster, outcomes: Sequence[Outcome]) -> list[str]:
    """What joining slots took away: with them another mix of models answers."""
    committed = cluster.committed
    former = committed.measured if committed is not None else None
    if committed is None or former is None or former.evaluation is None:
        return []
    names = [one.slot.name for one in outcomes]
    joined = [name for name in names if name in committed.members and name not in former.members]
    if not joined:
        return []
    warning = (
        f"{', '.join(joined[:8])} answers too, which makes another mix of models: accuracy, loss and"
        " calibration are unknown, and what other roles learnt rests, until the next training"
    )
    return [warning]


def _capability_warnings(capabilities: Sequence[str]) -> list[str]:
    inert = [tag for tag in capabilities if not parse_capability(tag).has_effect]
    if not inert:
        return []
    return [f"capabilities without an effect in this version are stored only: {', '.join(inert)}"]


def _report(
    cluster: LiveCluster, request: DeployRequest, outcomes: Sequence[Outcome]
) -> NodeReport:
    outcome = outcomes[0]
    slot = outcome.slot
    rows = cluster.committed.schema.input if cluster.committed else None
    isolation = slot.handle.isolation if slot.handle else Isolation(level="unknown")
    committed = cluster.committed
    serves = committed is not None and committed.loaded_into(slot.name) is not None
    return NodeReport(
        node_id=slot.node_id,
        node_ids=[one.slot.node_id for one in outcomes],
        slots=[one.slot.name for one in outcomes],
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
        layers=[dict(layer) for layer in slot.layers_for(cluster.spec.architecture, rows)],
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
        wasm=cluster.backends.of(slot) if cluster.backends else None,
        deployed_at=slot.deployed_at,
        warnings=[
            *outcome.warnings,
            *_mix_warnings(cluster, outcomes),
            *_default_warnings(slot, rows),
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
