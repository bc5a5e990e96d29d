"""Stored shapes of a cluster: what it is, its versions and its slots."""

from pydantic import JsonValue

from flow_nexus_neural.engine.storage.persisted.base import Label, Stored, StoredPart
from flow_nexus_neural.engine.storage.persisted.privacy_shapes import StoredModelPrivacy


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
    """A network group, without its weights.

    `server_blob` names the file of what a federated method keeps from round to round.
    """

    key: str
    plan: dict[str, JsonValue]
    slots: tuple[str, ...]
    layers_source: str = "given"
    optimizer: str
    digest: str | None = None
    blob: str | None = None
    moments_blob: str | None = None
    server_blob: str | None = None
    version: int = 0
    opt_step: int = 0
    rows: dict[str, int] = {}


class StoredLearnt(Stored):
    """What the network of a node with a role learnt, or why nothing."""

    purpose: str
    rows: int | None = None
    loss: float | None = None
    digest: str | None = None
    reason: str | None = None


class StoredGate(Stored):
    """Whether a role's network is used, and by which comparison."""

    used: bool
    reason: str | None = None
    own: float | None = None
    rival: float | None = None
    standard_error: float | None = None
    rows: int = 0


class StoredLayout(Stored):
    """The columns of stacking networks."""

    columns: tuple[str, ...]
    n_outputs: int
    n_symbols: int


class StoredRoles(Stored):
    """What the networks of aggregators, validators and parameter servers learnt."""

    networks: dict[str, StoredNetwork] = {}
    learnt: dict[str, StoredLearnt] = {}
    layout: StoredLayout | None = None
    gates: dict[str, StoredGate] = {}
    calibrators: dict[str, dict[str, JsonValue]] = {}


class StoredConformal(Stored):
    """Ranked scores of the answers to calibration rows."""

    n: int
    ranks: tuple[int, ...]
    scores: tuple[float, ...]


class StoredBundle(Stored):
    """What shapes an answer besides the weights."""

    version: int
    digests: dict[str, str]
    parity: int
    slot_weights: dict[str, float]
    weights_source: str = "equal"
    calibrators: dict[str, dict[str, JsonValue]] = {}
    residual_median: float | None = None
    error_correlation: float | None = None
    threshold: float = 0.5
    class_weight: tuple[float, ...] = ()
    robust: bool = False
    roles: StoredRoles | None = None
    conformal: dict[str, StoredConformal] = {}
    conformal_part: str | None = None
    experts: dict[str, tuple[str, ...]] = {}


class StoredKept(Stored):
    """A version that can be put in force again, in one line."""

    version: int
    at: str
    rule: str
    round: int | None = None
    training_id: str | None = None
    digest: str
    accuracy: float | None = None
    loss: float | None = None
    blobs: tuple[str, ...]
    restored_from: int | None = None
    privacy_mode: str | None = None
    epsilon: float | None = None
    delta: float | None = None


class StoredVersion(Stored):
    """A committed version.

    `evaluation` holds measured numbers by name; one that is missing was not measured. `privacy` is missing in
    versions that were stored before it was recorded.
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
    kept: tuple[StoredKept, ...] = ()
    privacy: StoredModelPrivacy | None = None


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
    stands_in_for: str | None = None
