"""Committing a version: evaluate it, make it durable, then let it answer.

Order: checkpoint files durable, then the ledger entries with every row that rests on them in one
transaction, then the nodes' serving copies, then the bundle. Nobody is told of a version that a crash could
take back, and a failure before the transaction leaves everything as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import anyio
from pydantic import JsonValue

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DatasetInfo, HistoryPoint
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.update import Update
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion, model_digest
from flow_nexus_neural.engine.storage.cluster_rows import cluster_row, history_row, training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.engine.versions.candidate import Judge, Verdict
from flow_nexus_neural.engine.versions.loading import catch_up, load_everywhere

Blobs = list[tuple[str, int, str]]


@dataclass(frozen=True)
class Candidate:
    """What a round made, before anybody believes it.

    Attributes:
        networks: All networks of the training, with the new weights where there are any.
        renewed: Keys of those that have new weights.
        excluded: Slots left out, with reasons.
        rule: Name of the aggregation policy.
        evidence: Numbers behind the aggregation, by network group.
        began_s: When the round began.
        bytes_before: Communication counted before it.
    """

    number: int
    networks: Mapping[str, NetworkGroup]
    renewed: frozenset[str]
    updates: Sequence[Update]
    excluded: Mapping[str, str]
    rule: str
    evidence: Mapping[str, Mapping[str, JsonValue]]
    train_loss: float | None
    began_s: float
    bytes_before: int


async def commit_round(
    cluster: LiveCluster,
    training: Training,
    candidate: Candidate,
    judge: Judge,
    data: tuple[DataSchema, DatasetInfo],
) -> dict[str, NetworkGroup]:
    """Commit a round's candidate as the cluster's next version.

    Args:
        cluster: Gets the version.
        training: Gets the round.
        candidate: What the round made.
        judge: Measures it on rows that no node trained on.
        data: Schema and description of what it was trained on.

    Returns:
        All networks of the candidate as committed.

    Raises:
        RoundFailed: The candidate's outputs are not finite; the former version stays.
        StoreUnavailable: It could not be made durable; the former version stays.
    """
    verdict = await judge.round(candidate.networks)
    networks, blobs = await store_blobs(cluster, data[0], candidate.networks, candidate.renewed)
    point = HistoryPoint(
        round=candidate.number,
        train_loss=candidate.train_loss,
        val_loss=verdict.validation.loss,
        accuracy=verdict.validation.accuracy,
        bytes=cluster.metrics.communication_bytes - candidate.bytes_before,
        seconds=cluster.clock() - candidate.began_s,
    )
    digest = model_digest({key: network.digest or "" for key, network in networks.items()})
    advance = training.advance.after(point, sum(u.steps for u in candidate.updates), digest)
    keep, is_best = (
        cluster.context.settings.checkpoint_keep,
        advance.best_round in (None, candidate.number),
    )
    committed = _successor(cluster.committed, networks, verdict, data, keep=keep, is_best=is_best)
    entries = [
        _round_entry(cluster, training, candidate, networks[key], committed.version)
        for key in sorted(candidate.renewed)
    ]
    rows: list[LateRow] = [
        training_row(cluster.cluster_id, training, advance),
        history_row(cluster.cluster_id, training.training_id, point),
    ]
    # A round that has begun to be durable is carried through, also when the training is being stopped.
    with anyio.CancelScope(shield=True):
        await install(cluster, committed, entries, rows, blobs)
        training.commit_round(advance, point, cluster.clock() - candidate.began_s)
        cluster.changed()
    return dict(networks)


def _successor(
    former: CommittedVersion | None,
    networks: Mapping[str, NetworkGroup],
    verdict: Verdict,
    data: tuple[DataSchema, DatasetInfo],
    *,
    keep: int,
    is_best: bool,
) -> CommittedVersion:
    """The version after `former`, with what was measured of it."""
    version = former.version + 1 if former else 1
    return CommittedVersion(
        version=version,
        schema=data[0],
        dataset=data[1],
        networks=networks,
        bundle=plain_bundle(networks, version),
        evaluation=verdict.evaluation,
        accuracy=verdict.test.accuracy,
        loss=verdict.test.loss,
        recent=recent_files(former, networks, keep),
        best=_best(former, networks, is_best=is_best),
    )


async def install(
    cluster: LiveCluster,
    committed: CommittedVersion,
    entries: Sequence[Mapping[str, JsonValue]],
    rows: Sequence[LateRow],
    blobs: Blobs,
) -> None:
    """Make a version durable, load it into the serving nodes, and put it in force.

    Once begun it is carried through. Slots that came to serve the former version serve this one too.

    Raises:
        StoreUnavailable: Nothing was stored and nothing changed.
    """
    state = cluster.state

    def row() -> ClusterRow:
        """Made when its turn to be written has come: slots may join or go until then."""
        return cluster_row(state, state.with_current_members(committed))

    with anyio.CancelScope(shield=True):
        former = cluster.committed
        dropped = sorted(former.blobs - committed.blobs) if former else []
        # Durable before any node holds it: a version that answered once must survive a crash.
        await cluster.ledger.record(entries, [row, *rows], blobs=blobs, dropped=dropped)
        installing = state.begin_install(committed)
        try:
            networks = list(installing.networks.values())
            await load_everywhere(cluster, networks, installing.bundle.parity)
        finally:
            state.finish_install()
        await catch_up(cluster, installing.members.keys())
        await cluster.context.delete_files(dropped)  # last: no row names them any more


async def commit_bundle(cluster: LiveCluster, finished: CommittedVersion) -> None:
    """Put a version in force that differs from the present one only in what combines its answers.

    The nodes hold its weights already.

    Raises:
        StoreUnavailable: It could not be made durable; the former bundle stays.
    """
    state = cluster.state
    fields: dict[str, JsonValue] = {
        "kind": "bundle",
        "model_version": finished.version,
        "bundle_sha": finished.sha,
        "digests": dict(finished.bundle.digests),
    }
    with anyio.CancelScope(shield=True):
        await cluster.ledger.record(
            [fields], [lambda: cluster_row(state, state.with_current_members(finished))]
        )
        state.commit(finished)
    cluster.changed()


async def store_blobs(
    cluster: LiveCluster,
    schema: DataSchema,
    networks: Mapping[str, NetworkGroup],
    renewed: frozenset[str],
) -> tuple[dict[str, NetworkGroup], Blobs]:
    """Write weights and moments of renewed networks; all networks come back, those one version later.

    A file says in its header what its tensors compute and how rows are scaled, so that anybody can compute a
    prediction again from the file alone.

    Raises:
        StoreUnavailable: The disk refuses.
    """
    stored = dict(networks)
    blobs: Blobs = []
    for key in sorted(renewed):
        network = networks[key]
        if network.state is None:
            continue
        metadata: dict[str, JsonValue] = {
            "cluster_id": cluster.cluster_id,
            "cohort": key,
            "version": str(network.version + 1),
            "weights_digest": network.digest or "",
        }
        recipe: dict[str, JsonValue] = {
            "plan": network.plan.model_dump(mode="json"),
            "schema": schema.to_json(),
        }
        write = cluster.context.checkpoints.write
        blob, nbytes = await cluster.context.offload(
            write, network.tensors(network.state), {**metadata, **recipe}
        )
        blobs.append((blob, nbytes, "weights"))
        moments_blob = None
        if network.state.moments:
            moments_blob, nbytes = await cluster.context.offload(
                write, network.state.moments, metadata
            )
            blobs.append((moments_blob, nbytes, "moments"))
        stored[key] = replace(
            network, blob=blob, moments_blob=moments_blob, version=network.version + 1
        )
    return stored, blobs


def plain_bundle(networks: Mapping[str, NetworkGroup], version: int) -> Bundle:
    """A bundle before calibration: equal weights, nothing corrected."""
    slots = [slot for network in networks.values() for slot in network.slots]
    return Bundle(
        version=version,
        digests={key: network.digest or "" for key, network in networks.items()},
        parity=version % 2,
        slot_weights={slot: 1.0 / len(slots) for slot in slots},
        weights_source="equal",
        calibrators={},
        residual_quantiles={},
        residual_median=None,
        error_correlation=None,
    )


def recent_files(
    former: CommittedVersion | None, networks: Mapping[str, NetworkGroup], keep: int
) -> dict[str, tuple[str, ...]]:
    """Checkpoint files of the last `keep` versions of each network, newest last."""
    recent = {}
    for key, network in networks.items():
        before = former.recent.get(key, ()) if former else ()
        files = [name for name in (*before, network.blob) if name is not None]
        recent[key] = tuple(dict.fromkeys(files))[-keep:]
    return recent


def _best(
    former: CommittedVersion | None, networks: Mapping[str, NetworkGroup], *, is_best: bool
) -> dict[str, str]:
    """Checkpoint file of the best round, by cohort.

    Without validation rows the best round is not known: then it is the last round's.
    """
    if is_best or former is None:
        return {key: network.blob for key, network in networks.items() if network.blob is not None}
    return {key: name for key, name in former.best.items() if key in networks}


def _round_entry(
    cluster: LiveCluster,
    training: Training,
    candidate: Candidate,
    network: NetworkGroup,
    version: int,
) -> dict[str, JsonValue]:
    contributors: list[JsonValue] = [
        {
            "slot": update.slot,
            "incarnation": cluster.slots[update.slot].incarnation,
            "rows": update.rows,
            "update_digest": update.digest,
        }
        for update in candidate.updates
        if update.slot in network.slots
    ]
    return {
        "kind": "version",
        "cohort": network.key,
        "version": network.version,
        "parent": network.version - 1,
        "model_version": version,
        "round": candidate.number,
        "training_id": training.training_id,
        "rule": candidate.rule,
        "contributors": contributors,
        "excluded": [{"slot": slot, "reason": why} for slot, why in candidate.excluded.items()],
        "weights_digest": network.digest,
        "blob": network.blob,
        "topology_epoch": cluster.state.topology_epoch,
        "train_loss": candidate.train_loss,
    }
