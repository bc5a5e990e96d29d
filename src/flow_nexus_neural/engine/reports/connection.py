"""The nodes' links."""

from typing import Literal

from flow_nexus_neural.engine.reports.base import Exclusion, Report
from flow_nexus_neural.vocabulary import Applies, Topology


class Edge(Report):
    """One undirected link; `from_slot` and `to_slot` are slot names."""

    from_slot: str
    to_slot: str
    latency_ms: float | None


class AggregationReport(Report):
    """The exact aggregation at a connect."""

    performed: bool
    reason: str | None
    version: int | None
    contributors: int | None
    excluded: list[Exclusion]
    weights_digest: str | None
    accuracy_before: float | None
    accuracy_after: float | None
    bytes: int | None
    ms: float | None


class Rebalanced(Report):
    """Shards that moved to another slot."""

    moved_shards: int


class ConnectReport(Report):
    """The nodes are linked, or will be at the next round."""

    cluster_id: str
    topology: Topology
    declared_topology: Topology
    previous_topology: Topology | None
    status: Literal["connected", "pending"]
    pending: bool
    changed: bool
    applied: Applies
    topology_epoch: int
    connections: int
    edges: list[Edge] | None
    nodes_connected: int
    connected: bool
    diameter: int | None
    spectral_gap: float | None
    aggregation: AggregationReport
    rebalanced: Rebalanced
    advice: list[str]
    warnings: list[str]


class ExchangeReport(Report):
    """The latest exchange of a network group's updates: the way that they took, and what it cost.

    Attributes:
        path: `links` where nodes read each other's memory, `engine` where the engine copied every update.
        reason: Why they went through the engine; None over links.
        members: Nodes that took part, with the engine where it is a root.
        state_bytes: Weights, running statistics and optimiser moments of one worker.
        contributors: Workers whose updates are part of the result.
        bytes: Payload that members read of each other, as the readers counted it; through the engine, what it
            copied of the updates that it did not refuse.
        busiest_bytes: The most that was read from one member.
        ms: None through the engine, which copies each update as its worker ends.
    """

    network: str
    path: Literal["links", "engine"]
    reason: str | None
    topology: Topology | None
    members: int
    contributors: int
    steps: int
    state_bytes: int
    bytes: int
    busiest_bytes: int
    ms: float | None
