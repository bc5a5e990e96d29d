"""Everything that must be right before a training starts: data, networks, shards, configuration.

Nothing is changed and no node is touched here, so a refusal leaves the cluster as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial

from flow_nexus_neural.coordination.consensus.registry import needs_trusted_rows
from flow_nexus_neural.coordination.privacy.spending import PrivacySpent
from flow_nexus_neural.coordination.training_defaults import Scale
from flow_nexus_neural.coordination.training_strategy import Strategy, choose_strategy
from flow_nexus_neural.data.partition import Shards, rows_of_clients
from flow_nexus_neural.data.prepare import DataRequest, PreparedData, prepare
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DatasetInfo, NetworkInfo, TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.advice import next_step
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.aggregation_rule import asks_everybody
from flow_nexus_neural.engine.training.arguments import (
    Circumstances,
    effective_config,
    resolve_partition,
)
from flow_nexus_neural.engine.training.client_options import (
    check_each_client,
    check_one_network,
    client_sizes,
    merged_warning,
)
from flow_nexus_neural.engine.training.course import Course
from flow_nexus_neural.engine.training.decision import Decision, decide_how
from flow_nexus_neural.engine.training.division import cut_shards, deal_shards, pool_shards
from flow_nexus_neural.engine.training.federated_options import rate_warnings
from flow_nexus_neural.engine.training.feedback_data import FEEDBACK, feedback_data, is_feedback
from flow_nexus_neural.engine.training.network_plans import (
    check_networks,
    describe_network,
    learnt_by_another_split,
    members_by_network,
    plan_networks,
)
from flow_nexus_neural.engine.training.privacy_options import (
    Planned,
    identity_of,
    plan_privacy,
    steps_of_pass,
)
from flow_nexus_neural.engine.training.tasks import Recipe
from flow_nexus_neural.engine.training.trusted_rows import Trusted, can_select, require_trusted
from flow_nexus_neural.engine.training.work_sharing import ASKED, effort
from flow_nexus_neural.engine.versions.final import evaluated_networks
from flow_nexus_neural.errors import DataTooSmall, NoWorkers
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.networks.defaults import has_sequence
from flow_nexus_neural.vocabulary import EACH_CLIENT

NAMED_CLIENTS = 8
"""Of each worker, in what status says of a suspected one."""
FEATURE_DROPOUT = 0.15
"""Share of feature groups hidden in training where records may lack some, so that imputation is familiar."""


@dataclass(frozen=True)
class Preparation:
    """A training that can start.

    Attributes:
        networks: With the committed state of the same network where there is one.
        continues: Whether at least one network starts from a committed version.
        least_workers: Fewest workers of a round that the caller insists on; 1 when nothing was asked.
        everybody: Every round asks all workers: the rule does, and the caller named no number.
        run: Root of every seed of the training.
        decision: What classes count in the training, and how its models decide.
        spent: What identifies the data set, and of a private training what others have spent on it.
    """

    data: PreparedData
    shards: Shards
    networks: dict[str, NetworkGroup]
    config: TrainingConfig
    network_infos: list[NetworkInfo]
    dataset: DatasetInfo
    continues: bool
    least_workers: int
    everybody: bool
    decision: Decision
    warnings: list[str]
    run: tuple[int, int]
    spent: PrivacySpent = field(default_factory=PrivacySpent)

    @property
    def is_gated(self) -> bool:
        """Whether its model answers only if it is found better than the one in force."""
        return self.data.description.kind == FEEDBACK

    @property
    def recipe(self) -> Recipe:
        """How every worker trains."""
        return Recipe(
            learning_rate=self.config.learning_rate,
            batch_size=self.config.batch_size,
            feature_dropout=FEATURE_DROPOUT if self.data.schema.input.vector_length else 0.0,
            class_weight=self.decision.rule.class_weight,
            proximal_mu=self.config.proximal_mu or 0.0,
            steps_of_pass=steps_of_pass(self.config),
        )

    def clients_of_workers(self) -> dict[str, tuple[str, ...]]:
        """The data's clients by the slot that has their rows, at most 8 each; {} if they are mixed."""
        if self.config.partition != "client":
            return {}
        owners = self.data.parts["train"].clients
        return {
            slot: tuple(
                self.data.clients[k] for k in sorted({*owners[rows].tolist()})[:NAMED_CLIENTS]
            )
            for slot, rows in self.shards.rows.items()
        }

    def course(self, rows: Rows, trusted: Rows | None = None) -> Course:
        """The rounds that train on these rows of the data, divided as was asked.

        Args:
            rows: For the workers.
            trusted: For validators, in rules that need rows of their own; None for no such rule.
        """
        by_client = self.config.partition == EACH_CLIENT
        return Course(
            config=self.config,
            recipe=self.recipe,
            rows=rows,
            cut=partial(deal_shards, self.data, rows, self.config, self.run),
            least_workers=1 if by_client else self.least_workers,
            everybody=self.everybody,
            run=self.run,
            clients=rows_of_clients(rows, self.data.clients) if by_client else None,
            trusted=None
            if trusted is None
            else Trusted(trusted, self.data.schema.task, replace(self.recipe, steps_of_pass=None)),
        )


async def prepare_training(
    cluster: LiveCluster, request: TrainRequest, ordinal: int
) -> Preparation:
    """Read the data, plan the networks, cut the shards.

    Raises:
        InvalidRequest, InvalidState: Whatever is wrong with the data, the layers or the arguments.
    """
    workers = healthy_workers(cluster)
    data, decision, formers = await _given(cluster, request, workers, ordinal)
    seed = request.seed if request.seed is not None else cluster.spec.seed
    partition = resolve_partition(request, clients=len(data.clients), workers=len(workers))
    check_each_client(request, partition, cluster.spec.consensus)
    of_clients = client_sizes(data) if partition == EACH_CLIENT else {}
    shards = await cluster.context.offload(
        cut_shards, data, data.parts["train"], workers, partition, (seed, ordinal)
    )
    eligible = _with_rows(workers, shards, data)
    networks, warnings = plan_networks(cluster, request, data, workers, formers)
    if of_clients:
        check_one_network(networks)
    sizes = [*of_clients.values()] if of_clients else [shards.rows[s.name].size for s in eligible]
    strategy, scale = _strategy(cluster, request, data, sizes, networks)
    if strategy.name == "single_process":
        shards = await cluster.context.offload(pool_shards, data, data.parts["train"], workers)
    validators = len(cluster.slots.healthy("validator"))
    found = Circumstances(
        eligible=len(sizes),
        partition=partition,
        seed=seed,
        scale=scale,
        strategy=strategy,
        refit=data.refit,
        decision=decision,
        smallest_group=_smallest_group(cluster, eligible, data),
        consensus=cluster.spec.consensus,
        trusted=can_select(len(data.parts["select"]), validators, partition),
    )
    config = effective_config(request, found)
    if needs_trusted_rows(config.aggregation_method):
        require_trusted(config.aggregation_method, len(data.parts["select"]), validators)
    check_networks(config, networks.values(), {slot.name for slot in eligible})
    continues = any(network.state is not None for network in networks.values())
    warnings += [*_unused(request, config), *rate_warnings(config)]
    warnings += merged_warning(data.clients, len(workers), config.partition)
    warnings += _lineage_warnings(cluster, data, decision, continues=continues)
    prepared = Preparation(
        data=data,
        shards=shards,
        networks=networks,
        config=config,
        network_infos=[describe_network(network) for network in networks.values()],
        dataset=describe_data(data),
        continues=continues,
        least_workers=request.min_nodes_per_round or 1,
        everybody=asks_everybody(request, cluster.spec.consensus),
        decision=decision,
        warnings=[*data.warnings, *decision.warnings, *shards.warnings, *warnings],
        run=(seed, ordinal),
        spent=PrivacySpent(data=_identity(cluster, data)),
    )
    return prepared if request.privacy is None else await _private(cluster, request, prepared)


def _identity(cluster: LiveCluster, data: PreparedData) -> tuple[str, ...]:
    """What identifies the rows; those of the latest training too, where some of them are replayed."""
    latest = cluster.state.latest_training
    replayed = latest.advance.privacy.data if latest is not None and data.replayed else ()
    return (*identity_of(data.description), *replayed)


async def _private(
    cluster: LiveCluster, request: TrainRequest, prepared: Preparation
) -> Preparation:
    """The same training with noise. Raises as `privacy_options`."""
    shards = prepared.shards
    of_data = prepared.config.partition == EACH_CLIENT
    rows = (
        client_sizes(prepared.data)
        if of_data
        else {name: int(own.size) for name, own in shards.rows.items() if own.size}
    )
    groups = {name: shards.groups.get(name, "") for name in rows}
    planned = Planned(
        prepared.config, rows, groups, prepared.networks, prepared.run, of_data=of_data
    )
    plan = await plan_privacy(
        cluster, request, planned, prepared.spent.data, continues=prepared.continues
    )
    config = prepared.config.model_copy(update={"privacy": plan.settings})
    warnings = prepared.warnings + plan.warnings
    return replace(prepared, config=config, spent=plan.spent, warnings=warnings)


async def _given(
    cluster: LiveCluster, request: TrainRequest, workers: list[Slot], ordinal: int
) -> tuple[PreparedData, Decision, Mapping[str, NetworkGroup]]:
    """The rows, how their classes are decided, and the networks that a training may go on from.

    With recorded outcomes the model in force goes on learning, and decides as before.
    """
    if is_feedback(request):
        data, committed = await feedback_data(cluster, request, ordinal)
        decision = replace(decide_how(request, data), rule=committed.bundle.rule)
        return data, decision, committed.shared_networks
    asked = _data_request(cluster, request, workers)
    data = await cluster.context.read_data(prepare, asked, cluster.context.settings)
    return data, decide_how(request, data), await evaluated_networks(cluster)


def _with_rows(workers: list[Slot], shards: Shards, data: PreparedData) -> list[Slot]:
    """Workers with rows to train on. Raises `DataTooSmall` if there is none."""
    eligible = [slot for slot in workers if shards.rows[slot.name].size > 0]
    if not eligible:
        raise DataTooSmall(
            f"no worker gets a row of the {len(data.parts['train'].y)} training rows",
            hint="give more rows, or deploy fewer workers",
        )
    return eligible


def _data_request(cluster: LiveCluster, request: TrainRequest, workers: list[Slot]) -> DataRequest:
    several = len(members_by_network(workers, cluster.spec.architecture, None)) > 1
    # Where privacy protects the rows nobody of another role learns, so none are kept for them.
    learn = request.privacy is None
    stacks = learn and bool(cluster.slots.healthy("aggregator"))
    return DataRequest(
        dataset=request.dataset,
        target=request.target,
        time_column=request.time_column,
        features=request.features,
        exclude=request.exclude,
        task=request.task,
        window=request.window,
        horizon=request.horizon,
        # Rows that privacy protects are trained on once: no refit by default.
        refit=request.refit if request.privacy is None else False,
        test_size=request.test_size,
        validation_size=request.validation_size,
        folds=request.folds,
        positive_class=request.positive_class,
        # One split per cluster, whatever is trained later: a test row never becomes a training row.
        seed=seed64((cluster.spec.seed, 0), 0, "", 0, "partition"),
        stacking=several or stacks,
        admitting=stacks,
        doubting=learn and bool(cluster.slots.healthy("validator")),
    )


def _strategy(
    cluster: LiveCluster,
    request: TrainRequest,
    data: PreparedData,
    shard_rows: Sequence[int],
    networks: Mapping[str, NetworkGroup],
) -> tuple[Strategy, Scale]:
    """How the work is divided, and how large it then is."""
    scale, total = _scale(request, data, shard_rows, networks), int(sum(shard_rows))
    if request.federated:
        return ASKED, scale
    size = effort(cluster, request, scale, (total, len(shard_rows)), networks)
    strategy = choose_strategy(size)
    if strategy.name == "single_process":
        scale = replace(scale, shard_rows=total)
    return strategy, scale


def _scale(
    request: TrainRequest,
    data: PreparedData,
    shard_rows: Sequence[int],
    networks: Mapping[str, NetworkGroup],
) -> Scale:
    return Scale(
        shard_rows=max(int(rows) for rows in shard_rows),
        has_validation=len(data.parts["select"]) > 0,
        has_sequence=has_sequence(data.schema.input),
        parameters=max(network.plan.n_params for network in networks.values()),
        optimizer=request.optimizer,
    )


def _unused(request: TrainRequest, config: TrainingConfig) -> list[str]:
    """Arguments that were given and have no effect."""
    unused = []
    if request.patience and not config.patience:
        unused.append(
            f"patience={request.patience} has no effect: there are no validation rows to count by"
        )
    if request.epochs not in (None, config.rounds):
        unused.append(f"epochs={request.epochs} has no effect beside rounds={config.rounds}")
    return unused


def _lineage_warnings(
    cluster: LiveCluster, data: PreparedData, decision: Decision, *, continues: bool
) -> list[str]:
    """What must be known of a training on a cluster that is trained already."""
    warnings: list[str] = []
    if cluster.state.bundle is not None and not continues:
        warnings.append(
            "the data, their classes or the networks differ from the trained ones: this training starts a new"
            " lineage"
        )
    if continues and learnt_by_another_split(cluster, data):
        warnings.append(
            "the rows are divided otherwise than in the training that this one goes on from: its weights may"
            " have learnt from rows that select, weigh, calibrate or test now, and then the numbers flatter"
        )
    former = cluster.state.bundle
    if continues and former and former.rule.class_weight != decision.rule.class_weight:
        warnings.append(
            "this training goes on from a model trained with another class_weight: its probabilities are off"
            " until it has learnt the new one"
        )
    return warnings


def _smallest_group(cluster: LiveCluster, eligible: list[Slot], data: PreparedData) -> int:
    groups = members_by_network(eligible, cluster.spec.architecture, data.schema.input)
    return min(len(members) for members in groups.values())


def healthy_workers(cluster: LiveCluster) -> list[Slot]:
    """Workers that can train, in slot order.

    Raises:
        NoWorkers: There is none.
    """
    workers = cluster.slots.healthy("worker")
    if workers:
        return workers
    raise NoWorkers(
        "training needs at least 1 healthy worker and 0 are present; healthy nodes:"
        f" {cluster.slots.census()}",
        hint=next_step(
            cluster.slots.of_role("worker"), "deploy one with neural_node_deploy (role: worker)"
        ),
    )


def describe_data(data: PreparedData) -> DatasetInfo:
    """The data as the reply describes it."""
    return DatasetInfo.model_validate(asdict(data.description))
