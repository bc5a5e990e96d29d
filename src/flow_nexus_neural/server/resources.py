"""Clusters as resources: the list of clusters, the status of one, its training history and its audit log."""

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from pydantic import BaseModel

from flow_nexus_neural.engine.requests import StatusRequest
from flow_nexus_neural.errors import ClusterNotFound, NeuralError
from flow_nexus_neural.server.errors import error_text
from flow_nexus_neural.server.host import EngineHost
from flow_nexus_neural.server.neural_server import NeuralServer
from flow_nexus_neural.server.rounding import wire_json, wire_text
from flow_nexus_neural.server.schemas import StatusResult
from flow_nexus_neural.server.status_size import short_enough

CLUSTERS_URI = "neural://clusters"
CLUSTER_TEMPLATE = CLUSTERS_URI + "/{cluster_id}"
HISTORY_TEMPLATE = CLUSTER_TEMPLATE + "/history"
AUDIT_TEMPLATE = CLUSTER_TEMPLATE + "/audit"


def cluster_uris(cluster_id: str) -> tuple[str, str, str]:
    """URIs of the resources that depend on one cluster."""
    cluster_uri = CLUSTER_TEMPLATE.format(cluster_id=cluster_id)
    return CLUSTERS_URI, cluster_uri, HISTORY_TEMPLATE.format(cluster_id=cluster_id)


def register_resources(server: NeuralServer, host: EngineHost) -> None:
    """Register the four resources."""

    @server.resource(
        CLUSTERS_URI,
        name="clusters",
        title="All clusters",
        description="Ids, names and status of all clusters, newest last.",
        mime_type="application/json",
    )
    async def clusters() -> str:
        try:
            return _json(await (await host.engine()).clusters())
        except NeuralError as error:
            raise resource_error(error) from error

    @server.resource(
        CLUSTER_TEMPLATE,
        name="cluster",
        title="One cluster",
        description="The cluster's status in full detail, as neural_cluster_status reports it.",
        mime_type="application/json",
    )
    async def cluster(cluster_id: str) -> str:
        try:
            request = StatusRequest(cluster_id=cluster_id, detail="full")
            report = await (await host.engine()).status(request)
            return short_enough(StatusResult.of(report)).text
        except NeuralError as error:
            raise resource_error(error) from error

    @server.resource(
        HISTORY_TEMPLATE,
        name="history",
        title="Training history",
        description="Loss, accuracy, bytes and seconds of every committed round of the latest training.",
        mime_type="application/json",
    )
    async def history(cluster_id: str) -> str:
        try:
            return _json(await (await host.engine()).history(cluster_id))
        except NeuralError as error:
            raise resource_error(error) from error

    @server.resource(
        AUDIT_TEMPLATE,
        name="audit",
        title="Audit log of autonomy",
        description="The newest decisions with evidence and outcome, and whether their hash chain is whole.",
        mime_type="application/json",
    )
    async def audit(cluster_id: str) -> str:
        try:
            return _json(await (await host.engine()).audit(cluster_id))
        except NeuralError as error:
            raise resource_error(error) from error


def resource_error(error: NeuralError) -> ResourceError:
    """Convert an error of the engine to one of the SDK; an unknown cluster is an unknown resource."""
    kind = ResourceNotFoundError if isinstance(error, ClusterNotFound) else ResourceError
    return kind(error_text(error))


def _json(report: BaseModel) -> str:
    return wire_text(wire_json(report))
