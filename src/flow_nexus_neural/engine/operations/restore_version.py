"""Putting an earlier version of a cluster's model in force again, and listing those that are kept."""

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import PrivacyShort, Restored, VersionLine
from flow_nexus_neural.engine.requests import InitRequest
from flow_nexus_neural.engine.state.version import KeptVersion, model_digest
from flow_nexus_neural.engine.versions.kept import is_best
from flow_nexus_neural.engine.versions.rollback import roll_back
from flow_nexus_neural.errors import InvalidArguments


def refuse_version_alone(request: InitRequest) -> None:
    """Raises `InvalidArguments` for a version of no cluster."""
    if request.version is not None and request.restore is None:
        raise InvalidArguments(
            "version belongs to restore, which names the cluster",
            hint="pass restore with the id of the cluster too, or leave version out",
        )


async def restore_version(
    cluster: LiveCluster, version: int, terminated_at: str | None = None
) -> Restored:
    """Put a kept version of a live cluster in force again. Raises as `roll_back`."""
    made = await roll_back(cluster, version)
    links = cluster.state.links
    return Restored(
        terminated_at=terminated_at,
        nodes=len(cluster.slots),
        healthy_nodes=len(cluster.slots.healthy()),
        topology=links.topology if links else None,
        model_version=made.version,
        restored_version=version,
    )


def unmeasured_of(cluster: LiveCluster, version: int) -> list[str]:
    """What replies go without now that an earlier version is in force."""
    committed = cluster.committed
    if committed is None:
        return []
    line = next((one for one in committed.kept if one.version == version), None)
    told = ""
    if committed.evaluation is None and line is not None and line.accuracy is not None:
        told = (
            f"fewer or other nodes answer than those of which version {version} was measured: accuracy, loss"
            " and calibration are unknown until the next training"
        )
    elif not committed.bundle.calibrators and not committed.bundle.conformal:
        told = (
            f"version {version} has no calibration, as one of a round within a training or of few rows:"
            " predictions come without intervals, prediction sets and calibrated confidence"
        )
    return [told] if told else []


def serving_digest(cluster: LiveCluster) -> str | None:
    """Digest of the weights that answer; None before the first version."""
    committed = cluster.committed
    return None if committed is None else model_digest(committed.digests)


def version_lines(cluster: LiveCluster) -> list[VersionLine]:
    """The versions that can be put in force again, newest first."""
    committed = cluster.committed
    if committed is None:
        return []
    return [
        VersionLine(
            version=one.version,
            committed_at=one.at,
            training_id=one.training_id,
            round=one.round,
            rule=one.rule,
            restored_from=one.restored_from,
            accuracy=one.accuracy,
            loss=one.loss,
            privacy=_privacy(one),
            digest=one.digest,
            serving=one.version == committed.version,
            best=is_best(committed, one),
        )
        for one in reversed(committed.kept)
    ]


def _privacy(line: KeptVersion) -> PrivacyShort | None:
    if line.privacy_mode is None:
        return None
    return PrivacyShort(mode=line.privacy_mode, epsilon=line.epsilon, delta=line.delta)
