"""The final version of a training: the best round, with ensemble weights, calibration and metrics."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from pydantic import JsonValue

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DatasetShort
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Result, Training
from flow_nexus_neural.engine.state.version import Bundle, CommittedVersion, model_digest
from flow_nexus_neural.engine.storage.cluster_rows import training_row
from flow_nexus_neural.engine.storage.version_rows import load_network, stored_network
from flow_nexus_neural.engine.versions.commit import (
    Blobs,
    bundle_entry,
    commit_bundle,
    install,
    plain_bundle,
    recent_files,
    store_blobs,
    version_entry,
)
from flow_nexus_neural.engine.versions.judge import Judge, Verdict
from flow_nexus_neural.engine.versions.personal import RULE as PERSONAL_RULE
from flow_nexus_neural.engine.versions.personal import with_personal
from flow_nexus_neural.errors import NeuralError
from flow_nexus_neural.kernels.decision import DecisionRule

REFIT = "refit"
"""Of the ledger entry of a version that was trained on every row."""
RULE = "best_round"
"""Of the ledger entry of a version that has the weights of an earlier round."""


async def commit_final(
    cluster: LiveCluster,
    training: Training,
    judge: Judge,
    best: Mapping[str, NetworkGroup] | None,
    personal: Mapping[str, NetworkGroup] = MappingProxyType({}),
) -> None:
    """Complete the version in force, or replace it by one with the best round's weights, or with own ones.

    Args:
        cluster: Has the version of the last round.
        training: All of its rounds are committed. Gets the result.
        judge: Measures the final model.
        best: Network groups as they were after the best round; None where that is the last one, or where no
            validation rows say which is the best.
        personal: Groups of slots that are to answer with weights of their own.

    Raises:
        RoundFailed: Outputs are not finite; the version of the last round stays.
        NoWorkers: Nobody is left to compute them.
        StoreUnavailable: It could not be made durable; the version of the last round stays.
    """
    last = cluster.committed
    if last is None:
        return
    served_round = training.advance.rounds_done
    if best is not None:
        served_round = training.advance.best_round or served_round
    wanted = with_personal(with_weights_of(last.networks, best or {}), personal)
    changed = changed_networks(last, wanted)
    if not changed:
        # Also where a former server had completed it: what is fitted is fitted to the plain answers.
        plain = plain_bundle(last.networks, last.version, judge.rule, robust=last.bundle.robust)
        bundle, found = await judge.finish(last.networks, plain)
        bundle, blobs = await store_roles(cluster, last.schema, bundle)
        final = measured(replace(last, bundle=bundle), found)
        await commit_bundle(cluster, cluster.state.with_current_members(final), blobs)
    else:
        final = await _replaced(cluster, training, judge, (wanted, changed))
    training.note_result(result_of(final, served_round))
    cluster.changed()


async def commit_best(
    cluster: LiveCluster, training: Training, judge: Judge, best: Mapping[str, NetworkGroup]
) -> None:
    """Put the best round's weights in force while the training goes on. Raises as `commit_final`.

    Other roles learn at its end: a lesson in between would hold it up, for networks that it throws away.
    """
    last = cluster.committed
    if last is None:
        return
    wanted = with_weights_of(last.networks, best)
    changed = changed_networks(last, wanted)
    if changed:
        await _replaced(cluster, training, replace(judge, roles=None), (wanted, changed))
        cluster.changed()


async def commit_refit(
    cluster: LiveCluster,
    training: Training,
    judge: Judge,
    networks: Mapping[str, NetworkGroup],
) -> None:
    """Let weights that were trained on every row answer, and keep what was measured of the version before.

    Ensemble weights, calibration and metrics stay those of the evaluated version: no row is left to fit or to
    measure them on. The evaluated weights stay stored: a later training starts from them, or the rows that
    it is tested on would be rows that it has seen.

    Args:
        cluster: Has the evaluated version. Gets the new one.
        training: Has a result. Gets the new version in its refit.
        judge: Computes outputs of the new weights.
        networks: Network groups after the last round on every row.

    Raises:
        RoundFailed: Outputs are not finite; the evaluated version stays.
        NoWorkers: Nobody is left to compute them.
        StoreUnavailable: It could not be made durable; the evaluated version stays.
    """
    last, former = cluster.committed, training.result
    if last is None or former is None:
        return
    renewed = with_weights_of(last.networks, networks)
    await judge.require_finite(renewed)
    changed = changed_networks(last, renewed)
    version, rule = last.version + 1, last.bundle.rule
    stored, blobs = await store_blobs(cluster, last.schema, renewed, changed, rule)
    plain = plain_bundle(stored, version, rule, robust=last.bundle.robust)
    refitted = replace(
        last,
        version=version,
        networks=stored,
        bundle=replace(last.bundle, version=version, digests=plain.digests, parity=plain.parity),
        recent=recent_files(last, stored, cluster.context.settings.checkpoint_keep),
        evaluated={key: network.without_state() for key, network in last.networks.items()},
    )
    training.note_refit(state="done", model_version=version)
    training.note_result(
        replace(former, model_version=version, digest=model_digest(refitted.digests))
    )
    try:
        await _install(cluster, training, refitted, blobs, (changed, REFIT))
    except NeuralError:
        training.note_result(former)
        raise
    cluster.changed()


async def evaluated_networks(cluster: LiveCluster) -> Mapping[str, NetworkGroup]:
    """Network groups of the committed version as they were evaluated: what a later training starts from.

    A refit has seen every row, those too that a later training is tested on. What slots made on their own is
    left out: the weights that they share are what goes on.

    Raises:
        StoreCorrupt: The evaluated weights cannot be read any more.
    """
    committed = cluster.committed
    if committed is None:
        return {}
    found = dict(committed.networks)
    for key, network in committed.evaluated.items():
        if key in found and not network.is_personal:
            context = cluster.context
            read = await context.offload(load_network, stored_network(network), context.checkpoints)
            # Numbers of versions go on from the newest, whatever its weights were.
            found[key] = replace(read, slots=found[key].slots, version=found[key].version)
    return {key: network for key, network in found.items() if not network.is_personal}


def with_weights_of(
    networks: Mapping[str, NetworkGroup], others: Mapping[str, NetworkGroup]
) -> dict[str, NetworkGroup]:
    """Network groups, those that `others` have with the weights that they have there."""
    return {
        key: replace(network, state=others[key].state, digest=others[key].digest)
        if key in others
        else network
        for key, network in networks.items()
    }


def changed_networks(last: CommittedVersion, wanted: Mapping[str, NetworkGroup]) -> frozenset[str]:
    """Keys of the network groups whose weights are to be others than they are now.

    None where steps changed nothing any more: then there is nothing that a version's entry could say.
    """
    former = last.digests
    return frozenset(key for key, n in wanted.items() if former.get(key) != n.digest)


async def _replaced(
    cluster: LiveCluster,
    training: Training,
    judge: Judge,
    made: tuple[Mapping[str, NetworkGroup], frozenset[str]],
) -> CommittedVersion:
    """Commit the weights that are to answer as a new version; the ledger never goes back."""
    last, (wanted, changed) = cluster.committed, made
    if last is None:
        raise ValueError("there is no version to replace")
    stored, blobs = await store_blobs(cluster, last.schema, wanted, changed, judge.rule)
    plain = plain_bundle(stored, last.version + 1, judge.rule, robust=last.bundle.robust)
    bundle, found = await judge.finish(stored, plain)
    bundle, of_roles = await store_roles(cluster, last.schema, bundle)
    blobs = [*blobs, *of_roles]
    restored = measured(
        replace(
            last,
            version=last.version + 1,
            networks=stored,
            bundle=bundle,
            recent=recent_files(last, stored, cluster.context.settings.checkpoint_keep),
            best={key: n.blob for key, n in stored.items() if n.blob is not None},
        ),
        found,
    )
    await _install(cluster, training, restored, blobs, (changed, RULE))
    return restored


async def store_roles(
    cluster: LiveCluster, schema: DataSchema, bundle: Bundle
) -> tuple[Bundle, Blobs]:
    """Write the networks of a bundle's roles; return the bundle that names their files, and the files.

    Raises:
        StoreUnavailable: If they cannot be written.
    """
    networks = bundle.roles.networks
    stored, blobs = await store_blobs(
        cluster, schema, networks, frozenset(networks), DecisionRule()
    )
    return replace(bundle, roles=replace(bundle.roles, networks=stored)), blobs


async def _install(
    cluster: LiveCluster,
    training: Training,
    restored: CommittedVersion,
    blobs: Blobs,
    how: tuple[frozenset[str], str],
) -> None:
    changed, rule = how
    entries: list[dict[str, JsonValue]] = [
        {
            **_entry(cluster, restored, key, rule),
            "round": training.advance.best_round,
            "training_id": training.training_id,
        }
        for key in sorted(changed)
    ]
    if restored.bundle.roles.networks:
        entries.append(bundle_entry(restored))
    await install(cluster, restored, entries, [training_row(cluster.cluster_id, training)], blobs)


def _entry(
    cluster: LiveCluster, version: CommittedVersion, key: str, rule: str
) -> dict[str, JsonValue]:
    """What the ledger says of a network group; of a personal one also whose work it is, and of what."""
    network = version.networks[key]
    if not network.is_personal:
        return version_entry(cluster, network, version.version, rule)
    shared = version.networks[network.shared_key]
    contributors: list[JsonValue] = [
        {
            "slot": slot,
            "incarnation": cluster.slots[slot].incarnation,
            "rows": network.rows.get(slot),
        }
        for slot in network.slots
    ]
    of = version_entry(cluster, network, version.version, PERSONAL_RULE, contributors)
    return {**of, "shared_digest": shared.digest}


def measured(version: CommittedVersion, found: Verdict) -> CommittedVersion:
    """A version with what was found of it."""
    return replace(
        version,
        evaluation=found.evaluation,
        accuracy=found.test.accuracy,
        loss=found.test.loss,
    )


def result_of(final: CommittedVersion, served_round: int) -> Result:
    """What a training left in force."""
    return Result(
        model_version=final.version,
        served_round=served_round,
        digest=model_digest(final.digests),
        accuracy=final.accuracy,
        loss=final.loss,
        evaluation=final.evaluation,
        dataset=DatasetShort.of(final.dataset),
    )
