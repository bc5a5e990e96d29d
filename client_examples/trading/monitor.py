"""Health of a cluster: measure it, replace what failed, check that it serves one model."""

import time
from dataclasses import dataclass

import anyio

from client import Neural, Reply, ToolFailed


@dataclass(frozen=True)
class HealthCheck:
    """One look at a cluster."""

    score: float
    active_nodes: int
    failed_nodes: int
    avg_latency_ms: float | None
    unresponsive: tuple[str, ...]
    distinct_models: int | None


@dataclass(frozen=True)
class Failure:
    """A recovery that did not work, or a check that got no answer."""

    node_id: str | None
    error: str
    at_s: float


class NeuralClusterMonitor:
    """Watches one cluster."""

    def __init__(self, server: Neural, cluster_id: str) -> None:
        self.server = server
        self.cluster_id = cluster_id
        self.health_checks: list[HealthCheck] = []
        self.failure_history: list[Failure] = []
        self.recoveries: list[Reply] = []

    async def start_health_monitoring(self, stop: anyio.Event, interval_s: float = 1.0) -> None:
        """Check once per interval until `stop` is set. A recovery under way is finished first."""
        while not stop.is_set():
            await self.perform_health_check()
            with anyio.move_on_after(interval_s):
                await stop.wait()

    async def perform_health_check(self) -> HealthCheck | None:
        """Look, and act on what is seen; None when the server refused to answer."""
        try:
            status = await self.server.call("neural_cluster_status", cluster_id=self.cluster_id)
        except ToolFailed as failure:
            self.handle_health_check_failure(failure)
            return None
        return await self.analyze_cluster_health(status)

    async def analyze_cluster_health(self, status: Reply) -> HealthCheck:
        """Score the status and replace failed nodes."""
        check = HealthCheck(
            score=self.calculate_health_score(status),
            active_nodes=status["active_nodes"],
            failed_nodes=status["failed_nodes"],
            avg_latency_ms=status["avg_latency"],
            unresponsive=self.check_node_responsiveness(status),
            distinct_models=self.validate_model_consistency(status),
        )
        self.health_checks.append(check)
        # One dead node of eleven lowers the score by only 0.02: the count is what calls for action.
        if check.failed_nodes or check.score < 0.8:
            await self.initiate_recovery_procedure(status)
        return check

    def calculate_health_score(self, status: Reply) -> float:
        """Mean of availability, latency, error rate and memory, each between 0 and 1.

        What was not measured yet counts as good, since nothing speaks against it.
        """
        factors = (
            status["active_nodes"] / max(status["total_nodes"], 1),
            max(0.0, 1 - (status["avg_latency"] or 0.0) / 1000),
            max(0.0, 1 - (status["error_rate"] or 0.0)),
            max(0.0, 1 - (status["memory_usage"] or 0.0) / 100),
        )
        return sum(factors) / len(factors)

    def check_node_responsiveness(self, status: Reply) -> tuple[str, ...]:
        """Slots that do not answer."""
        return tuple(node["slot"] for node in status["nodes"] if not node["healthy"])

    def validate_model_consistency(self, status: Reply) -> int | None:
        """How many different models serve; 1 after averaging, None before a training."""
        serving = status["serving"]
        return None if serving is None else int(serving["effective_ensemble_size"])

    async def initiate_recovery_procedure(self, status: Reply) -> None:
        """Replace every failed node, then connect anew."""
        failed = [node for node in status["nodes"] if not node["healthy"]]
        for node in failed:
            await self.recover_failed_node(node)
        if failed:
            await self.rebalance_cluster_load()

    async def recover_failed_node(self, node: Reply) -> Reply | None:
        """Deploy without layers: the failed slot's network and the committed weights come back."""
        try:
            replacement = await self.server.call(
                "neural_node_deploy",
                cluster_id=self.cluster_id,
                node_type=node["role"],
                model=node["model_size"],
                capabilities=node["capabilities"],
                autonomy=0.8,
            )
        except ToolFailed as failure:
            self.failure_history.append(Failure(node["id"], str(failure), time.monotonic()))
            return None
        self.recoveries.append(replacement)
        self.sync_model_state(replacement)
        return replacement

    def sync_model_state(self, replacement: Reply) -> None:
        """Hold the server to its word: a replacement is healthy only after it was synced."""
        if not replacement["healthy"]:
            self.failure_history.append(
                Failure(replacement["node_id"], "replacement is not healthy", time.monotonic())
            )

    async def rebalance_cluster_load(self, topology: str = "mesh") -> Reply:
        """Connect anew; a mesh has no single point whose loss would cut others off."""
        return await self.server.call(
            "neural_cluster_connect", cluster_id=self.cluster_id, topology=topology
        )

    def handle_health_check_failure(self, failure: ToolFailed) -> None:
        """Remember a check that got no answer."""
        self.failure_history.append(Failure(None, str(failure), time.monotonic()))
