"""Putting an earlier version in force again: its weights, its bundle and what was measured of it.

The ledger never goes back: it says that a version was restored, and goes on with a new version that has taken
over everything of the earlier one. So a version number never means two models.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pydantic import JsonValue

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.version import CommittedVersion, KeptVersion, model_digest
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.engine.storage.persisted import StoredVersion
from flow_nexus_neural.engine.storage.version_rows import load_version
from flow_nexus_neural.engine.versions.commit import (
    bundle_entry,
    install,
    recent_files,
    store_blobs,
    version_entry,
)
from flow_nexus_neural.engine.versions.kept import ROLLBACK
from flow_nexus_neural.errors import InvalidArguments, NotTrained, StoreCorrupt, TrainingRunning

LISTED = 8


async def roll_back(cluster: LiveCluster, version: int) -> CommittedVersion:
    """Put a kept version in force again; durable and loaded into the nodes when this returns.

    Args:
        cluster: Of the version; its links do not change and no training is prepared meanwhile.
        version: Number of a kept one.

    Returns:
        The new version; the one in force where that is asked for.

    Raises:
        NotTrained: There is no version at all.
        InvalidArguments: It is not kept, or none of its nodes is a member any more.
        TrainingRunning: A training goes on, which would replace it.
        StoreCorrupt: It is not what was committed any more; the present version stays.
        ConsensusUnavailable, StoreUnavailable: It could not be committed; the present version stays.
    """
    async with cluster.changing:
        _refuse_training(cluster)
        present = cluster.committed
        if present is None:
            raise NotTrained(
                f"cluster {cluster.cluster_id} has no version to go back to",
                hint="call neural_train_distributed",
            )
        line = _kept(cluster, present, version)
        if version == present.version:
            return present
        stored = await cluster.context.store.kept_version(cluster.cluster_id, version)
        former = await cluster.context.offload(
            load_former, cluster.context.checkpoints, stored, line
        )
        await commit_former(cluster, present, former, line)
    cluster.changed()
    return cluster.committed or present


async def commit_former(
    cluster: LiveCluster,
    present: CommittedVersion,
    former: CommittedVersion,
    line: KeptVersion,
    why: Mapping[str, JsonValue] = MappingProxyType({}),
) -> None:
    """Put a former version in force under the number after the present one.

    Args:
        cluster: Of both.
        present: In force.
        former: With its weights.
        line: Of the former one.
        why: What else the ledger is to say of it.

    Raises:
        InvalidArguments, ConsensusUnavailable, StoreUnavailable: As `roll_back`.
    """
    number = present.version + 1
    networks, blobs = await store_blobs(
        cluster,
        former.schema,
        {key: _next(cluster, network) for key, network in former.networks.items()},
        frozenset(former.networks),
        former.bundle.rule,
    )
    restored = replace(
        former,
        version=number,
        networks=networks,
        bundle=replace(former.bundle, version=number, parity=number % 2),
        recent=recent_files(present, networks, cluster.context.settings.checkpoint_keep),
        best=present.best,
    )
    if not cluster.state.with_current_members(restored).members:
        raise InvalidArguments(
            f"none of the nodes that served version {line.version} is left",
            hint="choose another version, or deploy workers and train",
        )
    rolled: dict[str, JsonValue] = {
        "kind": "control",
        "event": ROLLBACK,
        "restored": line.version,
        "replaced": present.version,
        "model_version": number,
        **why,
    }
    told = {"round": line.round, "training_id": line.training_id}
    entries: list[Mapping[str, JsonValue]] = [
        rolled,
        *(
            {**version_entry(cluster, networks[key], number, ROLLBACK), **told}
            for key in sorted(networks)
        ),
    ]
    if restored.bundle.roles.networks:
        entries.append(bundle_entry(restored))
    await install(cluster, restored, entries, [], blobs)


def _next(cluster: LiveCluster, network: NetworkGroup) -> NetworkGroup:
    """A network of a former version, to be committed behind the present version of it."""
    state = network.state
    fresh = state.with_fresh_moments(network.optimizer) if state is not None else None
    at = cluster.state.ledger_head.version(network.key)
    return replace(network, state=fresh, version=at)


def load_former(
    files: CheckpointFiles, stored: StoredVersion, line: KeptVersion
) -> CommittedVersion:
    """A version with its weights, held against the line of it that the ledger names. Blocking.

    Raises:
        StoreCorrupt: It is not what was committed any more.
    """
    version = load_version(stored, files)
    if version.version != line.version or model_digest(version.digests) != line.digest:
        raise StoreCorrupt(
            f"what is stored as version {line.version} is another model",
            hint="choose another version, or restore the state directory from a copy",
        )
    return version


def _kept(cluster: LiveCluster, present: CommittedVersion, version: int) -> KeptVersion:
    line = next((one for one in present.kept if one.version == version), None)
    if line is None:
        kept = ", ".join(str(one.version) for one in present.kept[-LISTED:]) or "none"
        raise InvalidArguments(
            f"version {version} of cluster {cluster.cluster_id} is not kept; kept are {kept}",
            hint='see neural_cluster_status with detail "versions"',
        )
    return line


def _refuse_training(cluster: LiveCluster) -> None:
    if cluster.is_training:
        raise TrainingRunning(
            f"cluster {cluster.cluster_id} trains, and its next round would replace the version",
            hint="wait with neural_cluster_status (wait_seconds, until: done), or stop it with"
            " neural_cluster_terminate (training_id)",
        )
