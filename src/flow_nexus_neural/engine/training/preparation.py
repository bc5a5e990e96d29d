"""Everything that must be right before a training starts: data, networks, shards, configuration.

Nothing is changed and no node is touched here, so a refusal leaves the cluster as it was.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from flow_nexus_neural.coordination.training_defaults import Scale
from flow_nexus_neural.data.partition import Shards, assign_shards
from flow_nexus_neural.data.prepare import DataRequest, PreparedData, prepare
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DatasetInfo, NetworkInfo, TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.advice import next_step
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.arguments import (
    Circumstances,
    effective_config,
    resolve_partition,
)
from flow_nexus_neural.engine.training.decision import Decision, decide_how
from flow_nexus_neural.engine.training.exchange import Recipe
from flow_nexus_neural.engine.versions.final import evaluated_networks
from flow_nexus_neural.errors import (
    DataTooSmall,
    InvalidArchitecture,
    InvalidArguments,
    LimitExceeded,
    NoWorkers,
)
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.networks.batches import smallest_batch
from flow_nexus_neural.networks.defaults import has_sequence
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.plan import InputSpec

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
        run: Root of every seed of the training.
        decision: What classes count in the training, and how its models decide.
    """

    data: PreparedData
    shards: Shards
    networks: dict[str, NetworkGroup]
    config: TrainingConfig
    network_infos: list[NetworkInfo]
    dataset: DatasetInfo
    continues: bool
    least_workers: int
    decision: Decision
    warnings: list[str]
    run: tuple[int, int]

    @property
    def recipe(self) -> Recipe:
        """How every worker trains."""
        return Recipe(
            learning_rate=self.config.learning_rate,
            batch_size=self.config.batch_size,
            feature_dropout=FEATURE_DROPOUT if self.data.schema.input.vector_length else 0.0,
            class_weight=self.decision.rule.class_weight,
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

    def cut(self, workers: list[Slot]) -> Shards:
        """Divide the training rows among these workers."""
        return cut_shards(
            self.data, self.data.parts["train"], workers, self.config.partition, self.run
        )


async def prepare_training(
    cluster: LiveCluster, request: TrainRequest, ordinal: int
) -> Preparation:
    """Read the data, plan the networks, cut the shards.

    Raises:
        InvalidRequest, InvalidState: Whatever is wrong with the data, the layers or the arguments.
    """
    workers = healthy_workers(cluster)
    asked = DataRequest(
        dataset=request.dataset,
        target=request.target,
        time_column=request.time_column,
        features=request.features,
        exclude=request.exclude,
        task=request.task,
        window=request.window,
        horizon=request.horizon,
        refit=request.refit,
        test_size=request.test_size,
        validation_size=request.validation_size,
        folds=request.folds,
        positive_class=request.positive_class,
        # One split per cluster, whatever is trained later: a test row never becomes a training row.
        seed=seed64((cluster.spec.seed, 0), 0, "", 0, "partition"),
        stacking=len(members_by_network(workers, cluster.spec.architecture, None)) > 1,
    )
    data = await cluster.context.read_data(prepare, asked, cluster.context.settings)
    decision = decide_how(request, data)
    seed = request.seed if request.seed is not None else cluster.spec.seed
    partition = resolve_partition(request, has_clients=bool(data.clients))
    shards = await cluster.context.offload(
        cut_shards, data, data.parts["train"], workers, partition, (seed, ordinal)
    )
    eligible = [slot for slot in workers if shards.rows[slot.name].size > 0]
    if not eligible:
        raise DataTooSmall(
            f"no worker gets a row of the {len(data.parts['train'].y)} training rows",
            hint="give more rows, or deploy fewer workers",
        )
    found = Circumstances(
        eligible=len(eligible),
        partition=partition,
        seed=seed,
        scale=_scale(request, data, shards),
        refit=data.refit,
        decision=decision,
        smallest_group=_smallest_group(cluster, eligible, data),
        consensus=cluster.spec.consensus,
    )
    config = effective_config(request, found)
    networks, warnings = plan_networks(
        cluster, config, data, workers, await evaluated_networks(cluster)
    )
    if request.patience and not config.patience:
        warnings.append(
            f"patience={request.patience} has no effect: there are no validation rows to count by"
        )
    continues = any(network.state is not None for network in networks.values())
    if cluster.state.bundle is not None and not continues:
        warnings.append(
            "the data or the networks differ from the trained ones: this training starts a new lineage"
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
    return Preparation(
        data=data,
        shards=shards,
        networks=networks,
        config=config,
        network_infos=[describe_network(network) for network in networks.values()],
        dataset=describe_data(data),
        continues=continues,
        least_workers=request.min_nodes_per_round or 1,
        decision=decision,
        warnings=[*data.warnings, *decision.warnings, *shards.warnings, *warnings],
        run=(seed, ordinal),
    )


def _scale(request: TrainRequest, data: PreparedData, shards: Shards) -> Scale:
    return Scale(
        shard_rows=max(int(rows.size) for rows in shards.rows.values()),
        has_validation=len(data.parts["select"].y) > 0,
        has_sequence=has_sequence(data.schema.input),
        optimizer=request.optimizer,
    )


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


def members_by_network(
    workers: list[Slot], architecture: str, rows: InputSpec | None
) -> dict[str, list[Slot]]:
    """Workers with the same layers on such rows, which are trained as one network.

    Without `rows`, where the data are not known yet, as if they were sequences.
    """
    members: dict[str, list[Slot]] = {}
    for slot in workers:
        members.setdefault(repr(slot.layers_for(architecture, rows)), []).append(slot)
    return members


def cut_shards(
    data: PreparedData, rows: Rows, workers: list[Slot], partition: str, run: tuple[int, int]
) -> Shards:
    """Divide rows of a data set among workers."""
    return assign_shards(
        rows,
        [(slot.name, slot.spec.capabilities) for slot in workers],
        partition,
        seed64(run, 0, "", 0, "partition"),
        symbols=data.description.symbols,
        classes=data.schema.classes,
        clients=data.clients,
    )


def plan_networks(
    cluster: LiveCluster,
    config: TrainingConfig,
    data: PreparedData,
    workers: list[Slot],
    formers: Mapping[str, NetworkGroup],
) -> tuple[dict[str, NetworkGroup], list[str]]:
    """Group workers by network and give each group its plan, and its committed state if it has one.

    Raises:
        InvalidArchitecture, LimitExceeded: A layer list does not work on this data.
        InvalidArguments: A network cannot learn from batches of the requested size.
    """
    schema, warnings = data.schema, []
    networks: dict[str, NetworkGroup] = {}
    architecture = cluster.spec.architecture
    for slots in members_by_network(workers, architecture, schema.input).values():
        try:
            planned = plan_network(
                parse_layers(slots[0].layers_for(architecture, schema.input)).layers,
                input=schema.input,
                task=schema.task,
                n_outputs=schema.n_outputs,
                max_parameters=cluster.context.settings.max_parameters,
            )
        except (InvalidArchitecture, LimitExceeded) as refusal:
            whose = ", ".join(slot.name for slot in slots[:8])
            raise type(refusal)(
                f"{whose}: {refusal.message}", hint=refusal.hint, details=refusal.details
            ) from None
        _check_batch(config.batch_size, smallest_batch(planned.plan), slots)
        warnings += [f"{slots[0].name}: {warning}" for warning in planned.warnings]
        warnings += _dense_by_default(cluster, slots, schema.input)
        network = NetworkGroup(
            key=f"c{cluster.state.networks_made + len(networks)}",
            plan=planned.plan,
            slots=tuple(slot.name for slot in slots),
            layers_source=slots[0].spec.layers_source,
            optimizer=config.optimizer,
        )
        network = _continued(cluster, network, schema, formers)
        networks[network.key] = network
    return networks, warnings


def _dense_by_default(cluster: LiveCluster, slots: list[Slot], rows: InputSpec) -> list[str]:
    default = [slot.name for slot in slots if not slot.spec.layers]
    if not default or has_sequence(rows):
        return []
    warning = (
        f"{', '.join(default[:8])}: the default network is dense, as rows have no sequence; architecture"
        f" {cluster.spec.architecture!r} counts for a window or a vector column"
    )
    return [warning]


def _check_batch(batch_size: int, smallest: int, slots: list[Slot]) -> None:
    if batch_size < smallest:
        whose = ", ".join(slot.name for slot in slots[:8])
        raise InvalidArguments(
            f"batch_size={batch_size}: batch_normalization in the network of {whose} needs at least"
            f" {smallest} rows per batch, since one row has no variance",
            hint=f"give batch_size {smallest} or more, or leave it out, or deploy workers with"
            " layer_normalization instead",
        )


def learnt_by_another_split(cluster: LiveCluster, data: PreparedData) -> bool:
    """Whether the committed version was trained on the same data with other parts."""
    committed = cluster.committed
    if committed is None or committed.dataset.sha256 != data.description.sha256:
        return False
    return committed.dataset.split.model_dump() != data.description.split


def _continued(
    cluster: LiveCluster,
    network: NetworkGroup,
    schema: DataSchema,
    formers: Mapping[str, NetworkGroup],
) -> NetworkGroup:
    """The network with the state of the same network on the same kind of input, if `formers` have one."""
    committed = cluster.committed
    if committed is None or _lineage(committed.schema) != _lineage(schema):
        return network
    for former in formers.values():
        if former.plan_digest != network.plan_digest or former.state is None:
            continue
        same = former.optimizer == network.optimizer
        state = former.state if same else former.state.with_fresh_moments(network.optimizer)
        return replace(
            network,
            key=former.key,
            state=state,
            digest=former.digest,
            blob=former.blob,
            moments_blob=former.moments_blob if same else None,
            version=former.version,
        )
    return network


def _lineage(schema: DataSchema) -> tuple[object, ...]:
    """What two data sets must share for the weights of one to be a start for the other."""
    names = tuple(column.name for column in schema.columns)
    return (schema.input, schema.task, tuple(schema.classes or ()), names, schema.target_name)


def describe_network(network: NetworkGroup) -> NetworkInfo:
    """A network as the reply names it."""
    plan = network.plan
    shape = plan.input.sequence_shape if plan.view == "sequence" else (plan.input.flat_width,)
    return NetworkInfo(
        cohort=network.key,
        slots=list(network.slots),
        parameters=plan.n_params,
        input=list(shape),
        implied_head=plan.implied_head,
        layers_source=network.layers_source,
    )


def describe_data(data: PreparedData) -> DatasetInfo:
    """The data as the reply describes it."""
    return DatasetInfo.model_validate(asdict(data.description))
