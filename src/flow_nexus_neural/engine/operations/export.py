"""A committed version of a cluster's model written as files of a format, checked, whole or not at all."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from hashlib import sha256
from typing import cast

import numpy as np
from pydantic import JsonValue

from flow_nexus_neural.artifacts.export_format import ExportFormat, Files, Rendered
from flow_nexus_neural.artifacts.manifest import MANIFEST, listed, manifest_digest
from flow_nexus_neural.artifacts.model import Examples, ExportedModel, ExportedNetwork
from flow_nexus_neural.artifacts.registry import format_named
from flow_nexus_neural.coordination.quorum import liars_tolerated
from flow_nexus_neural.data.folder_writing import Former, write_folder
from flow_nexus_neural.data.output_place import OutputPlace, output_place
from flow_nexus_neural.data.writing import OutputFile
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.operations.export_examples import examples_of
from flow_nexus_neural.engine.reports import ExportCheck, ExportedFile, ExportReport
from flow_nexus_neural.engine.requests import ExportRequest
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.version_rows import load_version, stored_alone
from flow_nexus_neural.errors import InvalidArguments, NotTrained, StoreCorrupt
from flow_nexus_neural.vocabulary import DEFAULT_AGGREGATION


async def export_model(cluster: LiveCluster, request: ExportRequest) -> ExportReport:
    """Write one version; what is written was read back and answers as the nodes do before it has its name.

    A training may go on meanwhile: the version is one value that nothing changes.

    Raises:
        NotTrained: There is no version.
        InvalidArguments, PathNotAllowed: The path or the version cannot be used.
        NotAvailable: The format cannot express the model, or an optional library is missing.
        StoreUnavailable: The disk refuses; nothing is left.
        StoreCorrupt: What was read back answers otherwise, or the version is damaged; nothing is left.
    """
    context = cluster.context
    settings = context.settings
    kind = format_named(request.format)
    place = await context.offload_data(
        partial(output_place, folder=kind.suffix is None, notes_dir=settings.notes_dir),
        request.path,
        settings.write_roots,
        settings.state_dir,
        "path",
    )
    _check_suffix(kind, place)
    version = await _version(cluster, request.version)
    model = exported_model(cluster, version)
    async with context.exporting:
        rendered = await context.offload_data(kind.render, model)
        examples, why = await examples_of(cluster, version)
        return await context.offload_exporting(
            _write, kind, place, request, (model, rendered), (examples, why)
        )


async def _version(cluster: LiveCluster, number: int | None) -> CommittedVersion:
    """The version in force, or a kept one with its weights."""
    committed = cluster.committed
    if committed is None:
        raise NotTrained(
            f"cluster {cluster.cluster_id} has no trained model yet",
            hint="call neural_train_distributed, then neural_cluster_status with wait_seconds",
        )
    if number is None or number == committed.version:
        return committed
    if all(line.version != number for line in committed.kept):
        kept = ", ".join(str(line.version) for line in committed.kept[-8:])
        raise InvalidArguments(
            f"version {number} of cluster {cluster.cluster_id} is not kept; kept are {kept}",
            hint='see neural_cluster_status with detail "versions"',
        )
    stored = await cluster.context.store.kept_version(cluster.cluster_id, number)
    return await cluster.context.offload(load_version, stored, cluster.context.checkpoints)


def exported_model(cluster: LiveCluster, version: CommittedVersion) -> ExportedModel:
    """A version as the formats take it. Raises `StoreCorrupt` where its weights are not held."""
    spec, bundle = cluster.spec, version.bundle
    members = {slot: key for slot, key in version.members.items() if slot in bundle.slot_weights}
    slots = {slot: members[slot] for slot in bundle.slot_weights if slot in members}
    nodes: dict[str, dict[str, JsonValue]] = {}
    for slot in cluster.slots:
        if slot.name in slots or slot.name in bundle.roles.networks:
            nodes[slot.name] = cast("dict[str, JsonValue]", _declared(asdict(slot.spec)))
    return ExportedModel(
        cluster_id=cluster.cluster_id,
        name=spec.name,
        version=version.version,
        sha=version.sha,
        schema=version.schema,
        networks={key: _network(version.networks[key]) for key in dict.fromkeys(slots.values())},
        slots=slots,
        calibrator=bundle.calibrators.get(DEFAULT_AGGREGATION),
        rule=bundle.rule,
        liars=liars_tolerated(len(slots)) if bundle.robust else 0,
        stored=stored_alone(version).model_dump(mode="json"),
        privacy=version.privacy,
        roles={slot: _network(network) for slot, network in bundle.roles.networks.items()},
        cluster={
            "topology": spec.topology,
            "architecture": spec.architecture,
            "consensus": spec.consensus,
            "seed": spec.seed,
            "wasm_optimization": spec.wasm_optimization,
            "daa_enabled": spec.daa_enabled,
        },
        nodes=nodes,
    )


def _declared(spec: Mapping[str, object]) -> dict[str, object]:
    layers = cast("tuple[Mapping[str, object], ...]", spec["layers"])
    tags = cast("tuple[str, ...]", spec["capabilities"])
    return {**spec, "layers": [dict(layer) for layer in layers], "capabilities": list(tags)}


def _network(group: NetworkGroup) -> ExportedNetwork:
    if group.state is None or group.digest is None:
        raise StoreCorrupt(
            f"the weights of network {group.key} are not held",
            hint="restart the server, which reads them back",
        )
    return ExportedNetwork(
        group.key, group.plan, group.state.params, group.state.buffers, group.digest
    )


def _check_suffix(kind: ExportFormat, place: OutputPlace) -> None:
    if kind.suffix is not None and place.suffix != kind.suffix:
        raise InvalidArguments(
            f"path '{place.name}' does not end in {kind.suffix}, as a file of format {kind.name} does",
            hint=f"give a name like model{kind.suffix}",
        )


def _write(
    kind: ExportFormat,
    place: OutputPlace,
    request: ExportRequest,
    made: tuple[ExportedModel, Rendered],
    asked: tuple[Examples | None, str],
) -> ExportReport:
    """Write, read back, check, and only then give it its name. Blocking."""
    (model, rendered), (examples, why) = made, asked
    found: list[tuple[ExportCheck | None, str | None]] = []

    def checked(files: Files) -> None:
        found.append(_checked(kind, model, files, (examples, why)))

    if kind.suffix is None:
        write_folder(
            place,
            rendered.files,
            overwrite=request.overwrite,
            former=Former(MANIFEST, listed),
            checked=checked,
        )
        digest = manifest_digest(rendered.files)
    else:
        content = next(iter(rendered.files.values()))
        output = OutputFile(
            place, overwrite=request.overwrite, former=kind.begins and kind.begins.match
        )
        try:
            output.write(content)
            checked({place.name: output.content()})
            output.publish()
        finally:
            output.abandon()
        digest = output.sha256
    verified, not_verified = found[-1]
    return _report(
        (kind, place, digest), model, rendered, verified=verified, not_verified=not_verified
    )


def _checked(
    kind: ExportFormat, model: ExportedModel, files: Files, asked: tuple[Examples | None, str]
) -> tuple[ExportCheck | None, str | None]:
    """How far the export's answers are from those of the nodes, or why nobody can tell.

    Raises:
        StoreCorrupt: They are further than the format may be.
    """
    examples, why = asked
    if examples is None:
        return None, why
    again = kind.recompute(model, files, examples)
    if again.answers is None:
        return None, again.by
    unit = model.schema.target_sd if model.schema.task == "regression" else 1.0
    unit = 1.0 if again.of_logits else unit
    difference = float(np.max(np.abs(again.answers - again.expected))) / unit
    if not difference <= kind.tolerance:
        raise StoreCorrupt(
            f"the {kind.name} export answers otherwise than the cluster's nodes, by up to {difference:.3g};"
            " nothing was kept",
            hint="call neural_cluster_status to see whether nodes are suspect, then export again",
        )
    return (
        ExportCheck(
            rows=len(examples.rows),
            max_difference=difference,
            tolerance=kind.tolerance,
            compared="logits" if again.of_logits else "answers",
            by=again.by,
            rows_of=why,
        ),
        None,
    )


def _report(
    written: tuple[ExportFormat, OutputPlace, str],
    model: ExportedModel,
    rendered: Rendered,
    *,
    verified: ExportCheck | None,
    not_verified: str | None,
) -> ExportReport:
    kind, place, digest = written
    single = kind.suffix is not None
    files = [
        ExportedFile(
            name=place.name if single else name,
            bytes=len(content),
            sha256=sha256(content).hexdigest(),
        )
        for name, content in sorted(rendered.files.items())
    ]
    return ExportReport(
        cluster_id=model.cluster_id,
        model_version=model.version,
        bundle_sha=model.sha,
        format=kind.name,
        path=str(place.path),
        files=files,
        bytes=sum(file.bytes for file in files),
        sha256=digest,
        task=model.schema.task,
        inputs=rendered.inputs,
        outputs=rendered.outputs,
        verified=verified,
        not_verified=not_verified,
        not_included=list(rendered.not_included),
        privacy=model.privacy,
        warnings=list(rendered.warnings),
    )
