"""What the engine may be asked, after the server has read and checked the arguments.

Importing this module loads neither numpy nor the engine.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SkipValidation,
    ValidationError,
    model_validator,
)
from pydantic_core import InitErrorDetails

from flow_nexus_neural.vocabulary import (
    BATCH_SIZE,
    BYZANTINE_F,
    CAPABILITY_PATTERN,
    CLIENTS,
    CLUSTER_NAME_LENGTH,
    DEADLINE_MS,
    DEFAULT_AGGREGATION,
    DEPLOY_COUNT,
    EPOCHS,
    FOLDS,
    HORIZON,
    LEARNING_RATE,
    LOCAL_EPOCHS,
    MAX_CAPABILITIES,
    PATIENCE,
    PROXIMAL_MU,
    SEED_LIMIT,
    SERVER_LEARNING_RATE,
    SERVER_MOMENTUM,
    THRESHOLD,
    WAIT_S,
    WINDOW,
    Aggregation,
    AnswerDetail,
    Architecture,
    Consensus,
    Detail,
    ExportFormat,
    Label,
    ModelSize,
    Optimizer,
    PlotFormat,
    PlotKind,
    Role,
    TaskKind,
    Topology,
    Until,
)

Validate = Callable[[Any], Any]
"""How pydantic validates the fields of a request."""
Unchecked = Annotated[JsonValue, SkipValidation]
"""Values that came as JSON and are read one by one where they are used: one walk less over all of them."""
Probability = Annotated[float, Field(ge=0, le=1)]
ClusterName = Annotated[
    str, Field(min_length=CLUSTER_NAME_LENGTH.low, max_length=CLUSTER_NAME_LENGTH.high)
]
CapabilityTag = Annotated[str, Field(pattern=CAPABILITY_PATTERN)]
Seed = Annotated[int, Field(ge=0, lt=SEED_LIMIT)]
Epochs = Annotated[int, Field(ge=EPOCHS.low, le=EPOCHS.high)]
Clients = Annotated[int, Field(ge=CLIENTS.low, le=CLIENTS.high)]
Threshold = Annotated[float, Field(ge=THRESHOLD.low, le=THRESHOLD.high)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1)]
WaitSeconds = Annotated[float, Field(ge=WAIT_S.low, le=WAIT_S.high)]


class EngineRequest(BaseModel):
    """Base: immutable, no unknown field."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _with_one_of(
    model: type[EngineRequest], fields: tuple[str, ...], given: Any, validate: Validate
) -> Any:
    """Validate a request of which one of these fields must be given; otherwise the first one is missing."""
    lacking = not isinstance(given, dict) or all(given.get(name) is None for name in fields)
    missing: InitErrorDetails = {"type": "missing", "loc": fields[:1], "input": given}
    wrong: list[InitErrorDetails] = []
    try:
        made = validate(given)
    except ValidationError as failure:
        if not lacking:
            raise
        wrong = [
            {
                "type": one["type"],
                "loc": one["loc"],
                "input": one["input"],
                "ctx": one.get("ctx", {}),
            }
            for one in failure.errors(include_url=False)
        ]
    else:
        if not lacking:
            return made
    raise ValidationError.from_exception_data(model.__name__, [*wrong, missing])


class InitRequest(EngineRequest):
    """Create a cluster, or with `restore` bring one back that has ended.

    A restored cluster has the settings that it had; of the other fields only `name` may then say something
    new. With `version` that version of it, which may also be a live one, is put in force.
    """

    name: ClusterName | None = None
    topology: Topology = "mesh"
    architecture: Architecture = "transformer"
    consensus: Consensus = "proof-of-learning"
    wasm_optimization: bool = True
    daa_enabled: bool = True
    reuse: bool = False
    seed: Seed | None = None
    restore: str | None = None
    version: Version | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _needs_a_name(cls, given: Any, validate: Validate) -> Any:
        """Only a restored cluster has a name already."""
        return _with_one_of(cls, ("name", "restore"), given, validate)


class ListRequest(EngineRequest):
    """List the newest `limit` clusters; those that have ended only when they are asked for."""

    include_ended: bool = False
    limit: Annotated[int, Field(ge=1, le=1000)] = 50


class DeployRequest(EngineRequest):
    """Start one node or several alike, or replace one.

    `layers` is the caller's list or Keras model, not yet canonical.
    """

    cluster_id: str
    node_type: Role | None = None
    role: Role | None = None
    model: ModelSize = "base"
    capabilities: Annotated[tuple[CapabilityTag, ...], Field(max_length=MAX_CAPABILITIES)] = (
        "training",
        "inference",
    )
    autonomy: Probability = 0.8
    template: Annotated[str, Field(max_length=64)] = "nodejs"
    layers: tuple[dict[str, JsonValue], ...] | dict[str, JsonValue] | None = None
    count: Annotated[int, Field(ge=DEPLOY_COUNT.low, le=DEPLOY_COUNT.high)] = 1
    replace_node_id: str | None = None
    force: bool = False
    replace: bool = True


class ConnectRequest(EngineRequest):
    """Link the nodes; None means the declared topology."""

    cluster_id: str
    topology: Topology | None = None
    wait_seconds: WaitSeconds = 20


class TrainRequest(EngineRequest):
    """Start a training. `dataset` is a name, a path, or inline JSON; None is chosen to fit the data.

    `class_weight` is "balanced" or the weight of classes by label, also as JSON text.
    """

    cluster_id: str
    dataset: str | dict[str, JsonValue] | list[JsonValue]
    epochs: Epochs | None = None
    batch_size: Annotated[int, Field(ge=BATCH_SIZE.low, le=BATCH_SIZE.high)] | None = None
    learning_rate: Annotated[float, Field(ge=LEARNING_RATE.low, le=LEARNING_RATE.high)] | None = (
        None
    )
    patience: Annotated[int, Field(ge=PATIENCE.low, le=PATIENCE.high)] | None = None
    optimizer: Optimizer = "adam"
    federated: bool = False
    rounds: Epochs | None = None
    local_epochs: Annotated[int, Field(ge=LOCAL_EPOCHS.low, le=LOCAL_EPOCHS.high)] | None = None
    clients_per_round: Clients | None = None
    min_nodes_per_round: Clients | None = None
    aggregation_method: str | None = None
    byzantine_f: Annotated[int, Field(ge=BYZANTINE_F.low, le=BYZANTINE_F.high)] | None = None
    proximal_mu: Annotated[float, Field(ge=PROXIMAL_MU.low, le=PROXIMAL_MU.high)] | None = None
    server_learning_rate: (
        Annotated[float, Field(ge=SERVER_LEARNING_RATE.low, le=SERVER_LEARNING_RATE.high)] | None
    ) = None
    server_momentum: (
        Annotated[float, Field(ge=SERVER_MOMENTUM.low, le=SERVER_MOMENTUM.high)] | None
    ) = None
    partition: str | None = None
    target: str | None = None
    time_column: str | None = None
    features: tuple[str, ...] | None = None
    exclude: tuple[str, ...] | None = None
    task: TaskKind | None = None
    window: Annotated[int, Field(ge=WINDOW.low, le=WINDOW.high)] | None = None
    horizon: Annotated[int, Field(ge=HORIZON.low, le=HORIZON.high)] | None = None
    test_size: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    validation_size: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    folds: Annotated[int, Field(ge=FOLDS.low, le=FOLDS.high)] | None = None
    class_weight: str | dict[str, JsonValue] | None = None
    threshold: Threshold | None = None
    positive_class: Label | None = None
    seed: Seed | None = None
    refit: bool | None = None
    privacy: dict[str, JsonValue] | None = None
    secure_aggregation: bool = False


class StatusRequest(EngineRequest):
    """Look at a cluster, or wait for something to happen to it."""

    cluster_id: str
    detail: Detail = "nodes"
    wait_seconds: WaitSeconds = 0
    until: Until = "change"
    training_id: str | None = None


class PredictRequest(EngineRequest):
    """Ask the serving nodes.

    `input_data` is a record or a list of them, as JSON text or as values; `input_path` names a file of them
    instead. With `output_path` the answers go into a file. `outcomes` are those of earlier predictions.
    """

    cluster_id: str
    input_data: str | dict[str, Unchecked] | list[Unchecked] | None = None
    input_path: str | None = None
    output_path: str | None = None
    overwrite: bool = False
    aggregation: Aggregation = DEFAULT_AGGREGATION
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    outcomes: dict[str, Unchecked] | None = None
    deadline_ms: Annotated[int, Field(ge=DEADLINE_MS.low, le=DEADLINE_MS.high)] | None = None
    detail: AnswerDetail = "default"
    threshold: Threshold | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _needs_input(cls, given: Any, validate: Validate) -> Any:
        """Without a file, the records themselves are needed."""
        return _with_one_of(cls, ("input_data", "input_path"), given, validate)


class ExportRequest(EngineRequest):
    """Write a version of a cluster's model, by default the one in force, as files of a format."""

    cluster_id: str
    path: str
    format: ExportFormat = "safetensors"
    overwrite: bool = False
    version: Version | None = None


class PlotRequest(EngineRequest):
    """Draw what was measured of a cluster; None for the format is a picture where one can be drawn."""

    cluster_id: str
    kind: PlotKind = "learning_curve"
    format: PlotFormat | None = None
    path: str | None = None
    overwrite: bool = False


class ImportRequest(EngineRequest):
    """Make a cluster of an exported folder; `sha256` is that of its manifest, where the caller knows it."""

    path: str
    name: ClusterName | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None


class TerminateRequest(EngineRequest):
    """End a cluster, or only one of its trainings or nodes."""

    cluster_id: str
    training_id: str | None = None
    node_id: str | None = None
    delete_artifacts: bool = False
