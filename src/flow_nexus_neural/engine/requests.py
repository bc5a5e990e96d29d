"""What the engine may be asked, after the server has read and checked the arguments.

Importing this module loads neither numpy nor the engine.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

Topology = Literal["mesh", "ring", "star", "hierarchical"]
Architecture = Literal["transformer", "cnn", "rnn", "gnn", "hybrid"]
Consensus = Literal["proof-of-learning", "byzantine", "raft", "gossip"]
Role = Literal["worker", "parameter_server", "aggregator", "validator"]
ModelSize = Literal["base", "large", "xl", "custom"]
Optimizer = Literal["adam", "sgd", "rmsprop", "adagrad"]
Aggregation = Literal["mean", "majority", "weighted", "ensemble"]
Detail = Literal["summary", "nodes", "full"]
Until = Literal["change", "done"]
Probability = Annotated[float, Field(ge=0, le=1)]
Capability = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,48}$")]


class EngineRequest(BaseModel):
    """Base: immutable, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class InitRequest(EngineRequest):
    """Create a cluster."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    topology: Topology = "mesh"
    architecture: Architecture = "transformer"
    consensus: Consensus = "proof-of-learning"
    wasm_optimization: bool = True
    daa_enabled: bool = True
    reuse: bool = False
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None


class DeployRequest(EngineRequest):
    """Start one node, or replace one. `layers` is the caller's list, not yet canonical."""

    cluster_id: str
    node_type: Role | None = None
    role: Role | None = None
    model: ModelSize = "base"
    capabilities: Annotated[tuple[Capability, ...], Field(max_length=16)] = (
        "training",
        "inference",
    )
    autonomy: Probability = 0.8
    template: Annotated[str, Field(max_length=64)] = "nodejs"
    layers: tuple[dict[str, JsonValue], ...] | None = None
    replace_node_id: str | None = None
    replace: bool = True


class ConnectRequest(EngineRequest):
    """Link the nodes; None means the declared topology."""

    cluster_id: str
    topology: Topology | None = None
    wait_seconds: Annotated[float, Field(ge=0, le=25)] = 20


class TrainRequest(EngineRequest):
    """Start a training. `dataset` is a name, a path, or inline JSON."""

    cluster_id: str
    dataset: str | dict[str, JsonValue] | list[JsonValue]
    epochs: Annotated[int, Field(ge=1, le=1000)] = 10
    batch_size: Annotated[int, Field(ge=1, le=512)] = 32
    learning_rate: Annotated[float, Field(ge=1e-5, le=1)] = 1e-3
    optimizer: Optimizer = "adam"
    federated: bool = False
    rounds: Annotated[int, Field(ge=1, le=1000)] | None = None
    local_epochs: Annotated[int, Field(ge=1, le=50)] | None = None
    clients_per_round: Annotated[int, Field(ge=1, le=64)] | None = None
    min_nodes_per_round: Annotated[int, Field(ge=1, le=64)] | None = None
    aggregation_method: str | None = None
    partition: str | None = None
    target: str | None = None
    time_column: str | None = None
    features: tuple[str, ...] | None = None
    window: Annotated[int, Field(ge=2, le=512)] | None = None
    horizon: Annotated[int, Field(ge=0, le=512)] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None


class StatusRequest(EngineRequest):
    """Look at a cluster, or wait for something to happen to it."""

    cluster_id: str
    detail: Detail = "nodes"
    wait_seconds: Annotated[float, Field(ge=0, le=25)] = 0
    until: Until = "change"
    training_id: str | None = None


class PredictRequest(EngineRequest):
    """Ask the serving nodes.

    `input_data` is a record or a list of them, as JSON text or as values.
    """

    cluster_id: str
    input_data: str | dict[str, JsonValue] | list[JsonValue]
    aggregation: Aggregation = "mean"
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    deadline_ms: Annotated[int, Field(ge=10, le=20_000)] | None = None
    detail: Literal["default", "full"] = "default"


class TerminateRequest(EngineRequest):
    """End a cluster, or only one of its trainings."""

    cluster_id: str
    training_id: str | None = None
    delete_artifacts: bool = False
