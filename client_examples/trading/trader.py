"""A cluster of eleven nodes in four roles, in a tree."""

from dataclasses import dataclass
from typing import Any

from client import Neural, Reply
from trading.federated import FederatedTradingLearning

Layer = dict[str, Any]


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are deployed alike."""

    role: str
    model: str
    capabilities: tuple[str, ...]
    count: int


NODE_GROUPS = (
    NodeGroup("parameter_server", "xl", ("gradient_aggregation", "model_synchronization"), 2),
    NodeGroup("worker", "large", ("btc_analysis", "real_time_inference"), 3),
    NodeGroup("worker", "large", ("eth_analysis", "pattern_recognition"), 3),
    NodeGroup("aggregator", "base", ("ensemble_prediction", "confidence_estimation"), 2),
    NodeGroup("validator", "base", ("model_validation", "prediction_verification"), 1),
)

ARCHITECTURES: dict[str, list[Layer]] = {
    "parameter_server": [
        {"type": "dense", "units": 512, "activation": "relu"},
        {"type": "dropout", "rate": 0.3},
        {"type": "dense", "units": 256, "activation": "relu"},
        {"type": "dense", "units": 128, "activation": "linear"},
    ],
    "worker": [
        {"type": "lstm", "units": 256, "return_sequences": True},
        {"type": "attention", "heads": 8, "key_dim": 64},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 64, "activation": "tanh"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ],
    "aggregator": [
        {"type": "dense", "units": 256, "activation": "relu"},
        {"type": "batch_normalization"},
        {"type": "dense", "units": 128, "activation": "relu"},
        {"type": "dense", "units": 1, "activation": "linear"},
    ],
    "validator": [
        {"type": "dense", "units": 64, "activation": "relu"},
        {"type": "dense", "units": 32, "activation": "relu"},
        {"type": "dense", "units": 1, "activation": "sigmoid"},
    ],
}


class DistributedNeuralTrader:
    """Builds the cluster: init, deploy, connect."""

    def __init__(self, server: Neural, *, seed: int | None = None) -> None:
        self.server = server
        self.seed = seed
        self.cluster_id: str | None = None
        self.cluster: Reply = {}
        self.nodes: dict[str, Reply] = {}
        self.connection: Reply = {}
        self.federated: FederatedTradingLearning | None = None

    @property
    def node_ids(self) -> dict[str, str]:
        """Node ids by slot. (`role_index` as key would collide: there are two groups of workers.)"""
        return {slot: node["node_id"] for slot, node in self.nodes.items()}

    async def initialize_cluster(self) -> str:
        """Create, populate and connect the cluster; return its id."""
        cluster_id = await self.create_neural_cluster()
        await self.deploy_specialized_nodes()
        await self.setup_node_communication()
        await self.initialize_federated_learning()
        return cluster_id

    async def create_neural_cluster(self) -> str:
        """Create the cluster, hierarchical for its parameter servers."""
        self.cluster = await self.server.call(
            "neural_cluster_init",
            name="trading-neural-cluster",
            topology="hierarchical",
            architecture="hybrid",
            wasmOptimization=True,
            daaEnabled=True,
            consensus="byzantine",
            seed=self.seed,
        )
        self.cluster_id = str(self.cluster["id"])
        return self.cluster_id

    async def deploy_specialized_nodes(self) -> None:
        """Deploy every group, one node after the other."""
        for group in NODE_GROUPS:
            for _ in range(group.count):
                await self.deploy_node(group)

    async def deploy_node(self, group: NodeGroup) -> Reply:
        """Deploy one node of a group and remember it under its slot."""
        node = await self.server.call(
            "neural_node_deploy",
            cluster_id=self.cluster_id,
            node_type=group.role,
            role=group.role,
            model=group.model,
            capabilities=list(group.capabilities),
            autonomy=0.8,
            template="nodejs",
            layers=self.get_architecture_config(group.role),
        )
        self.nodes[node["slot"]] = node
        return node

    def get_architecture_config(self, role: str) -> list[Layer]:
        """The layers of a role; an unknown role gets a worker's."""
        return ARCHITECTURES.get(role, ARCHITECTURES["worker"])

    async def setup_node_communication(self) -> Reply:
        """Connect the nodes as a tree."""
        self.connection = await self.server.call(
            "neural_cluster_connect", cluster_id=self.cluster_id, topology="hierarchical"
        )
        return self.connection

    async def initialize_federated_learning(self) -> FederatedTradingLearning:
        """Prepare the coordinator of trainings for this cluster."""
        self.federated = FederatedTradingLearning(self.server, str(self.cluster_id))
        return self.federated
