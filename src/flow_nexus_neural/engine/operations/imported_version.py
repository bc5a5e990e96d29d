"""The version that an exported folder describes, checked, as one that a new cluster can serve."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StrictBool, ValidationError

from flow_nexus_neural.artifacts.folder_content import FolderContent, network_prefix, role_prefix
from flow_nexus_neural.artifacts.manifest import EXPORT_AGAIN
from flow_nexus_neural.coordination.membership import slot_order
from flow_nexus_neural.coordination.privacy.lineage import fault_of
from flow_nexus_neural.engine.operations.imported_numbers import (
    conformal_fault,
    metrics_fault,
    schema_fault,
)
from flow_nexus_neural.engine.requests import CapabilityTag, ClusterName, Probability, Seed
from flow_nexus_neural.engine.state.network_groups import ModelState, NetworkGroup
from flow_nexus_neural.engine.state.roles import Roles
from flow_nexus_neural.engine.state.slot_spec import SlotSpec, in_one_order
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.persisted import StoredVersion
from flow_nexus_neural.engine.storage.version_rows import (
    load_version,
    stored_version,
    without_files,
)
from flow_nexus_neural.errors import InvalidDataset, NeuralError, NotAvailable, StoreCorrupt
from flow_nexus_neural.networks.parsing import parse_layers
from flow_nexus_neural.networks.replanning import require_sound
from flow_nexus_neural.vocabulary import (
    MAX_CAPABILITIES,
    Architecture,
    Consensus,
    ModelSize,
    Role,
    Topology,
)

_SLOT = re.compile(r"(worker|parameter_server|aggregator|validator)-(0|[1-9]\d{0,5})")
_KEY = re.compile(r"c\d{1,6}(?:@worker-\d{1,6})?")
_ROLE_KEY = re.compile(r"(?:stacker|confidence|student):[a-z_]+-\d{1,6}")

S = TypeVar("S", bound=BaseModel)


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class Source(_Shape):
    """Where an export comes from, as it says itself."""

    cluster_id: str = Field(pattern=r"^dnc_[0-9a-f]{12}$")
    name: ClusterName
    version: int = Field(ge=1, le=2**31 - 1)
    bundle_sha: str = Field(pattern=r"^[0-9a-f]{64}$")


class DeclaredCluster(_Shape):
    """What the cluster was declared to be; exports of earlier versions do not have its switches."""

    topology: Topology
    architecture: Architecture
    consensus: Consensus
    seed: Seed
    wasm_optimization: StrictBool | None = None
    daa_enabled: StrictBool | None = None


class DeclaredNode(_Shape):
    """What a slot was declared to be; its layers are parsed as those of a deploy are."""

    role: Role
    node_type: str = Field(default="worker", max_length=64)
    model: ModelSize = "base"
    capabilities: tuple[CapabilityTag, ...] = Field(default=(), max_length=MAX_CAPABILITIES)
    autonomy: Probability = 0.8
    template: str = Field(default="", max_length=64)
    layers: tuple[dict[str, JsonValue], ...] = Field(default=(), max_length=80)
    layers_source: Literal["given", "peer", "default"] = "given"

    def spec(self) -> SlotSpec:
        """As a slot has it. Raises `InvalidArchitecture`."""
        parsed = parse_layers(self.layers).layers if self.layers else ()
        return SlotSpec(
            role=self.role,
            node_type=self.node_type,
            model=self.model,
            capabilities=self.capabilities,
            autonomy=self.autonomy,
            template=self.template,
            layers=in_one_order(layer.to_json() for layer in parsed),
            layers_source=self.layers_source,
        )


class _Config(_Shape):
    source: Source
    cluster: DeclaredCluster
    nodes: dict[str, DeclaredNode] = Field(max_length=256)
    stored: StoredVersion


@dataclass(frozen=True)
class ImportedModel:
    """An export that can be served.

    Attributes:
        name: Of the cluster to be made.
        specs: What its slots are, by name, in slot order.
        version: Version 1 of the new cluster, with its weights and without files.
        warnings: What of the exported version is not part of it.
    """

    name: str
    source: Source
    sha256: str
    declared: DeclaredCluster
    specs: Mapping[str, SlotSpec]
    version: CommittedVersion
    warnings: tuple[str, ...]


def imported_model(content: FolderContent, name: str | None, max_parameters: int) -> ImportedModel:
    """Check what an export says, and make a version of it. Blocking.

    Raises:
        InvalidDataset: Something in it does not fit together.
        InvalidArchitecture, LimitExceeded: A network cannot be built here.
    """
    config = _read(_Config, content.config)
    bad = [slot for slot in config.nodes if not _SLOT.fullmatch(slot)]
    wrong = [slot for slot, node in config.nodes.items() if slot.rsplit("-", 1)[0] != node.role]
    if bad or wrong:
        raise _unfit(f"node {(bad or wrong)[0][:80]!r} is none")
    specs = {slot: config.nodes[slot].spec() for slot in sorted(config.nodes, key=slot_order)}
    version, warnings = _version(config.stored, content, max_parameters)
    _check_members(version, specs)
    return ImportedModel(
        name=name or config.source.name,
        source=config.source,
        sha256=content.sha256,
        declared=config.cluster,
        specs=specs,
        version=version,
        warnings=warnings,
    )


def _version(
    stored: StoredVersion, content: FolderContent, max_parameters: int
) -> tuple[CommittedVersion, tuple[str, ...]]:
    try:
        made = load_version(_without_files(stored), None)
    except (StoreCorrupt, ValidationError, ValueError, TypeError) as failure:
        raise _unfit(str(getattr(failure, "message", failure))[:200]) from failure
    for fault in (
        schema_fault(made.schema),
        metrics_fault(made.accuracy, made.loss),
        conformal_fault(made.bundle.conformal),
    ):
        if fault is not None:
            raise _unfit(fault)
    for number in (*made.bundle.slot_weights.values(), made.bundle.rule.threshold):
        if not 0 <= number <= 1:
            raise _unfit(f"a weight or threshold is {number!r}")
    networks = {
        key: _with_weights(network, network_prefix(key), content, max_parameters)
        for key, network in made.networks.items()
        if _known(key, network, _KEY)
    }
    roles = made.bundle.roles
    of_roles = {
        slot: _with_weights(network, role_prefix(slot), content, max_parameters)
        for slot, network in roles.networks.items()
        if _known(network.key, network, _ROLE_KEY)
    }
    _check_outputs(made, networks)
    _check_roles(roles, of_roles)
    bundle = replace(
        made.bundle,
        version=1,
        parity=1,
        digests={key: network.digest or "" for key, network in networks.items()},
        roles=replace(roles, networks=of_roles),
    )
    version = replace(made, version=1, networks=networks, bundle=bundle)
    _check_survives(version)
    told = _check_privacy(version)
    if not made.evaluated:
        return version, told
    unmeasured = "its accuracy was measured before it was trained on all rows: of these weights it is unknown"
    return replace(version.unmeasured(), evaluated={}), (*told, unmeasured)


def _check_privacy(version: CommittedVersion) -> tuple[str, ...]:
    """What it says of its privacy is what its trainings cost; warnings where that cannot be told."""
    privacy = version.privacy
    if privacy is None:
        return ("the export does not say how private its trainings were",)
    try:
        fault = fault_of(privacy)
    except NotAvailable as failure:
        return (f"what the export says of its privacy was not computed again: {failure.message}",)
    if fault is not None:
        raise _unfit(f"of its privacy {fault}")
    return ()


def _without_files(stored: StoredVersion) -> StoredVersion:
    """The version without what only the state directory that it comes from has."""
    gone: dict[str, object] = {
        "blob": None,
        "moments_blob": None,
        "server_blob": None,
        "version": 0,
        "opt_step": 0,
        "rows": {},
    }
    return without_files(stored, gone)


def _known(key: str, network: NetworkGroup, pattern: re.Pattern[str]) -> bool:
    if network.key != key or not pattern.fullmatch(key):
        raise _unfit(f"network {key[:80]!r} is none")
    return True


def _with_weights(
    network: NetworkGroup, prefix: str, content: FolderContent, max_parameters: int
) -> NetworkGroup:
    """The network with the weights of the export, which must be those that its digest says."""
    require_sound(network.plan, max_parameters)
    params, buffers = content.vectors(prefix, network.plan)
    state = ModelState(params, buffers, {}, 0).with_fresh_moments(network.optimizer)
    made = network.with_state(state)
    if made.digest != network.digest:
        raise InvalidDataset(
            f"the weights of network {network.key} are not those that the export says",
            hint=EXPORT_AGAIN,
        )
    return made


def _check_outputs(made: CommittedVersion, networks: Mapping[str, NetworkGroup]) -> None:
    schema = made.schema
    for network in networks.values():
        plan = network.plan
        if plan.task != schema.task or plan.n_outputs != schema.n_outputs:
            raise _unfit(f"network {network.key} answers another task than the data set's")
        if plan.input != schema.input:
            raise _unfit(f"network {network.key} takes other rows than the data set's")
    widths = sum(column.width for column in schema.columns)
    if widths * (schema.input.window or 1) != schema.input.flat_width:
        raise _unfit("its columns are not those of its rows")
    n_classes = 0 if schema.classes is None else len(schema.classes)
    if len(made.bundle.rule.class_weight) not in (0, n_classes):
        raise _unfit("its class weights are not one per class")


def _check_roles(roles: Roles, networks: Mapping[str, NetworkGroup]) -> None:
    """What other roles learnt fits the records that they are asked about."""
    layout = roles.layout
    for slot, network in networks.items():
        known = roles.learnt.get(slot)
        if known is None or known.digest != network.digest:
            raise _unfit(f"what {slot} learnt is not its network")
        if known.purpose == "stacker" and (
            layout is None or network.plan.input.flat_width != layout.n_features
        ):
            raise _unfit(f"the network of {slot} reads other answers than its layout has")


def _check_survives(version: CommittedVersion) -> None:
    """What is stored of it is read back to the same, as the next start of a server will read it."""
    try:
        text = stored_version(version).model_dump_json()
        again = load_version(StoredVersion.model_validate_json(text), None)
        same = again.schema.digest == version.schema.digest
    except (StoreCorrupt, ValidationError, ValueError, TypeError) as failure:
        raise _unfit(str(getattr(failure, "message", failure))[:200]) from failure
    if not same or again.bundle.content != version.bundle.content:
        raise _unfit("it is not the same after it was stored")


def _check_members(version: CommittedVersion, specs: Mapping[str, SlotSpec]) -> None:
    """Every slot that serves or has a network of its own is declared, and serves one network."""
    serving = [slot for network in version.networks.values() for slot in network.slots]
    if not serving or len(serving) != len(set(serving)):
        raise _unfit("its nodes do not serve one network each")
    if set(serving) != set(version.bundle.slot_weights):
        raise _unfit("its weights are of other nodes than those that serve")
    of_roles = version.bundle.roles.networks
    named: Iterable[str] = [*serving, *of_roles]
    missing = [slot for slot in named if slot not in specs]
    workers = [slot for slot in serving if not slot.startswith("worker-")]
    if missing or workers:
        raise _unfit(f"node {(missing or workers)[0][:80]!r} cannot serve it")
    for slot, network in of_roles.items():
        if network.slots != (slot,):
            raise _unfit(f"the network of {slot} is another node's")


def _read(shape: type[S], value: Mapping[str, Any]) -> S:
    try:
        return shape.model_validate(value)
    except ValidationError as failure:
        first = failure.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise _unfit(f"{where[:120]}: {first['msg']}") from failure


def _unfit(why: str) -> NeuralError:
    return InvalidDataset(f"the export cannot be served: {why}", hint=EXPORT_AGAIN)
