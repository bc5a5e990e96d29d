"""A new cluster made of an exported folder: its nodes, its networks and its answers, under an id of its own.

Everything is checked first. One transaction then makes cluster, slots and version durable, so that after a
crash there is all of it or nothing; only then do its nodes start.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio
from pydantic import JsonValue

from flow_nexus_neural.artifacts.folder_content import folder_content
from flow_nexus_neural.artifacts.manifest import MANIFEST, listed
from flow_nexus_neural.data.folder_reading import read_folder
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.nodes.lifecycle import start
from flow_nexus_neural.engine.operations.cluster_report import not_started
from flow_nexus_neural.engine.operations.clusters import with_parts
from flow_nexus_neural.engine.operations.imported_version import (
    DeclaredCluster,
    ImportedModel,
    imported_model,
)
from flow_nexus_neural.engine.reports import ImportedFrom, ImportReport
from flow_nexus_neural.engine.requests import ImportRequest
from flow_nexus_neural.engine.state.cluster import ClusterSpec, ClusterState
from flow_nexus_neural.engine.state.network_groups import shared_key
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.cluster_rows import cluster_row, slot_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.storage.privacy_rows import IMPORTED
from flow_nexus_neural.engine.versions.commit import (
    Blobs,
    bundle_entry,
    recent_files,
    store_blobs,
    version_entry,
)
from flow_nexus_neural.engine.versions.final import store_roles
from flow_nexus_neural.engine.versions.kept import kept_rows, with_line
from flow_nexus_neural.errors import ClusterTerminated, LimitExceeded, NeuralError

MAX_BYTES_OF_FILES = 1 << 30
"""Of all files of an export together: they are held in memory while they are checked."""


async def read_model(context: EngineContext, request: ImportRequest) -> ImportedModel:
    """Read and check an export; nothing is made.

    Raises:
        DatasetNotFound, PathNotAllowed: There is no such folder, or it lies elsewhere.
        InvalidDataset: It is no export of this program, or was changed after it was written.
        InvalidArchitecture, LimitExceeded: It cannot be built here.
    """
    settings = context.settings

    def read() -> ImportedModel:
        files = read_folder(request.path, settings.data_roots, MANIFEST, listed, MAX_BYTES_OF_FILES)
        content = folder_content(files, request.sha256)
        return imported_model(content, request.name, settings.max_parameters)

    model = await context.read_data(read)
    if len(model.specs) > settings.max_nodes:
        raise LimitExceeded(
            f"the export has {len(model.specs)} nodes; the limit is {settings.max_nodes}",
            hint="start the server with a larger --max-nodes",
        )
    return model


async def stored(context: EngineContext, model: ImportedModel) -> ClusterState:
    """Make the cluster durable with its version; its slots wait to be started.

    Raises:
        StoreUnavailable: Nothing of it is left.
    """
    declared = model.declared
    state = ClusterState(
        cluster_id=context.new_id("dnc"),
        spec=ClusterSpec(
            name=model.name,
            topology=declared.topology,
            architecture=declared.architecture,
            consensus=declared.consensus,
            wasm_optimization=declared.wasm_optimization is not False,
            daa_enabled=declared.daa_enabled is not False,
            seed=declared.seed,
        ),
        created_at=context.timestamp(),
        clock=context.clock,
        created_at_s=context.clock(),
    )
    for name, spec in model.specs.items():
        slot = Slot(name, spec, context.new_id("node"), state="recovering", durable=True)
        network = model.version.loaded_into(name)
        if network is not None:
            slot.assign_network(network.plan.n_params, implied_head=network.plan.implied_head)
        state.slots.add(slot)
    cluster = with_parts(context, state)
    version, blobs = await _with_files(cluster, model.version)
    try:
        await _record(cluster, model, version, blobs)
    except BaseException:  # also cancelled: no row names these files
        with anyio.CancelScope(shield=True):
            await context.delete_files([sha for sha, _, _ in blobs])
        raise
    return state


async def _with_files(
    cluster: LiveCluster, version: CommittedVersion
) -> tuple[CommittedVersion, Blobs]:
    """The version with its weights in checkpoint files. Raises `StoreUnavailable`."""
    every = frozenset(version.networks)
    networks, blobs = await store_blobs(
        cluster, version.schema, version.networks, every, version.bundle.rule
    )
    bundle, of_roles = await store_roles(cluster, version.schema, version.bundle)
    recent = recent_files(None, networks, cluster.context.settings.checkpoint_keep)
    best = {key: network.blob for key, network in networks.items() if network.blob is not None}
    made = replace(version, networks=networks, bundle=bundle, recent=recent, best=best)
    return made, [*blobs, *of_roles]


async def _record(
    cluster: LiveCluster, model: ImportedModel, version: CommittedVersion, blobs: Blobs
) -> None:
    """One transaction with the cluster, its slots and its version."""
    state, source = cluster.state, model.source
    rule = f"imported from {source.cluster_id} version {source.version}"
    origin: dict[str, JsonValue] = {**source.model_dump(mode="json"), "sha256": model.sha256}
    entries: list[Mapping[str, JsonValue]] = [
        {"kind": "control", "event": "created"},
        {
            "kind": "control",
            "event": IMPORTED,
            "source": origin,
            "model_version": 1,
            **_spent(version),
        },
        *(
            version_entry(cluster, version.networks[key], 1, rule)
            for key in sorted(version.networks)
        ),
    ]
    if version.bundle.roles.networks:
        entries.append(bundle_entry(version))
    version = with_line(cluster, version, entries)
    numbers = [int(shared_key(key).removeprefix("c")) for key in version.networks]
    state.restore(
        topology_epoch=0,
        networks_made=max(numbers) + 1,
        committed=version,
        final=None,
        last_topology=None,
    )
    rows: list[LateRow] = [
        cluster_row(state, version),
        *(slot_row(state.cluster_id, s) for s in state.slots),
    ]
    await cluster.ledger.record(entries, rows, blobs=blobs, more=kept_rows(cluster, version))


def _spent(version: CommittedVersion) -> dict[str, JsonValue]:
    """What private trainings of the model have spent of budgets, which this state directory counts too."""
    trainings = version.privacy.trainings if version.privacy else ()
    private = [one.model_dump(mode="json") for one in trainings if one.mode != "none"]
    return {"trainings": [*private]} if private else {}


async def started(cluster: LiveCluster, model: ImportedModel, twins: Sequence[str]) -> ImportReport:
    """Start the nodes of an imported cluster; one that does not start is a warning.

    Raises:
        ClusterTerminated: It was ended meanwhile.
    """

    async def start_one(slot: Slot) -> None:
        async with slot.restarting:
            try:
                await start(cluster, slot)
            except ClusterTerminated:
                return
            except NeuralError as failure:
                slot.note_error(str(failure))

    async with cluster.reviving, anyio.create_task_group() as group:
        for slot in [slot for slot in cluster.slots if slot.handle is None]:
            group.start_soon(start_one, slot)
    cluster.state.refuse_ended()
    warnings = [*model.warnings, *_unsaid(model.declared), *not_started(cluster)]
    if twins:
        warnings.append(f"a live cluster of this name exists already: {', '.join(twins[:8])}")
    version, source = model.version, model.source
    return ImportReport(
        cluster_id=cluster.cluster_id,
        name=cluster.spec.name,
        model_version=version.version,
        source=ImportedFrom(**source.model_dump(), sha256=model.sha256),
        consensus=cluster.spec.consensus,
        task=version.schema.task,
        classes=None if version.schema.classes is None else [*version.schema.classes],
        nodes=len(cluster.slots),
        healthy_nodes=len(cluster.slots.healthy()),
        networks=len(version.networks),
        accuracy=version.accuracy,
        loss=version.loss,
        privacy=version.privacy,
        warnings=warnings,
    )


def _unsaid(declared: DeclaredCluster) -> list[str]:
    """What exports of earlier versions do not say of their cluster."""
    switches = {
        "wasmOptimization": declared.wasm_optimization,
        "daaEnabled": declared.daa_enabled,
    }
    return [
        f"the export does not say whether {name} was on: it is on, as by default"
        for name, value in switches.items()
        if value is None
    ]
