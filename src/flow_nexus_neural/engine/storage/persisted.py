"""The formats in which clusters are stored, apart from what clients get and from what the engine holds.

Every open part of a row is a JSON object with a format number. Reading one goes through the upgrade steps
from its format to the present one, then into a frozen shape here. Fields that a shape does not know are
ignored and fields that are missing have defaults, so that a field can come and go without a new format. A new
format is needed where the meaning or the place of a field changes: raise `FORMAT`, add the step to
`_UPGRADES`, and keep a state directory of it under `tests/fixtures/state_dirs`.

History of formats:
    1: reports of the engine, as they were sent to clients; no number.
    2: shapes of their own; network groups under `networks`; a training's request and the sha256 of its data.
    3: the ledger of a cluster names the digest of every row of it, and one that it does not name is refused.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from flow_nexus_neural.errors import StoreCorrupt

FORMAT = 3

Part = Literal["cluster", "state", "slot", "training", "progress", "round"]
Json = Mapping[str, JsonValue]
Label = str | int | float | bool

LOST = "restore the state directory from a copy, or create the cluster again"


class Stored(BaseModel):
    """Base of all shapes: frozen, unknown fields ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class StoredPart(Stored):
    """A shape that is a whole open part of a row, with a format number."""

    part: ClassVar[Part]

    def to_json(self) -> dict[str, JsonValue]:
        """The part as it is stored, in the present format."""
        return {"format": FORMAT, **self.model_dump(mode="json")}


class StoredCluster(StoredPart):
    """What a cluster was declared to be."""

    part = "cluster"

    topology: str
    architecture: str
    consensus: str
    wasm_optimization: bool = True
    daa_enabled: bool = True
    seed: int


class StoredSplit(Stored):
    """Rows per part of a data set."""

    train: int = 0
    select: int = 0
    meta: int = 0
    verify: int = 0
    calib: int = 0
    test: int = 0
    purged: int = 0


class StoredDataset(Stored):
    """The data that a version was trained on."""

    name: str
    kind: str
    source: str
    rows: int
    columns: tuple[str, ...] = ()
    target: str
    task: str
    classes: tuple[Label, ...] | None = None
    split: StoredSplit = StoredSplit()
    synthetic: bool
    sha256: str
    symbols: tuple[str, ...] = ()
    excluded_columns: tuple[dict[str, str], ...] = ()


class StoredNetwork(Stored):
    """A network group, without its weights."""

    key: str
    plan: dict[str, JsonValue]
    slots: tuple[str, ...]
    layers_source: str = "given"
    optimizer: str
    digest: str | None = None
    blob: str | None = None
    moments_blob: str | None = None
    version: int = 0
    opt_step: int = 0
    rows: dict[str, int] = {}


class StoredBundle(Stored):
    """What shapes an answer besides the weights."""

    version: int
    digests: dict[str, str]
    parity: int
    slot_weights: dict[str, float]
    weights_source: str = "equal"
    calibrators: dict[str, dict[str, JsonValue]] = {}
    residual_quantiles: dict[str, float] = {}
    residual_median: float | None = None
    error_correlation: float | None = None
    threshold: float = 0.5
    class_weight: tuple[float, ...] = ()


class StoredVersion(Stored):
    """A committed version.

    `evaluation` holds measured numbers by name; one that is missing was not measured.
    """

    version: int
    data_schema: dict[str, JsonValue]
    dataset: StoredDataset
    networks: dict[str, StoredNetwork]
    bundle: StoredBundle
    evaluation: dict[str, JsonValue] | None = None
    accuracy: float | None = None
    loss: float | None = None
    recent: dict[str, tuple[str, ...]] = {}
    best: dict[str, str] = {}
    evaluated: dict[str, StoredNetwork] = {}


class StoredFinal(Stored):
    """What a terminated cluster had reached."""

    rounds: int | None = None
    global_accuracy: float | None = None
    global_loss: float | None = None
    communication_bytes: int | None = None
    uptime_seconds: int | None = None


class StoredState(StoredPart):
    """What a cluster is now."""

    part = "state"

    topology: str | None = None
    topology_epoch: int = 0
    networks_made: int = 0
    committed: StoredVersion | None = None
    communication: dict[str, int] = {}
    final: StoredFinal | None = None


class StoredSlot(StoredPart):
    """A slot: what it was declared to be, and what outlives its processes."""

    part = "slot"

    role: str
    node_type: str = "worker"
    model: str = "base"
    capabilities: tuple[str, ...] = ()
    autonomy: float = 0.0
    template: str = ""
    layers: tuple[dict[str, JsonValue], ...]
    layers_source: str = "given"
    parameters: int | None = None
    implied_head: bool | None = None
    rounds_done: int = 0
    rows: int | None = None
    deployed_at: str = ""
    last_error: str | None = None


class StoredConfig(Stored):
    """Every argument of a training as it takes effect."""

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    federated: bool
    rounds: int
    local_epochs: int = 1
    clients_per_round: int | None = None
    min_nodes_per_round: int | None = None
    aggregation_method: str = "federated_averaging"
    byzantine_f: int = 0
    partition: str
    seed: int
    strategy: str
    sync_every_steps: int | None = None
    refit: bool = False
    class_weight: dict[str, float] | None = None
    threshold: float | None = None
    positive_class: Label | None = None
    patience: int = 0
    chosen: tuple[str, ...] = ()


class StoredData(Stored):
    """Where the prepared rows of a training are: a file named by its sha256."""

    sha256: str
    nbytes: int


class StoredTraining(StoredPart):
    """What a training was asked and what it does.

    Attributes:
        request: As the client gave it, without inline data; None where an older format did not keep it.
        data: None where an older format did not keep the prepared rows.
    """

    part = "training"

    config: StoredConfig
    request: dict[str, JsonValue] | None = None
    data: StoredData | None = None


class StoredResult(Stored):
    """The final model of a training; `evaluation` as in `StoredState`."""

    model_version: int
    served_round: int
    digest: str
    accuracy: float | None = None
    loss: float | None = None
    evaluation: dict[str, JsonValue] | None = None
    dataset: dict[str, JsonValue]


class StoredSeen(Stored):
    """What a robust rule saw of one worker."""

    updates: int = 0
    far: int = 0
    excluded: int = 0
    distance: float = 0.0


class StoredScrutiny(Stored):
    """What a robust rule saw of a training's workers, by slot."""

    rules: dict[str, int] = {}
    rule: str | None = None
    updates: int = 0
    f: int = 0
    shortened: int = 0
    workers: dict[str, StoredSeen] = {}
    clients: dict[str, tuple[str, ...]] = {}


class StoredProgress(StoredPart):
    """How far a training is, and what it led to; `folds` and `refit` hold reports by name."""

    part = "progress"

    rounds_done: int = 0
    train_loss: float | None = None
    val_loss: float | None = None
    best_round: int | None = None
    best_loss: float | None = None
    steps: int = 0
    scrutiny: StoredScrutiny = StoredScrutiny()
    digest_before: str | None = None
    digest_after: str | None = None
    result: StoredResult | None = None
    folds: tuple[dict[str, JsonValue], ...] = ()
    refit: dict[str, JsonValue] | None = None
    phase: str = "rounds"
    later_planned: int = 0
    later_done: float = 0.0


class StoredRound(StoredPart):
    """One committed round of a training."""

    part = "round"

    round: int
    train_loss: float | None = None
    val_loss: float | None = None
    accuracy: float | None = None
    bytes: int = 0
    seconds: float = 0.0


S = TypeVar("S", bound=StoredPart)
M = TypeVar("M", bound=BaseModel)


def read(shape: type[S], stored: Json) -> S:
    """A stored part in the present format, whatever format it was written in.

    Raises:
        StoreCorrupt: It was written by a newer version, or cannot be understood.
    """
    try:
        return shape.model_validate(upgraded(shape.part, stored))
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise StoreCorrupt(
            f"its {shape.part} cannot be read: {where}: {first['msg']}", hint=LOST
        ) from failure


def demands_digests(stored: Json) -> bool:
    """Whether a part is of a format whose rows the ledger names; one whose format cannot be told is."""
    number = stored.get("format", 1)
    return not isinstance(number, int) or number >= 3


def report(kind: type[M], values: Mapping[str, Any]) -> M:
    """A report of the engine from stored values: unknown ones are left out, missing ones are None.

    Raises:
        StoreCorrupt: A value that the report cannot do without is missing, or one has no meaning to it.
    """
    return understood(kind, kind.__name__, {name: values.get(name) for name in kind.model_fields})


def understood(kind: type[M], name: str, values: Mapping[str, Any]) -> M:
    """A model of another package from stored values.

    Raises:
        StoreCorrupt: The values do not fit it.
    """
    try:
        return kind.model_validate_json(json.dumps(values))
    except ValueError as failure:  # pydantic's errors are ValueErrors
        why = str(failure).replace("\n", " ")
        raise StoreCorrupt(f"its {name} cannot be read: {why:.300}", hint=LOST) from failure


def upgraded(part: Part, stored: Json) -> dict[str, Any]:
    """The content of a stored part after every step from its format to the present one.

    Raises:
        StoreCorrupt: Its format is unknown here.
    """
    content: dict[str, Any] = dict(stored)
    number = content.pop("format", 1)
    if not isinstance(number, int) or number < 1:
        raise StoreCorrupt(f"its {part} has the format {number!r}, which does not exist", hint=LOST)
    if number > FORMAT:
        raise StoreCorrupt(
            f"its {part} was written in format {number}; this version reads up to {FORMAT}",
            hint="use the newer version that wrote it, or another --state-dir",
        )
    for step in range(number, FORMAT):
        content = _UPGRADES[step](part, content)
    return content


def _from_1(part: Part, content: dict[str, Any]) -> dict[str, Any]:
    """Format 1 to 2: names of their own; a training's row was its configuration and nothing else."""
    if part == "training":
        return {"config": content}
    if part == "state":
        content["networks_made"] = content.pop("cohorts_made", 0)
        version = content.get("committed")
        if isinstance(version, dict):
            version = dict(version)
            version["networks"] = version.pop("cohorts", None)
            version["data_schema"] = version.pop("schema", None)
            content["committed"] = version
    return content


def _from_2(_part: Part, content: dict[str, Any]) -> dict[str, Any]:
    """Format 2 to 3: the parts are the same; what is new stands in the ledger."""
    return content


_UPGRADES: dict[int, Callable[[Part, dict[str, Any]], dict[str, Any]]] = {1: _from_1, 2: _from_2}
"""From the format in the key to the next one."""
