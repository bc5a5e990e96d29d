"""Stored shapes of a training: what was asked, how far it is, its rounds."""

from pydantic import JsonValue

from flow_nexus_neural.engine.storage.persisted.base import Label, Stored, StoredPart
from flow_nexus_neural.engine.storage.persisted.cluster_shapes import StoredNetwork
from flow_nexus_neural.engine.storage.persisted.privacy_shapes import StoredModelPrivacy


class StoredPrivacySettings(Stored):
    """The `privacy` of a training as it takes effect."""

    mode: str
    clip_norm: float
    noise_multiplier: float
    target_epsilon: float | None = None
    delta: float
    adaptive: bool = False
    max_epsilon: float | None = None
    sampling_rate: float = 1.0
    steps: int = 1
    of_data: bool = False


class StoredPrivacy(Stored):
    """What a private training has spent; of every training, what identifies its data set."""

    sums: dict[str, int] = {}
    clip_norms: dict[str, float] = {}
    epsilon: float = 0.0
    epsilon_of_data: float = 0.0
    data: tuple[str, ...] = ()
    exhausted: bool = False


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
    proximal_mu: float | None = None
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    partition: str
    seed: int
    strategy: str
    strategy_reason: str | None = None
    sync_every_steps: int | None = None
    refit: bool = False
    class_weight: dict[str, float] | None = None
    threshold: float | None = None
    positive_class: Label | None = None
    patience: int = 0
    chosen: tuple[str, ...] = ()
    privacy: StoredPrivacySettings | None = None
    secure_aggregation: bool = False


class StoredData(Stored):
    """Where the prepared rows of a training are: a file named by its sha256."""

    sha256: str
    nbytes: int


class StoredTraining(StoredPart):
    """What a training was asked and what it does.

    Attributes:
        request: As the client gave it, without inline data; None where an older format did not keep it.
        data: None where an older format did not keep the prepared rows.
        starts: Network groups as they were before the first round; empty where an older version did not keep
            them, and such a training does not go on after the end of its server.
    """

    part = "training"

    config: StoredConfig
    request: dict[str, JsonValue] | None = None
    data: StoredData | None = None
    starts: tuple[StoredNetwork, ...] = ()


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


class StoredStanding(Stored):
    """What the proofs of one worker's updates were."""

    segments: int = 0
    challenged: int = 0
    verified: int = 0
    failed: int = 0
    unavailable: int = 0
    strikes: int = 0
    last_reason: str | None = None


class StoredCost(Stored):
    """Processor seconds of proofs."""

    training_s: float = 0.0
    committing_s: float = 0.0
    repeating_s: float = 0.0
    challenged: int = 0
    updates: int = 0
    steps: int = 0
    states: int = 0


class StoredProofs(Stored):
    """What the proofs of a training's updates showed, by slot and as a whole."""

    verified_rounds: int = 0
    excluded_updates: int = 0
    detection: float | None = None
    cost: StoredCost = StoredCost()
    seconds: float = 0.0
    verifiers: tuple[str, ...] = ()
    workers: dict[str, StoredStanding] = {}


class StoredSteering(Stored):
    """How autonomy has changed the course of a training."""

    learning_rate: float | None = None
    rate_before: float | None = None
    adapted_at: int | None = None
    diverged: int = 0
    clients_per_round: int | None = None
    stop_reason: str | None = None
    paused: str | None = None
    rates: tuple[tuple[int, float], ...] = ()


class StoredGossip(Stored):
    """What the barriers of a training under gossip saw."""

    rounds: int = 0
    network: str | None = None
    members: int = 0
    spectral_gap: float | None = None
    diameter: int | None = None
    connected: bool = False
    push_sum: bool = False
    mixing_steps: int = 1
    consensus_distance: float | None = None
    doubled: tuple[int, ...] = ()


class StoredStateFiles(Stored):
    """The files of a state of a network group."""

    digest: str
    blob: str
    moments_blob: str | None = None
    server_blob: str | None = None
    opt_step: int = 0


class StoredContinuation(Stored):
    """What the next round of a training rests on besides the version in force."""

    dealt: tuple[str, ...] = ()
    asked: dict[str, tuple[int, int]] = {}
    best: dict[str, StoredStateFiles] = {}
    mixing_steps: dict[str, int] = {}
    own_states: dict[str, str] = {}
    controls: dict[str, str] = {}


class StoredProgress(StoredPart):
    """How far a training is, and what it led to; what holds reports by name is of no shape here."""

    part = "progress"

    rounds_done: int = 0
    division: dict[str, JsonValue] | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    best_round: int | None = None
    best_loss: float | None = None
    steps: int = 0
    scrutiny: StoredScrutiny = StoredScrutiny()
    proofs: StoredProofs = StoredProofs()
    gossip: StoredGossip = StoredGossip()
    steering: StoredSteering = StoredSteering()
    privacy: StoredPrivacy = StoredPrivacy()
    inherited: StoredModelPrivacy | None = None
    digest_before: str | None = None
    digest_after: str | None = None
    result: StoredResult | None = None
    personalisation: dict[str, JsonValue] | None = None
    folds: tuple[dict[str, JsonValue], ...] = ()
    refit: dict[str, JsonValue] | None = None
    learning: dict[str, JsonValue] | None = None
    phase: str = "rounds"
    later_planned: int = 0
    later_done: float = 0.0
    continuation: StoredContinuation = StoredContinuation()
    resumed: int = 0
    resumed_after: int | None = None
    resumed_in_vain: int = 0


class StoredRound(StoredPart):
    """One committed round of a training."""

    part = "round"

    round: int
    train_loss: float | None = None
    val_loss: float | None = None
    accuracy: float | None = None
    bytes: int = 0
    seconds: float = 0.0
