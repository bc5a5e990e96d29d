"""A training: what it was asked, what it runs on, how far it is."""

from typing import Literal

from pydantic import JsonValue

from flow_nexus_neural.coordination.privacy.settings import PrivacySettings
from flow_nexus_neural.coordination.training_strategy import StrategyName
from flow_nexus_neural.engine.reports.base import Guarantees, Report
from flow_nexus_neural.engine.reports.feedback import LearningReport
from flow_nexus_neural.vocabulary import Label, Optimizer, SourceKind, Task

Phase = Literal["rounds", "folds", "refit"]


class TrainingConfig(Report):
    """Every effective argument of a training.

    `class_weight` has the weight of every class by its label; `threshold` and `positive_class` are of two
    classes.
    `byzantine_f` is the number of lying workers that every round tolerates, 0 for the mean.
    `proximal_mu`, `server_learning_rate` and `server_momentum` are of the federated methods that have them.
    `chosen` names those that nobody gave and the data decided. `patience` is the number of rounds without a
    better validation loss that ends the training, 0 for never.
    """

    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Optimizer
    federated: bool
    rounds: int
    local_epochs: int
    clients_per_round: int | None
    min_nodes_per_round: int | None
    aggregation_method: str
    byzantine_f: int = 0
    proximal_mu: float | None = None
    server_learning_rate: float | None = None
    server_momentum: float | None = None
    partition: str
    seed: int
    strategy: StrategyName
    strategy_reason: str | None = None
    sync_every_steps: int | None
    refit: bool
    class_weight: dict[str, float] | None
    threshold: float | None
    positive_class: Label | None
    patience: int
    chosen: list[str]
    privacy: PrivacySettings | None = None
    secure_aggregation: bool = False

    @property
    def hides_updates(self) -> bool:
        """Whether nothing may be told of single updates."""
        return self.privacy is not None or self.secure_aggregation

    @property
    def method_options(self) -> dict[str, float]:
        """Options of the federated method, by argument; {} for one that has none."""
        found = {
            "proximal_mu": self.proximal_mu,
            "server_learning_rate": self.server_learning_rate,
            "server_momentum": self.server_momentum,
        }
        return {name: value for name, value in found.items() if value is not None}


class ExcludedColumn(Report):
    """A column that is not a feature, and why."""

    name: str
    reason: str


class SplitSizes(Report):
    """Rows per part; 0 for parts that these rows do not allow, or that nothing uses."""

    train: int
    select: int
    meta: int
    verify: int
    calib: int
    test: int
    purged: int


class DatasetInfo(Report):
    """The data as it was understood."""

    name: str
    kind: SourceKind
    source: str
    rows: int
    columns: list[str]
    target: str
    task: Task
    classes: list[Label] | None
    split: SplitSizes
    synthetic: bool
    sha256: str
    symbols: list[str]
    excluded_columns: list[ExcludedColumn]


class NetworkInfo(Report):
    """One network: slots with the same network."""

    cohort: str
    slots: list[str]
    parameters: int
    input: list[int]
    implied_head: bool
    layers_source: str


class PrivacyReport(Report):
    """What a private training has cost, with how that is counted.

    `epsilon` is of the noised sums of this training so far, for the client that was asked most often (`sums`
    times); `epsilon_of_data` counts earlier private trainings on the same data set too. `outside` names what
    the numbers do not cover.
    """

    mode: str
    epsilon: float
    delta: float
    epsilon_of_data: float
    noise_multiplier: float
    clip_norm: float
    sums: int
    exhausted: bool
    accountant: str
    relation: str
    sampling: str
    conversion: str
    unit: str
    outside: list[str] | None


class TrainingReport(Report):
    """A training runs."""

    training_id: str
    cluster_id: str
    status: Literal["running"]
    nodes_training: int
    participating_nodes: list[str]
    epochs: int
    total_rounds: int
    config: TrainingConfig
    dataset_info: DatasetInfo
    networks: list[NetworkInfo]
    guarantees: Guarantees
    poll_after_ms: int
    started_at: str
    privacy: PrivacyReport | None
    warnings: list[str]


class Evidence(Report):
    """Proof that a training trains: optimiser steps, and the weights before and after."""

    steps: int
    weights_digest_before: str | None
    weights_digest_after: str | None


class FoldScore(Report):
    """One fold of a walk-forward split: a model of its own, trained on the rows before the fold's test rows.

    `accuracy` is the share of right directions for regression. `error` says why a fold has no numbers.
    """

    fold: int
    train_rows: int
    test_rows: int
    begins: str | None
    ends: str | None
    best_round: int | None
    accuracy: float | None
    loss: float | None
    rmse: float | None
    best_baseline: str | None
    baseline: float | None
    skill: float | None
    error: str | None


class Refit(Report):
    """The last training on every row: as many rounds as `served_round`, from the same start.

    Nothing is left to measure it on: the evaluation is of version `evaluated_version`.
    """

    state: Literal["waiting", "running", "done", "failed"]
    rows: int
    rounds: int | None
    evaluated_version: int | None
    model_version: int | None
    error: str | None


class PersonalSlot(Report):
    """One slot's own weights on the validation rows of the symbols and clients that it trained on.

    `loss` is that of its weights alone, `shared_loss` that of the weights of all; both in nats, or in
    variances of the target.
    """

    slot: str
    steps: int
    rows: int
    loss: float | None
    shared_loss: float | None
    kept: bool


class Personalisation(Report):
    """Whether slots answer with weights of their own, trained on from the shared ones, and why or why not.

    Losses are those of the answer of all slots together to `validation_rows`, on which nobody trained: with
    the shared weights, and with the weights that are kept or were the best of those that are not. They are
    kept if the gain is larger than twice `standard_error`. `share` is
    `seconds` of the time that the rounds took. `slots` is for `full`.
    """

    kept: bool
    reason: str
    epochs: int | None
    validation_rows: int | None
    shared_loss: float | None
    personal_loss: float | None
    standard_error: float | None
    seconds: float | None
    share: float | None
    slots: list[PersonalSlot] | None


class ShardInfo(Report):
    """The rows of one worker: how many, of which symbols, and the share of each class among them."""

    slot: str
    rows: int
    symbols: list[str]
    labels: dict[str, float] | None


class Division(Report):
    """How rows are divided among federated workers; see `TrainingProgress`."""

    heterogeneity: float | None
    shards: list[ShardInfo]


class ClientFault(Report):
    """A client of the data that did not train where it was first asked to, or not at all, and why."""

    client: str
    reason: str
    nodes: list[str]


class ClientsReport(Report):
    """What the data's clients did in the latest round, where each of them trains by itself.

    `total` is all of them, `asked` those of this round, `trained` those whose updates the weights rest on;
    `per_node` has how many of these each node trained, one after the other. `moved` are clients that another
    node trained after the first had failed (`nodes` has all that were asked), `missed` those without an
    update; both lists end after 20, the numbers are whole.
    """

    round: int
    total: int
    asked: int
    trained: int
    per_node: dict[str, int]
    n_moved: int
    moved: list[ClientFault]
    n_missed: int
    missed: list[ClientFault]


class Resumed(Report):
    """How often a training went on after its server had ended, and after which round it last did."""

    times: int
    after_round: int


class TrainingProgress(Report):
    """How far a training is.

    `served_round` is the round whose weights answer after the end: the best one where validation rows exist,
    else the last; None where those of another training answer, as after a roll back. `phase` says what runs
    after the rounds: earlier folds, or the refit.
    `aggregation` has the method by which updates are combined, and its options; under partition each_client
    `clients` as well, a `ClientsReport`, null until this server has made a round. `heterogeneity` is the mean
    Jensen-Shannon divergence (base 2, from 0 to 1) of the labels of federated workers against all rows
    together, None for numbers; `shards` is for `full`. `lacks` says which workers it does without and what
    becomes of them. `learning` is of a training on outcomes, whose model answers only if it was admitted.
    """

    training_id: str
    current_round: int
    total_rounds: int
    current_epoch: int
    total_epochs: int
    strategy: str
    strategy_reason: str | None
    aggregation: dict[str, JsonValue]
    heterogeneity: float | None
    shards: list[ShardInfo] | None
    train_loss: float | None
    val_loss: float | None
    best_round: int | None
    served_round: int | None
    seconds_per_round: float | None
    eta_seconds: float | None
    phase: Phase | None
    lacks: str | None
    personalisation: Personalisation | None
    folds: list[FoldScore] | None
    refit: Refit | None
    learning: LearningReport | None
    resumed: Resumed | None
    privacy: PrivacyReport | None
    evidence: Evidence


class HistoryPoint(Report):
    """One committed round."""

    round: int
    train_loss: float | None
    val_loss: float | None
    accuracy: float | None
    bytes: int
    seconds: float


class TrainingSession(Report):
    """One training of the cluster, past or running."""

    training_id: str
    status: str
    rounds_done: int
    total_rounds: int
    started_at: str
    ended_at: str | None
    error: str | None


class HistoryReport(Report):
    """Every committed round of a cluster's latest training."""

    cluster_id: str
    training_id: str | None
    rounds: list[HistoryPoint]
