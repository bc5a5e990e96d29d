"""Results of the tools: the engine's reports, plus names that clients of related products expect.

A result only adds `success` and aliases (`id`, `sandbox_id`, `session_id`, ...) to a report. No field has a
default, so the published schema lists all of them as required.
"""

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from flow_nexus_neural.engine.reports import (
    ClusterList,
    ClusterReport,
    ConnectReport,
    Edge,
    ExportReport,
    ImportReport,
    NodeReport,
    NodeStatus,
    PredictionReport,
    Report,
    StatusReport,
    TerminateReport,
    TrainingReport,
)


class Succeeded(Report):
    """Every result says that it succeeded; a failure is an error result instead."""

    success: Literal[True]


class _ClusterAlias(Succeeded):
    id: str


class InitResult(ClusterReport, _ClusterAlias):
    """A cluster exists."""

    @classmethod
    def of(cls, report: ClusterReport) -> Self:
        """Add the aliases."""
        return cls(success=True, id=report.cluster_id, **dict(report))


class ListResult(ClusterList, Succeeded):
    """The clusters that exist."""

    @classmethod
    def of(cls, report: ClusterList) -> Self:
        """Say that it succeeded."""
        return cls(success=True, **dict(report))


class _NodeAliases(Succeeded):
    id: str
    sandbox_id: str
    model_size: str
    autonomy_level: float


class DeployResult(NodeReport, _NodeAliases):
    """A node runs."""

    @classmethod
    def of(cls, report: NodeReport) -> Self:
        """Add the aliases."""
        return cls(
            success=True,
            id=report.node_id,
            sandbox_id=report.node_id,
            model_size=report.model,
            autonomy_level=report.autonomy,
            **dict(report),
        )


class EdgeLine(BaseModel):
    """One undirected link between two slots."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    from_slot: str = Field(alias="from")
    to_slot: str = Field(alias="to")
    latency_ms: float | None

    @classmethod
    def of(cls, edge: Edge) -> Self:
        """Rename the ends."""
        return cls.model_validate(dict(edge))


class LinkLine(EdgeLine):
    """One link that is meant to be there, and what is wrong with it."""

    fault: str | None


class ConnectResult(ConnectReport, Succeeded):
    """The nodes are linked, or will be at the next round."""

    connections_established: int
    edges: list[EdgeLine] | None  # type: ignore[assignment] # same field, ends renamed for the wire

    @classmethod
    def of(cls, report: ConnectReport) -> Self:
        """Add the alias and rename the ends of the edges."""
        edges = None if report.edges is None else [EdgeLine.of(edge) for edge in report.edges]
        return cls(
            success=True,
            connections_established=report.connections,
            **{**dict(report), "edges": edges},
        )


class _TrainingAliases(Succeeded):
    id: str
    session_id: str
    job_id: str
    total_epochs: int


class TrainResult(TrainingReport, _TrainingAliases):
    """A training runs."""

    @classmethod
    def of(cls, report: TrainingReport) -> Self:
        """Add the aliases."""
        return cls(
            success=True,
            id=report.training_id,
            session_id=report.training_id,
            job_id=report.training_id,
            total_epochs=report.epochs,
            **dict(report),
        )


class _NodeLineAliases(Report):
    id: str
    sandbox_id: str
    type: str
    state: str
    model_size: str


class NodeLine(NodeStatus, _NodeLineAliases):
    """One slot, as it is now."""

    @classmethod
    def of(cls, node: NodeStatus) -> Self:
        """Add the aliases."""
        return cls(
            id=node.node_id,
            sandbox_id=node.node_id,
            type=node.role,
            state=node.status,
            model_size=node.model,
            **dict(node),
        )


class StatusResult(StatusReport, _ClusterAlias):
    """A cluster, as it is now."""

    nodes: list[NodeLine]  # type: ignore[assignment] # same field, each node with its aliases
    links: list[LinkLine] | None  # type: ignore[assignment] # same field, ends renamed for the wire

    @classmethod
    def of(cls, report: StatusReport) -> Self:
        """Add the aliases of the cluster and of its nodes, and rename the ends of its links."""
        nodes = [NodeLine.of(node) for node in report.nodes]
        links = (
            None
            if report.links is None
            else [LinkLine.model_validate(dict(link)) for link in report.links]
        )
        told = {**dict(report), "nodes": nodes, "links": links}
        return cls(success=True, id=report.cluster_id, **told)


class PredictResult(PredictionReport, Succeeded):
    """An answer of the serving nodes."""

    aggregation_method: str

    @classmethod
    def of(cls, report: PredictionReport) -> Self:
        """Add the alias."""
        return cls(success=True, aggregation_method=report.aggregation, **dict(report))


class ExportResult(ExportReport, Succeeded):
    """A model was written."""

    @classmethod
    def of(cls, report: ExportReport) -> Self:
        """Say that it succeeded."""
        return cls(success=True, **dict(report))


class ImportResult(ImportReport, _ClusterAlias):
    """A cluster was made of an exported model."""

    @classmethod
    def of(cls, report: ImportReport) -> Self:
        """Add the alias."""
        return cls(success=True, id=report.cluster_id, **dict(report))


class TerminateResult(TerminateReport, Succeeded):
    """A cluster or a training has ended."""

    @classmethod
    def of(cls, report: TerminateReport) -> Self:
        """Say that it succeeded."""
        return cls(success=True, **dict(report))
