"""What the reply about a cluster says that was made, found again or brought back."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.guarantees import guarantees
from flow_nexus_neural.engine.operations.status import cluster_config, isolation_preview
from flow_nexus_neural.engine.reports import ClusterReport, Restored
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.errors import ClusterExists


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
    differences = cluster.spec.differences(request)
    if differences:
        listed = ", ".join(
            f"{name}: has {mine!r}, asked {asked!r}" for name, (mine, asked) in differences.items()
        )
        raise ClusterExists(
            f"cluster {cluster.cluster_id} has this name and other settings ({listed})",
            hint="ask for its settings, choose another name, or leave reuse out",
        )
    return cluster_report(cluster, created=False, warnings=list(cluster.context.notices.always))
