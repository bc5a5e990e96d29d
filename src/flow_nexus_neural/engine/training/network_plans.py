"""The networks of a training: workers with the same layers are one, planned, continued if trained."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import NetworkInfo, TrainingConfig
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.training.aggregation_rule import find_rule
from flow_nexus_neural.engine.training.secure_options import check_secure_networks
from flow_nexus_neural.errors import InvalidArchitecture, InvalidArguments, LimitExceeded
from flow_nexus_neural.networks.batches import smallest_batch
from flow_nexus_neural.networks.defaults import has_sequence
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.planner import plan_network
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import InputSpec


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


def plan_networks(
    cluster: LiveCluster,
    request: TrainRequest,
    data: PreparedData,
    workers: list[Slot],
    formers: Mapping[str, NetworkGroup],
) -> tuple[dict[str, NetworkGroup], list[str]]:
    """Group workers by network and give each group its plan, and its committed state if it has one.

    Raises:
        InvalidArchitecture, LimitExceeded: A layer list does not work on this data.
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
        warnings += [f"{slots[0].name}: {warning}" for warning in planned.warnings]
        warnings += _dense_by_default(cluster, slots, schema.input)
        network = NetworkGroup(
            key=f"c{cluster.state.networks_made + len(networks)}",
            plan=planned.plan,
            slots=tuple(slot.name for slot in slots),
            layers_source=slots[0].spec.layers_source,
            optimizer=request.optimizer,
        )
        network = _continued(cluster, network, schema, formers)
        network = _with_server_state_of(network, request, cluster)
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


def check_networks(
    config: TrainingConfig, networks: Collection[NetworkGroup], eligible: Collection[str]
) -> None:
    """Refuse settings with which a network cannot be trained by the slots that have rows.

    Raises:
        InvalidArguments, UnsupportedCombination: As the checks of batches and of secure sums.
    """
    for network in networks:
        _check_batch(config.batch_size, network)
    check_secure_networks(config, networks, eligible)


def _check_batch(batch_size: int, network: NetworkGroup) -> None:
    """Refuse batches from which a network cannot learn. Raises `InvalidArguments`."""
    smallest = smallest_batch(network.plan)
    if batch_size < smallest:
        whose = ", ".join(network.slots[:8])
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
        # A version that was kept to answer again has no moments.
        same = former.optimizer == network.optimizer and former.state.moments.keys() == set(
            MOMENTS[network.optimizer]
        )
        state = former.state if same else former.state.with_fresh_moments(network.optimizer)
        return replace(
            network,
            key=former.key,
            state=state,
            digest=former.digest,
            blob=former.blob,
            moments_blob=former.moments_blob if same else None,
            server_blob=former.server_blob,
            version=former.version,
        )
    return network


def _with_server_state_of(
    network: NetworkGroup, request: TrainRequest, cluster: LiveCluster
) -> NetworkGroup:
    """The network with what the training's own federated method left, and nothing of another one."""
    if network.state is None:
        return network
    method = find_rule(request.aggregation_method, cluster.spec.consensus).name
    state = network.state.for_training_with(method)
    return replace(network, state=state, server_blob=network.server_blob if state.server else None)


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
