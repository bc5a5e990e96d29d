"""All clusters of a state directory, in one line each."""

from collections.abc import Iterable, Mapping

from flow_nexus_neural.coordination.membership import count
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.operations.status import cluster_state
from flow_nexus_neural.engine.reports import ClusterLine, ClusterList
from flow_nexus_neural.engine.requests import ListRequest


def cluster_list(
    clusters: Iterable[LiveCluster], refused: Mapping[str, str], request: ListRequest | None
) -> ClusterList:
    """Clusters in the order in which they were created, then those that cannot be read.

    Args:
        clusters: All that could be read.
        refused: Why the others could not be, by id.
        request: Which to list; None for all. What cannot be read is always listed.
    """
    known = list(clusters)
    live = [cluster for cluster in known if cluster.state.terminated_at is None]
    chosen = known if request is None or request.include_ended else live
    kept = chosen if request is None else chosen[-request.limit :]
    warnings = [f"{name} cannot be read: {reason}" for name, reason in refused.items()]
    if len(kept) < len(chosen):
        warnings.append(
            f"{len(chosen) - len(kept)} older clusters are not listed; a larger limit lists them too"
        )
    return ClusterList(
        clusters=[_line(cluster) for cluster in kept] + [_unreadable(name) for name in refused],
        live=len(live),
        ended=len(known) - len(live),
        warnings=warnings,
    )


def _line(cluster: LiveCluster) -> ClusterLine:
    counts = count([slot.state for slot in cluster.slots])
    training = cluster.state.latest_training
    return ClusterLine(
        cluster_id=cluster.cluster_id,
        name=cluster.spec.name,
        status=cluster_state(cluster),
        created_at=cluster.state.created_at,
        active_nodes=counts.active,
        total_nodes=counts.total,
        training_status=training.status if training else "none",
        training_progress=training.percent if training else 0.0,
        model_version=cluster.committed.version if cluster.committed else None,
    )


def _unreadable(cluster_id: str) -> ClusterLine:
    return ClusterLine(
        cluster_id=cluster_id,
        name="",
        status="unreadable",
        created_at="",
        active_nodes=None,
        total_nodes=None,
        training_status=None,
        training_progress=None,
        model_version=None,
    )
