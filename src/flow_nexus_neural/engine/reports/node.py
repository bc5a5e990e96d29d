"""A node that was deployed."""

from typing import Literal

from pydantic import JsonValue

from flow_nexus_neural.engine.reports.base import NodeBackend, Report
from flow_nexus_neural.vocabulary import Applies, ModelSize, Role


class IsolationReport(Report):
    """What confines one node, as measured on it."""

    level: str
    layers: dict[str, JsonValue]
    probes: dict[str, str]
    not_enforced: list[str]
    missing: list[str]
    shared_with: list[str]


class NodeReport(Report):
    """A node runs; with a count several do, and all but the ids and slots is that of the first."""

    node_id: str
    node_ids: list[str]
    slots: list[str]
    cluster_id: str
    slot: str
    role: Role
    node_type: str
    status: Literal["deployed"]
    healthy: bool
    model: ModelSize
    capabilities: list[str]
    autonomy: float
    template: str
    runtime: str
    layers: list[dict[str, JsonValue]]
    layers_source: Literal["given", "inherited", "peer", "default"]
    parameters: int | None
    implied_head: bool | None
    incarnation: int
    replaces: str | None
    synced_version: int | None
    sync_ms: float | None
    deduplicated: bool
    joins: Applies
    pid: int | None
    isolation: IsolationReport
    wasm: NodeBackend | None
    deployed_at: str
    warnings: list[str]
