"""Which versions can be put in force again: the last ones and the best, each with a line of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import JsonValue

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.version import CommittedVersion, KeptVersion, model_digest
from flow_nexus_neural.engine.storage.kept_rows import write_kept
from flow_nexus_neural.engine.storage.schema import Write
from flow_nexus_neural.errors import NeuralError

ROLLBACK = "rollback"
"""Of the ledger entries of a version that takes over the weights of an earlier one."""
EXACT_AGGREGATION = "exact_aggregation"
"""Of those of a version that is the mean of the weights that the nodes hold."""


def with_line(
    cluster: LiveCluster, version: CommittedVersion, entries: Sequence[Mapping[str, JsonValue]]
) -> CommittedVersion:
    """A version about to be committed, with its own line and those of the versions that stay beside it.

    Args:
        cluster: Its cluster.
        version: About to be committed.
        entries: What the ledger is about to say of it; none where only its bundle is replaced.
    """
    former = cluster.committed.kept if cluster.committed else ()
    own = next((one for one in former if one.version == version.version), None)
    line = _line(cluster, version, entries) if own is None else own
    line = replace(
        line,
        digest=model_digest(version.digests),
        accuracy=version.accuracy,
        loss=version.loss,
        blobs=version.weight_files,
        **_privacy(version),
    )
    others = [one for one in former if one.version != version.version]
    keep = cluster.context.settings.checkpoint_keep
    last = others[-(keep - 1) :] if keep > 1 else []
    best = [one for one in others if one not in last and is_best(version, one)]
    return replace(version, kept=(*best[-1:], *last, line), measured=None)


def is_best(committed: CommittedVersion, line: KeptVersion) -> bool:
    """Whether a line is of the best round of the latest training, or has taken its weights over."""
    files = set(committed.best.values())
    best = {one.digest for one in (line, *committed.kept) if files and one.blobs >= files}
    return line.digest in best


def kept_rows(cluster: LiveCluster, version: CommittedVersion) -> list[Write]:
    """What the journal is to hold of a version with its lines."""
    kept = [one.version for one in version.kept]
    return [write_kept(cluster.cluster_id, version, kept)]


async def finish_install(cluster: LiveCluster) -> None:
    """Put the version being installed in force; what outcomes taught of the same model stays with it."""
    state, version = cluster.state, cluster.state.installing
    line = version.kept[-1] if version is not None and version.kept else None
    if line is None or line.rule not in (ROLLBACK, EXACT_AGGREGATION):
        state.finish_install()
        return
    # Held, as an outcome that is being written would bring back what was learnt under the former number.
    async with cluster.recording:
        former = {one.version: one for one in state.committed.kept} if state.committed else {}
        state.finish_install()
        feedback = state.feedback
        learnt = None if feedback.version is None else former.get(feedback.version)
        slots = state.committed.bundle.slot_weights if state.committed else {}
        if (
            learnt is None
            or learnt.digest != line.digest
            or slots.keys() != feedback.hedge.losses.keys()
        ):
            return
        state.note_feedback(replace(feedback, version=line.version))
        try:
            await cluster.context.store.write_outcomes(cluster.cluster_id, [], state.feedback)
        except NeuralError:
            return  # it is written with the next outcome


def _privacy(version: CommittedVersion) -> dict[str, Any]:
    known = version.privacy
    if known is None:
        return {}
    return {"privacy_mode": known.mode, "epsilon": known.epsilon, "delta": known.delta}


def _line(
    cluster: LiveCluster, version: CommittedVersion, entries: Sequence[Mapping[str, JsonValue]]
) -> KeptVersion:
    told = next((entry for entry in entries if entry.get("kind") == "version"), {})
    rolled = next((entry for entry in entries if entry.get("event") == ROLLBACK), {})
    number, training_id, source = told.get("round"), told.get("training_id"), rolled.get("restored")
    return KeptVersion(
        version=version.version,
        at=cluster.context.timestamp(),
        rule=str(told.get("rule", "")),
        round=number if isinstance(number, int) else None,
        training_id=training_id if isinstance(training_id, str) else None,
        digest="",
        accuracy=None,
        loss=None,
        blobs=frozenset(),
        restored_from=source if isinstance(source, int) else None,
    )
