"""Federated training: start it, follow it, average once more, evaluate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from client import Neural, Reply, ToolFailed
from console import ProgressLine, number
from trading.synthetic_market import SyntheticMarket

ENDED = ("completed", "early_stopped", "stopped", "failed")


@dataclass(frozen=True)
class FederatedConfig:
    """What a training is started with."""

    rounds: int = 50
    clients_per_round: int = 5
    learning_rate: float = 0.001
    batch_size: int = 32
    aggregation_method: str = "auto"


class FederatedTradingLearning:
    """Coordinates trainings of one cluster."""

    def __init__(self, server: Neural, cluster_id: str) -> None:
        self.server = server
        self.cluster_id = cluster_id
        self.federated_config = FederatedConfig()
        self.training_history: list[dict[str, Any]] = []
        self.last_status: Reply = {}

    async def start_federated_training(
        self, dataset: str | Reply, *, epochs: int | None = None
    ) -> Reply:
        """Train to the end; return the reply that started it, or raise ToolFailed."""
        config = self.federated_config
        training = await self.server.call(
            "neural_train_distributed",
            cluster_id=self.cluster_id,
            dataset=dataset,
            epochs=config.rounds if epochs is None else epochs,
            batch_size=config.batch_size,
            learning_rate=config.learning_rate,
            optimizer="adam",
            federated=True,
            clients_per_round=config.clients_per_round,
            aggregation_method=config.aggregation_method,
        )
        status = await self.monitor_federated_training(training["training_id"])
        if status["training_status"] == "failed":
            raise ToolFailed(str(status["training_error"]))
        return training

    async def monitor_federated_training(self, training_id: str) -> Reply:
        """Follow a training by long polls: the server answers when something happened."""
        line = ProgressLine()
        while True:
            status = await self.server.call(
                "neural_cluster_status",
                cluster_id=self.cluster_id,
                training_id=training_id,
                detail="summary",
                wait_seconds=20,
            )
            self._remember(status, line)
            if status["training_status"] in ENDED:
                line.close()
                self.last_status = status
                return status

    async def aggregate_models(self) -> Reply:
        """Average all workers over a temporary star, then return to the declared topology."""
        aggregation = await self.server.call(
            "neural_cluster_connect", cluster_id=self.cluster_id, topology="star"
        )
        await self.server.call(
            "neural_cluster_connect",
            cluster_id=self.cluster_id,
            topology=aggregation["declared_topology"],
        )
        return aggregation

    async def evaluate_global_model(self) -> dict[str, Any]:
        """Ask the global model about synthetic hours whose outcome is known to the generator.

        The cluster's own held-out rows are evaluated by the server; see `global_accuracy` in its status.
        """
        records, outcomes = self.generate_test_data()
        evaluation = await self.server.call(
            "neural_predict_distributed",
            cluster_id=self.cluster_id,
            input_data=records,
            aggregation="ensemble",
        )
        return {
            "accuracy": self.calculate_accuracy(evaluation["predictions"], outcomes),
            "majority": max(sum(outcomes), len(outcomes) - sum(outcomes)) / len(outcomes),
            "predictions": evaluation["predictions"],
            "confidence": evaluation["confidence"],
            "model_consistency": self.calculate_model_consistency(evaluation),
        }

    def generate_test_data(self, hours: int = 100) -> tuple[list[Reply], list[bool]]:
        """Synthetic records, and whether the next synthetic return was positive."""
        market = SyntheticMarket(seed=11)
        ticks = [market.tick("BTC") for _ in range(hours)]
        return [tick.record for tick in ticks], [tick.went_up for tick in ticks]

    def calculate_accuracy(self, predictions: Sequence[float], outcomes: Sequence[bool]) -> float:
        """Share of right directions."""
        right = [
            (value > 0.5) == outcome for value, outcome in zip(predictions, outcomes, strict=True)
        ]
        return sum(right) / len(right)

    def calculate_model_consistency(self, evaluation: Reply) -> float:
        """1 / (1 + mean variance over nodes): 1 when every node says the same."""
        per_node: list[list[float]] = list((evaluation["node_predictions"] or {}).values())
        if len(per_node) < 2:
            return 1.0
        variances = []
        for values in zip(*per_node, strict=True):
            mean = sum(values) / len(values)
            variances.append(sum((value - mean) ** 2 for value in values) / len(values))
        return 1 / (1 + sum(variances) / len(variances))

    def _remember(self, status: Reply, line: ProgressLine) -> None:
        progress = status["training"]
        if progress is None or not progress["current_round"]:
            return
        line.update(
            progress["current_round"],
            progress["total_rounds"],
            f"train loss {number(progress['train_loss'])}"
            f" validation loss {number(progress['val_loss'])}"
            f" accuracy {number(status['global_accuracy'], 3)}"
            f" nodes {status['active_nodes']}"
            f" {status['communication_mb']:.1f} MB",
        )
        self.training_history.append(
            {
                "round": progress["current_round"],
                "accuracy": status["global_accuracy"],
                "loss": status["global_loss"],
                "communication_bytes": status["communication_bytes"],
            }
        )
