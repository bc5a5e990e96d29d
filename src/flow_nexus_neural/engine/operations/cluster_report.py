"""What the reply about a cluster says that was made, found again or brought back."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.guarantees import guarantees
from flow_nexus_neural.engine.operations.status import cluster_config, isolation_preview
from flow_nexus_neural.engine.reports import ClusterReport, Restored
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.cluster import ClusterState
from flow_nexus_neural.errors import ClusterExists
from flow_nexus_neural.protocol.node_words import shortened

MAX_REASON_CHARS = 120
MAX_TOLD = 8


def cluster_report(
    cluster: LiveCluster,
    *,
    created: bool,
    warnings: list[str],
    restored: Restored | None = None,
) -> ClusterReport:
    """The reply about a cluster.

    Args:
        cluster: It.
        created: Whether it is new.
        warnings: For the caller.
        restored: How it was brought back; None where it was not.
    """
    return ClusterReport(
        cluster_id=cluster.cluster_id,
        name=cluster.spec.name,
        topology=cluster.spec.topology,
        architecture=cluster.spec.architecture,
        consensus=cluster.spec.consensus,
        status="initialized" if created else "ready",
        created=created,
        config=cluster_config(cluster),
        daa_enabled=cluster.spec.daa_enabled,
        wasm_enabled=cluster.backends is not None and cluster.backends.active,
        guarantees=guarantees(cluster),
        isolation=isolation_preview(cluster.context),
        max_nodes=cluster.context.settings.max_nodes,
        created_at=cluster.state.created_at,
        restored=restored,
        warnings=warnings,
    )


def reused(cluster: LiveCluster, request: InitRequest) -> ClusterReport:
    """The reply about a live cluster that a request means.

    Raises:
        ClusterExists: It has other settings than the request asks for.
    """
    refuse_other_settings(
        cluster.state,
        request,
        "has this name and other settings",
        hint="ask for its settings, choose another name, or leave reuse out",
    )
    return cluster_report(cluster, created=False, warnings=list(cluster.context.notices.always))


def refuse_other_settings(state: ClusterState, request: InitRequest, said: str, hint: str) -> None:
    """Raises `ClusterExists`, with each of them, where a cluster has other settings than are asked for."""
    differences = state.spec.differences(request)
    if differences:
        listed = ", ".join(
            f"{name}: has {mine!r}, asked {asked!r}" for name, (mine, asked) in differences.items()
        )
        raise ClusterExists(f"cluster {state.cluster_id} {said} ({listed})", hint=hint)


def not_started(cluster: LiveCluster) -> list[str]:
    """A warning for each node that did not start again, at most eight."""
    failed = [slot for slot in cluster.slots if not slot.healthy]
    return [
        f"{slot.name} did not start: {shortened(slot.last_error or slot.state, MAX_REASON_CHARS)}; replace it"
        " with neural_node_deploy (replace_node_id)"
        for slot in failed[:MAX_TOLD]
    ]
