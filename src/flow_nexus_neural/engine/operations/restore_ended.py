"""Brings a cluster back that was terminated and whose files stay: same id, nodes, links and model.

It is read and verified as at the start of a server, with its weights this time. What the ledger goes on with
says that it was restored; only then do its nodes start again, as new processes of the same slots.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pydantic import JsonValue

from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.links.connect import link_again
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import revive
from flow_nexus_neural.engine.operations.cluster_report import not_started, refuse_other_settings
from flow_nexus_neural.engine.operations.clusters import Clusters, EndedCluster
from flow_nexus_neural.engine.operations.fall_back import FallBack, find_whole
from flow_nexus_neural.engine.operations.restore import read_cluster
from flow_nexus_neural.engine.reports import Restored
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.cluster import ClusterState
from flow_nexus_neural.engine.storage.cluster_rows import (
    last_topology,
    present_cluster_row,
    slot_row,
)
from flow_nexus_neural.engine.storage.ledger_writer import LateRow, LedgerWriter
from flow_nexus_neural.engine.storage.rows import ClusterRow, Stored
from flow_nexus_neural.errors import (
    ClusterExists,
    ClusterNotFound,
    ClusterTerminated,
    LimitExceeded,
    NeuralError,
    StoreCorrupt,
)


@dataclass(frozen=True)
class StartedAgain:
    """What became of the nodes and links of a restored cluster."""

    report: Restored
    warnings: list[str]


def ended_cluster(
    clusters: Clusters, request: InitRequest, text: str
) -> EndedCluster | LiveCluster:
    """The cluster that `restore` names; a live one only for a version of it, or where `reuse` allows that.

    Raises:
        ClusterNotFound, AmbiguousCluster: There is none, or more than one.
        ClusterExists: It has not ended.
        StoreCorrupt: It cannot be read.
    """
    ended = clusters.ended(text)
    if ended is not None:
        return ended
    live = [c for c in clusters.live() if text in (c.cluster_id, c.spec.name)]
    if live and (request.reuse or request.version is not None):
        return live[-1]
    if live:
        raise ClusterExists(
            f"cluster {live[-1].cluster_id} ({live[-1].spec.name!r}) has not ended",
            hint="use it as it is; pass version too to put an earlier version of its model in force",
        )
    clusters.find(text)  # says what is wrong with any other name
    raise ClusterNotFound(
        f"the end of cluster {text[:80]!r} is not recorded yet",
        hint="call neural_cluster_terminate again, then restore it",
    )


def refuse_restore(
    context: EngineContext, clusters: Clusters, request: InitRequest, ended: EndedCluster
) -> EndedCluster:
    """Refuse what can be told without reading the cluster; returns it as it is now.

    Raises:
        ClusterTerminated: Its files were deleted.
        ClusterExists: A live cluster has the name.
        LimitExceeded: There are as many live clusters as may be.
    """
    ended = clusters.ended(ended.cluster_id) or ended
    if ended.deleted:
        raise ended.refuse()
    name = request.name or ended.name
    twins = [c.cluster_id for c in clusters.live() if c.spec.name == name]
    if twins:
        raise ClusterExists(
            f"live cluster {twins[-1]} has the name {name!r}",
            hint=f"pass another name together with restore {ended.cluster_id!r}",
        )
    refuse_more_clusters(context, len(clusters.live()))
    return ended


def refuse_more_clusters(context: EngineContext, live: int) -> None:
    """Raises `LimitExceeded` where there are as many live clusters as may be."""
    limit = context.settings.max_clusters
    if live >= limit:
        raise LimitExceeded(
            f"this server has {live} live clusters; the limit is {limit}",
            hint="end one with neural_cluster_terminate, or start the server with --max-clusters",
        )


async def reopened(
    context: EngineContext, clusters: Clusters, request: InitRequest, ended: EndedCluster
) -> tuple[ClusterState, FallBack | None]:
    """The cluster as it was, every file verified; that it goes on is durable when this returns.

    Raises:
        StoreCorrupt: A row or a file is missing or altered; the message names it.
        LimitExceeded: It has more nodes than this server allows.
        ClusterExists: It has other settings than the request asks for.
        StoreUnavailable: That it goes on could not be made durable.
    """
    stored, row = await clusters.read_whole(ended)
    state, whole = await _read_or_fall_back(context, stored, row, request.name)
    refuse_other_settings(
        state,
        request,
        "had other settings",
        hint="a restored cluster keeps its settings: leave them out",
    )
    if len(state.slots) > context.settings.max_nodes:
        raise LimitExceeded(
            f"cluster {ended.cluster_id} had {len(state.slots)} nodes; the limit is"
            f" {context.settings.max_nodes}",
            hint="start the server with a larger --max-nodes",
        )
    restored: dict[str, JsonValue] = {
        "kind": "control",
        "event": "restored",
        "terminated_at": ended.terminated_at,
    }
    rows: list[LateRow] = [slot_row(state.cluster_id, slot) for slot in state.slots]
    ledger = LedgerWriter(context.store, state, context.timestamp)
    await ledger.record([restored], [*rows, present_cluster_row(state)])
    state.restart_clock()
    return state, whole


async def _read_or_fall_back(
    context: EngineContext, stored: Stored, row: ClusterRow, name: str | None
) -> tuple[ClusterState, FallBack | None]:
    """The cluster; without weights where a file of its version is damaged, and then what takes its place."""
    read = partial(_read, context, stored, row, context.clock(), name)
    try:
        return await context.offload(read), None
    except StoreCorrupt as failure:
        damage = failure
    try:
        state = await context.offload(partial(read, weights=False))
        whole = await find_whole(context, state)
    except StoreCorrupt:
        whole = None
    if whole is None:
        raise StoreCorrupt(
            f"cluster {row.cluster_id} cannot be restored: {damage.message}",
            hint="put the file back from a copy of the state directory, or create a cluster with"
            " neural_cluster_init",
        ) from damage
    return state, whole


async def start_again(cluster: LiveCluster, terminated_at: str) -> StartedAgain:
    """Start the nodes of a restored cluster and link them as they were; what fails is a warning.

    Raises:
        ClusterTerminated: It was ended again meanwhile.
    """
    topology = cluster.state.last_topology
    await revive(cluster)
    cluster.state.refuse_ended()
    warnings = not_started(cluster)
    try:
        await link_again(cluster)
    except ClusterTerminated:
        raise
    except NeuralError as failure:
        warnings.append(f"the nodes could not be linked as {topology} again: {failure.message}")
    committed, links = cluster.committed, cluster.state.links
    report = Restored(
        terminated_at=terminated_at,
        nodes=len(cluster.slots),
        healthy_nodes=len(cluster.slots.healthy()),
        topology=links.topology if links else None,
        model_version=committed.version if committed else None,
        restored_version=None,
    )
    return StartedAgain(report, [*cluster.state.cautions, *warnings])


def _read(
    context: EngineContext,
    stored: Stored,
    row: ClusterRow,
    now_s: float,
    name: str | None,
    *,
    weights: bool = True,
) -> ClusterState:
    """The cluster, with its weights unless told otherwise, its slots waiting to be started. Blocking."""
    members = _members(stored.ledgers.get(row.cluster_id, ()))
    slots = tuple(
        replace(slot, state="recovering") if slot.slot in members else slot for slot in stored.slots
    )
    whole, row = replace(stored, slots=slots), replace(row, terminated_at=None)
    state = read_cluster(context, whole, row, now_s, weights=weights)
    state.reopen(name, last_topology(row))
    return state


def _members(chain: Sequence[Mapping[str, JsonValue]]) -> set[str]:
    """Slots that had joined and were not removed when the cluster ended: all are stored as retired."""
    members: set[str] = set()
    for entry in chain:
        if entry.get("event") == "joined":
            members.add(str(entry["slot"]))
        elif entry.get("event") == "left":
            members.discard(str(entry["slot"]))
    return members
