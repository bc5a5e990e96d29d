"""Committing a version: evaluate it, make it durable, then serve it.

Order: 1. write the checkpoint files; 2. in one transaction, the ledger entries and all rows that name the
files; 3. load the weights into the nodes; 4. switch predictions to the new bundle. So a crash cannot undo a
version that has been served or reported, and a failure before the transaction changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import anyio
from pydantic import JsonValue

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.raft.gate import agree, settle
from flow_nexus_neural.engine.reports import DatasetInfo, HistoryPoint
from flow_nexus_neural.engine.state.advance import Advance
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion
from flow_nexus_neural.engine.storage.cluster_rows import cluster_row, history_row, training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.storage.rows import ClusterRow
from flow_nexus_neural.engine.storage.version_rows import SERVER_METHOD
from flow_nexus_neural.engine.versions.candidate import Candidate
from flow_nexus_neural.engine.versions.judge import Judge, Verdict
from flow_nexus_neural.engine.versions.kept import finish_install, kept_rows, with_line
from flow_nexus_neural.engine.versions.lineage import made_private
from flow_nexus_neural.engine.versions.loading import catch_up, load_everywhere
from flow_nexus_neural.engine.versions.needless_files import needless_files
from flow_nexus_neural.kernels.decision import DecisionRule

Blobs = list[tuple[str, int, str]]


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
        candidate: The result of the round.
        judge: Measures it on rows on which no node trained.
        data: Schema and description of the training data.

    Returns:
        All networks of the candidate as committed.

    Raises:
        RoundFailed: The candidate's outputs are not finite; the former version stays.
        ConsensusUnavailable: No majority of voters has it; the former version stays.
        StoreUnavailable: It could not be made durable; the former version stays.
    """
    version = cluster.committed.version + 1 if cluster.committed else 1
    bundle = plain_bundle(candidate.networks, version, judge.rule, robust=is_robust(cluster))
    verdict = await judge.round(candidate.networks, bundle)
    networks, blobs = await store_blobs(
        cluster, data[0], candidate.networks, candidate.renewed, judge.rule
    )
    point = _point(cluster, candidate, verdict)
    advance = candidate.advanced(training.advance, point, networks)
    former = cluster.committed
    committed = CommittedVersion(
        version=version,
        schema=data[0],
        dataset=data[1],
        networks=networks,
        bundle=bundle,
        evaluation=verdict.evaluation,
        accuracy=verdict.test.accuracy,
        loss=verdict.test.loss,
        recent=recent_files(former, networks, cluster.context.settings.checkpoint_keep),
        best=_best(former, networks, is_best=advance.best_round in (None, candidate.number)),
        privacy=await made_private(cluster, training, advance),
    )
    entries = [
        _round_entry(cluster, training, candidate, networks[key], version)
        for key in sorted(candidate.renewed)
    ]
    rows: list[LateRow] = [
        training_row(cluster.cluster_id, training, advance),
        history_row(cluster.cluster_id, training.training_id, point),
    ]
    await agree(cluster, version, networks, entries)
    # Shielded: a stopped training must not leave rows in the database and the old version in memory.
    with anyio.CancelScope(shield=True):
        blobs += candidate.files
        await put_in_force(cluster, committed, entries, rows, blobs, advance=advance)
        training.commit_round(advance, point, cluster.clock() - candidate.began_s)
        cluster.changed()
    return dict(networks)


def _point(cluster: LiveCluster, candidate: Candidate, verdict: Verdict) -> HistoryPoint:
    return HistoryPoint(
        round=candidate.number,
        train_loss=candidate.train_loss,
        val_loss=verdict.validation.loss,
        accuracy=verdict.validation.accuracy,
        bytes=cluster.metrics.communication_bytes - candidate.bytes_before,
        seconds=cluster.clock() - candidate.began_s,
    )


async def install(
    cluster: LiveCluster,
    committed: CommittedVersion,
    entries: Sequence[Mapping[str, JsonValue]],
    rows: Sequence[LateRow],
    blobs: Blobs,
) -> None:
    """Let voters agree on a version where the mode has any, then put it in force.

    Raises:
        ConsensusUnavailable: No majority of voters has it; then nothing has changed.
        StoreUnavailable: If it could not be stored; then nothing has changed.
    """
    await agree(cluster, committed.version, committed.networks, entries)
    await put_in_force(cluster, committed, entries, rows, blobs)


async def put_in_force(
    cluster: LiveCluster,
    committed: CommittedVersion,
    entries: Sequence[Mapping[str, JsonValue]],
    rows: Sequence[LateRow],
    blobs: Blobs,
    *,
    advance: Advance | None = None,
) -> None:
    """Make a version durable, load it into the serving nodes, and switch predictions to it.

    Not interrupted by cancellation. Slots that join while it runs serve this version too. With `advance` the
    version is the result of a round of the running training.

    Raises:
        StoreUnavailable: If it could not be stored; then nothing has changed.
    """
    state = cluster.state
    committed = with_line(cluster, committed, entries)

    def row() -> ClusterRow:
        """Built at the time of writing: slots may join or leave until then."""
        return cluster_row(state, state.with_current_members(committed))

    with anyio.CancelScope(shield=True):
        dropped = needless_files(cluster, committed, advance)
        # Durable first: a version that has answered a prediction must survive a crash.
        more = kept_rows(cluster, committed)
        await cluster.ledger.record(entries, [row, *rows], blobs=blobs, dropped=dropped, more=more)
        installing = state.begin_install(committed)
        # Then the nodes, into the serving copy that is not in use: predictions go on with the former version.
        try:
            roles = installing.bundle.roles.networks
            networks = [*installing.networks.values(), *roles.values()]
            asked = await load_everywhere(cluster, networks, installing.bundle.parity)
        finally:
            # Also after a failure: the version is durable, so it is the current one whichever nodes hold it.
            await finish_install(cluster)
            settle(cluster)
        # After the switch: slots that joined or came back during the loading were not asked above.
        await catch_up(cluster, asked)
        await cluster.context.delete_files(dropped)  # last, when no row names these files any more


async def commit_bundle(
    cluster: LiveCluster, finished: CommittedVersion, blobs: Blobs | None = None
) -> None:
    """Commit a version that differs from the present one only in how answers are combined and judged.

    The workers hold its weights already; nodes of other roles get theirs, which no version in force uses.

    Args:
        cluster: Has the present version.
        finished: The version with its complete bundle.
        blobs: Files of the bundle's own networks.

    Raises:
        ConsensusUnavailable: No majority of voters has it; the former bundle stays.
        StoreUnavailable: If it could not be made durable; the former bundle stays.
    """
    state = cluster.state
    fields = bundle_entry(finished)
    await agree(cluster, finished.version, finished.networks, [fields])
    version, roles = with_line(cluster, finished, []), finished.bundle.roles.networks
    with anyio.CancelScope(shield=True):
        await cluster.ledger.record(
            [fields],
            [lambda: cluster_row(state, state.with_current_members(version))],
            blobs=blobs or [],
            more=kept_rows(cluster, version),
        )
        asked = await load_everywhere(cluster, list(roles.values()), finished.bundle.parity)
        state.commit(version)
        await catch_up(cluster, asked)
    settle(cluster)
    cluster.changed()


def bundle_entry(finished: CommittedVersion) -> dict[str, JsonValue]:
    """What the ledger says of a complete bundle: what answers are combined and judged with."""
    roles = finished.bundle.roles.networks
    return {
        "kind": "bundle",
        "model_version": finished.version,
        "bundle_sha": finished.sha,
        "digests": dict(finished.bundle.digests),
        **({"roles": {slot: one.digest for slot, one in roles.items()}} if roles else {}),
    }


async def store_blobs(
    cluster: LiveCluster,
    schema: DataSchema,
    networks: Mapping[str, NetworkGroup],
    renewed: frozenset[str],
    rule: DecisionRule,
) -> tuple[dict[str, NetworkGroup], Blobs]:
    """Write vectors of renewed networks; return all networks, the renewed ones one version later.

    The header of a file has the plan of the network, the scaling of rows and, where there are any, the class
    weights of the training, so that a prediction before calibration can be reproduced from the file alone.

    Raises:
        StoreUnavailable: If the files cannot be written.
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
            **({"class_weight": list(rule.class_weight)} if rule.class_weight else {}),
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
        server_blob, server = None, network.state.server
        if server is not None and server.vectors:
            server_blob, nbytes = await cluster.context.offload(
                write, server.vectors, {**metadata, SERVER_METHOD: server.method}
            )
            blobs.append((server_blob, nbytes, "server"))
        stored[key] = replace(
            network,
            blob=blob,
            moments_blob=moments_blob,
            server_blob=server_blob,
            version=network.version + 1,
        )
    return stored, blobs


def is_robust(cluster: LiveCluster) -> bool:
    """Whether the answers of this cluster's nodes are combined as those of nodes that may lie."""
    return cluster.spec.consensus == "byzantine"


def plain_bundle(
    networks: Mapping[str, NetworkGroup], version: int, rule: DecisionRule, *, robust: bool
) -> Bundle:
    """A bundle with equal weights and without calibration.

    Args:
        networks: With their slots.
        version: Of the cluster.
        rule: How classes are decided.
        robust: Whether slots may lie.
    """
    slots = [slot for network in networks.values() for slot in network.slots]
    return Bundle(
        version=version,
        digests={key: network.digest or "" for key, network in networks.items()},
        parity=version % 2,  # the serving copy that the version before does not use
        slot_weights={slot: 1.0 / len(slots) for slot in slots},
        weights_source="equal",
        calibrators={},
        residual_median=None,
        error_correlation=None,
        rule=rule,
        robust=robust,
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
            # Of a private one it would tell whoever guesses the rows whether the guess is right.
            "update_digest": None if training.config.hides_updates else update.digest,
        }
        for update in candidate.updates
        if update.slot in network.slots
    ]
    excluded = {s: why for s, why in candidate.excluded.items() if s in network.slots}
    evidence = candidate.evidence.get(network.key)
    proofs = [one for one in candidate.proofs if one.concerns(network.slots)]
    return {
        **version_entry(cluster, network, version, candidate.rule, contributors, excluded),
        "round": candidate.number,
        "training_id": training.training_id,
        **({"evidence": dict(evidence)} if evidence else {}),
        **({"proofs": [one.to_json(network.slots) for one in proofs]} if proofs else {}),
        "train_loss": candidate.train_loss,
    }


def version_entry(
    cluster: LiveCluster,
    network: NetworkGroup,
    model_version: int,
    rule: str,
    contributors: Sequence[JsonValue] = (),
    excluded: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, JsonValue]:
    """What the ledger says of any new version of a network group.

    Args:
        cluster: Its cluster.
        network: With the number, digest and file of the new version.
        model_version: The cluster's version that it is part of.
        rule: How its weights came about.
        contributors: On what updates they rest.
        excluded: Why other slots have no part in them.
    """
    return {
        "kind": "version",
        "cohort": network.key,
        "version": network.version,
        "parent": network.version - 1,
        "model_version": model_version,
        "rule": rule,
        "contributors": [*contributors],
        "excluded": [{"slot": slot, "reason": why} for slot, why in excluded.items()],
        "weights_digest": network.digest,
        "blob": network.blob,
        "topology_epoch": cluster.state.topology_epoch,
    }
