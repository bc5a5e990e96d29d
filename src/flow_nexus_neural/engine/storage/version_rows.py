"""Between a committed version and what is stored of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
from pydantic import JsonValue

from flow_nexus_neural.coordination.privacy.lineage import ModelPrivacy
from flow_nexus_neural.data.normalise import ColumnSpec
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.reports import DatasetInfo, Evaluation
from flow_nexus_neural.engine.state.network_groups import (
    ModelState,
    NetworkGroup,
    ServerState,
    Vector,
)
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion, KeptVersion
from flow_nexus_neural.engine.storage import persisted
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.role_rows import load_roles, stored_roles
from flow_nexus_neural.errors import StoreCorrupt
from flow_nexus_neural.kernels.calibration import Calibrator
from flow_nexus_neural.kernels.conformal import ConformalScores
from flow_nexus_neural.kernels.decision import DecisionRule
from flow_nexus_neural.protocol.model_state import MOMENTS
from flow_nexus_neural.protocol.plan import NetworkPlan

SERVER_METHOD = "aggregation_method"
"""In the header of a file with a federated method's vectors: the method."""
TRAIN_AGAIN = "restore the state directory from a copy, or train the cluster again"


def load_version(
    stored: persisted.StoredVersion, files: CheckpointFiles | None
) -> CommittedVersion:
    """A committed version, with weights where there are files to read them from. Raises `StoreCorrupt`."""
    evaluation = stored.evaluation
    return CommittedVersion(
        version=stored.version,
        schema=_schema(stored.data_schema),
        dataset=persisted.report(DatasetInfo, stored.dataset.model_dump(mode="json")),
        networks={key: load_network(own, files) for key, own in stored.networks.items()},
        bundle=_bundle(stored.bundle, files),
        evaluation=persisted.report(Evaluation, evaluation) if evaluation is not None else None,
        accuracy=stored.accuracy,
        loss=stored.loss,
        privacy=load_privacy(stored.privacy),
        recent=stored.recent,
        best=stored.best,
        evaluated={
            key: load_network(own, files).without_state() for key, own in stored.evaluated.items()
        },
        kept=tuple(
            KeptVersion(**{**dict(one), "blobs": frozenset(one.blobs)}) for one in stored.kept
        ),
    )


def load_privacy(stored: persisted.StoredModelPrivacy | None) -> ModelPrivacy | None:
    """The privacy of weights; None where it was not recorded. Raises `StoreCorrupt`."""
    if stored is None:
        return None
    return persisted.understood(ModelPrivacy, "privacy", stored.model_dump(mode="json"))


def stored_privacy(privacy: ModelPrivacy | None) -> persisted.StoredModelPrivacy | None:
    """The privacy of weights as it is stored."""
    if privacy is None:
        return None
    return persisted.StoredModelPrivacy.model_validate(privacy.model_dump())


def load_network(stored: persisted.StoredNetwork, files: CheckpointFiles | None) -> NetworkGroup:
    """A network group, with its committed weights when it has some and there are files to read them from.

    Raises:
        StoreCorrupt: A checkpoint is missing, altered, or does not hold what the plan says.
    """
    plan = persisted.understood(NetworkPlan, "network plan", stored.plan)
    network = NetworkGroup(
        key=stored.key,
        plan=plan,
        slots=stored.slots,
        layers_source=stored.layers_source,
        optimizer=stored.optimizer,  # type: ignore[arg-type]  # checked below, where moments are read
        digest=stored.digest,
        blob=stored.blob,
        moments_blob=stored.moments_blob,
        server_blob=stored.server_blob,
        version=stored.version,
        rows=stored.rows,
        stored_step=stored.opt_step,
    )
    if stored.optimizer not in MOMENTS:
        raise StoreCorrupt(f"optimizer {stored.optimizer!r} is unknown", hint=TRAIN_AGAIN)
    if network.blob is None or files is None:
        return network
    weights = files.read(network.blob)
    moments = files.read(network.moments_blob) if network.moments_blob is not None else {}
    try:
        state = ModelState(
            params=_joined(weights, [tensor.name for tensor in plan.trainable]),
            buffers=_joined(weights, [tensor.name for tensor in plan.buffers]),
            moments={name: moments[name] for name in MOMENTS[network.optimizer]} if moments else {},
            opt_step=stored.opt_step,
            server=_server_state(network, files),
        )
        found = network.digest_of(state)
    except (KeyError, ValueError) as failure:
        raise StoreCorrupt(
            f"checkpoint {network.blob[:12]} does not hold the tensors of its network",
            hint=TRAIN_AGAIN,
        ) from failure
    if found != network.digest:
        raise StoreCorrupt(
            f"checkpoint {network.blob[:12]} has weights {found[:12]}, the journal says"
            f" {(network.digest or 'none')[:12]}",
            hint=TRAIN_AGAIN,
        )
    return replace(network, state=state, stored_step=0)


def _server_state(network: NetworkGroup, files: CheckpointFiles) -> ServerState | None:
    """What a federated method keeps, as it was committed. Raises `StoreCorrupt` or `ValueError`."""
    if network.server_blob is None:
        return None
    vectors, metadata = files.read_with_metadata(network.server_blob)
    for name, vector in vectors.items():
        if vector.shape != (network.plan.n_params,) or vector.dtype != np.float32:
            raise ValueError(f"{name} does not fit the network")
    return ServerState(str(metadata[SERVER_METHOD]), vectors)


def stored_version(version: CommittedVersion) -> persisted.StoredVersion:
    """Everything of a version but the vectors, which are in the checkpoint files."""
    return persisted.StoredVersion(
        version=version.version,
        data_schema=version.schema.to_json(),
        dataset=persisted.StoredDataset.model_validate(version.dataset.model_dump()),
        networks={key: stored_network(network) for key, network in version.networks.items()},
        bundle=_stored_bundle(version.bundle),
        evaluation=version.evaluation.model_dump(mode="json") if version.evaluation else None,
        accuracy=version.accuracy,
        loss=version.loss,
        privacy=stored_privacy(version.privacy),
        recent=dict(version.recent),
        best=dict(version.best),
        evaluated={key: stored_network(network) for key, network in version.evaluated.items()},
        kept=tuple(
            persisted.StoredKept(**{**asdict(one), "blobs": tuple(sorted(one.blobs))})
            for one in version.kept
        ),
    )


def stored_alone(version: CommittedVersion) -> persisted.StoredVersion:
    """A version as it is kept to answer again: without what only a training needs."""
    gone: dict[str, object] = {"moments_blob": None, "server_blob": None, "opt_step": 0}
    return without_files(stored_version(version), gone)


def without_files(
    stored: persisted.StoredVersion, gone: Mapping[str, object]
) -> persisted.StoredVersion:
    """A stored version on its own, and every network of it with these fields changed."""

    def bare(networks: Mapping[str, persisted.StoredNetwork]) -> dict[str, persisted.StoredNetwork]:
        return {key: network.model_copy(update=gone) for key, network in networks.items()}

    bundle, roles = stored.bundle, stored.bundle.roles
    if roles is not None:
        bare_roles = roles.model_copy(update={"networks": bare(roles.networks)})
        bundle = bundle.model_copy(update={"roles": bare_roles})
    return stored.model_copy(
        update={
            "bundle": bundle,
            "networks": bare(stored.networks),
            "evaluated": bare(stored.evaluated),
            "recent": {},
            "best": {},
            "kept": (),
        }
    )


def stored_network(network: NetworkGroup) -> persisted.StoredNetwork:
    """Everything of a network group but the vectors, which are in the checkpoint files."""
    return persisted.StoredNetwork(
        key=network.key,
        plan=network.plan.model_dump(mode="json"),
        slots=network.slots,
        layers_source=network.layers_source,
        optimizer=network.optimizer,
        digest=network.digest,
        blob=network.blob,
        moments_blob=network.moments_blob,
        server_blob=network.server_blob,
        version=network.version,
        opt_step=network.opt_step,
        rows=dict(network.rows),
    )


def _stored_bundle(bundle: Bundle) -> persisted.StoredBundle:
    return persisted.StoredBundle(
        version=bundle.version,
        digests=dict(bundle.digests),
        parity=bundle.parity,
        slot_weights=dict(bundle.slot_weights),
        weights_source=bundle.weights_source,
        calibrators={mode: c.to_json() for mode, c in bundle.calibrators.items()},
        residual_median=bundle.residual_median,
        error_correlation=bundle.error_correlation,
        threshold=bundle.rule.threshold,
        class_weight=bundle.rule.class_weight,
        robust=bundle.robust,
        roles=stored_roles(bundle.roles, stored_network),
        conformal={
            mode: persisted.StoredConformal.model_validate(scores.to_json())
            for mode, scores in bundle.conformal.items()
        },
        conformal_part=bundle.conformal_part,
        experts=dict(bundle.experts),
    )


def _bundle(stored: persisted.StoredBundle, files: CheckpointFiles | None) -> Bundle:
    calibrators = {mode: Calibrator.from_json(c) for mode, c in stored.calibrators.items()}
    values = dict(stored)
    rule = DecisionRule(values.pop("threshold"), values.pop("class_weight"))
    conformal = {
        mode: ConformalScores(own.n, own.ranks, own.scores)
        for mode, own in stored.conformal.items()
    }
    roles = load_roles(stored.roles, lambda network: load_network(network, files))
    read = {"calibrators": calibrators, "rule": rule, "conformal": conformal, "roles": roles}
    return Bundle(**{**values, **read})


def _schema(stored: Mapping[str, JsonValue]) -> DataSchema:
    """The schema of a version's data, without fields that this version of it does not have."""
    known = {name: value for name, value in stored.items() if name in DataSchema.model_fields}
    columns = known.get("columns")
    if isinstance(columns, list):
        known["columns"] = [
            {name: value for name, value in column.items() if name in ColumnSpec.model_fields}
            for column in columns
            if isinstance(column, dict)
        ]
    return persisted.understood(DataSchema, "data schema", known)


def _joined(tensors: Mapping[str, Vector], names: Sequence[str]) -> Vector:
    if not names:
        return np.zeros(0, dtype=np.float32)
    return np.concatenate([tensors[name].ravel() for name in names])
