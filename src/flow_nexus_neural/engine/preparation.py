"""Everything that must be right before a training starts: data, networks, shards, configuration.

Nothing is changed and no node is touched here, so a refusal leaves the cluster as it was.
"""

from dataclasses import asdict, dataclass, replace

from flow_nexus_neural.data.partition import Shards, assign_shards
from flow_nexus_neural.data.prepare import DataRequest, PreparedData, prepare
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.cluster import Cluster
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.model import Cohort
from flow_nexus_neural.engine.reports import DatasetInfo, NetworkInfo, TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.slots import Slot
from flow_nexus_neural.engine.training_arguments import effective_config, resolve_partition
from flow_nexus_neural.errors import DataTooSmall, InvalidArchitecture, LimitExceeded, NoWorkers
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network

FEATURE_DROPOUT = 0.15
"""Share of feature groups hidden in training where records may lack some, so that imputation is familiar."""


@dataclass(frozen=True)
class Preparation:
    """A training that can start.

    Attributes:
        cohorts: With the committed state of the same network where there is one.
        continues: Whether at least one cohort starts from a committed version.
        least_workers: Fewest workers of a round that the caller insists on; 1 when nothing was asked.
    """

    data: PreparedData
    shards: Shards
    cohorts: dict[str, Cohort]
    config: TrainingConfig
    networks: list[NetworkInfo]
    dataset: DatasetInfo
    continues: bool
    least_workers: int
    warnings: list[str]


async def prepare_training(
    context: EngineContext, cluster: Cluster, request: TrainRequest, ordinal: int
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
        window=request.window,
        horizon=request.horizon,
        # One split per cluster, whatever is trained later: a test row never becomes a training row.
        seed=seed64((cluster.spec.seed, 0), 0, "", 0, "partition"),
    )
    data = await context.offload(prepare, asked, context.settings)
    seed = request.seed if request.seed is not None else cluster.spec.seed
    partition = resolve_partition(request, has_clients=bool(data.clients))
    shards = await context.offload(cut_shards, data, workers, partition, (seed, ordinal))
    eligible = [slot for slot in workers if shards.rows[slot.name].size > 0]
    if not eligible:
        raise DataTooSmall(
            f"no worker gets a row of the {len(data.parts['train'].y)} training rows",
            hint="give more rows, or deploy fewer workers",
        )
    cohorts, warnings = plan_cohorts(context, cluster, request, data, workers)
    config = effective_config(
        request,
        eligible=len(eligible),
        partition=partition,
        seed=seed,
        largest_shard=max(int(shards.rows[slot.name].size) for slot in eligible),
    )
    continues = any(cohort.state is not None for cohort in cohorts.values())
    if cluster.bundle is not None and not continues:
        warnings.append(
            "the data or the networks differ from the trained ones: this training starts a new lineage"
        )
    return Preparation(
        data=data,
        shards=shards,
        cohorts=cohorts,
        config=config,
        networks=[describe_network(cohort) for cohort in cohorts.values()],
        dataset=describe_data(data),
        continues=continues,
        least_workers=request.min_nodes_per_round or 1,
        warnings=[*data.warnings, *shards.warnings, *warnings],
    )


def healthy_workers(cluster: Cluster) -> list[Slot]:
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
        hint="deploy one with neural_node_deploy (role: worker)",
    )


def cut_shards(
    data: PreparedData, workers: list[Slot], partition: str, run: tuple[int, int]
) -> Shards:
    """Divide the training rows among workers."""
    return assign_shards(
        data.parts["train"],
        [(slot.name, slot.spec.capabilities) for slot in workers],
        partition,
        seed64(run, 0, "", 0, "partition"),
        symbols=data.description.symbols,
        classes=data.schema.classes,
        clients=data.clients,
    )


def plan_cohorts(
    context: EngineContext,
    cluster: Cluster,
    request: TrainRequest,
    data: PreparedData,
    workers: list[Slot],
) -> tuple[dict[str, Cohort], list[str]]:
    """Group workers by network and give each group its plan, and its committed state if it has one.

    Raises:
        InvalidArchitecture, LimitExceeded: A layer list does not work on this data.
    """
    schema, warnings = data.schema, []
    members: dict[str, list[Slot]] = {}
    for slot in workers:
        members.setdefault(repr(slot.spec.layers), []).append(slot)
    cohorts: dict[str, Cohort] = {}
    for slots in members.values():
        try:
            planned = plan_network(
                parse_layers(slots[0].spec.layers).layers,
                input=schema.input,
                task=schema.task,
                n_outputs=schema.n_outputs,
                max_parameters=context.settings.max_parameters,
            )
        except (InvalidArchitecture, LimitExceeded) as refusal:
            whose = ", ".join(slot.name for slot in slots[:8])
            raise type(refusal)(
                f"{whose}: {refusal.message}", hint=refusal.hint, details=refusal.details
            ) from None
        warnings += [f"{slots[0].name}: {warning}" for warning in planned.warnings]
        cohort = Cohort(
            key=f"c{cluster.cohorts_made + len(cohorts)}",
            plan=planned.plan,
            slots=tuple(slot.name for slot in slots),
            layers_source=slots[0].spec.layers_source,
            optimizer=request.optimizer,
        )
        cohort = _continued(cluster, cohort, schema)
        cohorts[cohort.key] = cohort
    return cohorts, warnings


def _continued(cluster: Cluster, cohort: Cohort, schema: DataSchema) -> Cohort:
    """The cohort with the committed state of the same network on the same kind of input, if any."""
    committed = cluster.committed
    if committed is None or _lineage(committed.schema) != _lineage(schema):
        return cohort
    for former in committed.cohorts.values():
        if former.plan_digest != cohort.plan_digest or former.state is None:
            continue
        same = former.optimizer == cohort.optimizer
        state = former.state if same else former.state.with_fresh_moments(cohort.optimizer)
        return replace(
            cohort,
            key=former.key,
            state=state,
            digest=former.digest,
            blob=former.blob,
            moments_blob=former.moments_blob if same else None,
            version=former.version,
        )
    return cohort


def _lineage(schema: DataSchema) -> tuple[object, ...]:
    """What two data sets must share for the weights of one to be a start for the other."""
    names = tuple(column.name for column in schema.columns)
    return (schema.input, schema.task, tuple(schema.classes or ()), names, schema.target_name)


def describe_network(cohort: Cohort) -> NetworkInfo:
    """A cohort as the reply names it."""
    plan = cohort.plan
    shape = plan.input.sequence_shape if plan.view == "sequence" else (plan.input.flat_width,)
    return NetworkInfo(
        cohort=cohort.key,
        slots=list(cohort.slots),
        parameters=plan.n_params,
        input=list(shape),
        implied_head=plan.implied_head,
        layers_source=cohort.layers_source,
    )


def describe_data(data: PreparedData) -> DatasetInfo:
    """The data as the reply describes it."""
    return DatasetInfo.model_validate(asdict(data.description))
