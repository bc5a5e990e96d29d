"""The gate of continuous learning: two models on the newest outcomes, of which the better one answers."""

from collections.abc import Mapping
from dataclasses import replace

from pydantic import JsonValue

from flow_nexus_neural.coordination.admission import Admission, compare_losses
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.reports import DatasetInfo
from flow_nexus_neural.engine.state.network_groups import NetworkGroup
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.cluster_rows import history_row, training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.storage.rows import HistoryRow
from flow_nexus_neural.engine.versions.commit import (
    bundle_entry,
    install,
    plain_bundle,
    recent_files,
    store_blobs,
    version_entry,
)
from flow_nexus_neural.engine.versions.final import (
    changed_networks,
    measured,
    result_of,
    store_roles,
    with_weights_of,
)
from flow_nexus_neural.engine.versions.judge import Judge
from flow_nexus_neural.engine.versions.lineage import made_private

RULE = "feedback"
"""Of the ledger entry of a version that learnt from outcomes."""


async def compared(
    cluster: LiveCluster, judge: Judge, networks: Mapping[str, NetworkGroup]
) -> Admission:
    """Hold a new model against the one in force, on the held-out outcomes, as both would be served.

    Raises:
        RoundFailed: Outputs are not finite.
        NoWorkers: Nobody is left to compute them.
    """
    former = _in_force(cluster)
    new = with_weights_of(former.shared_networks, networks)
    plain = plain_bundle(new, 0, judge.rule, robust=former.bundle.robust)
    before = await judge.test_losses(former.networks, former.bundle)
    after = await judge.test_losses(new, plain)
    return compare_losses(before, after)


async def admit(
    cluster: LiveCluster,
    training: Training,
    judge: Judge,
    networks: Mapping[str, NetworkGroup],
    learnt: tuple[DatasetInfo, int],
) -> None:
    """Put a new model in force that was found better.

    Args:
        cluster: Gets the version.
        training: Gets the result.
        judge: Measures it on the held-out outcomes.
        networks: The new model's.
        learnt: From what, and in how many rounds.

    Raises:
        RoundFailed, NoWorkers: It cannot be measured; the former version stays.
        ConsensusUnavailable, StoreUnavailable: It could not be committed; the former version stays.
    """
    last, (dataset, served_round) = _in_force(cluster), learnt
    renewed, version = with_weights_of(last.shared_networks, networks), last.version + 1
    changed = changed_networks(last, renewed)
    stored, blobs = await store_blobs(cluster, last.schema, renewed, changed, judge.rule)
    plain = plain_bundle(stored, version, judge.rule, robust=last.bundle.robust)
    bundle, found = await judge.finish(stored, plain)
    bundle, of_roles = await store_roles(cluster, last.schema, bundle)
    made = replace(
        last,
        version=version,
        dataset=dataset,
        networks=stored,
        bundle=bundle,
        evaluated={},
        recent=recent_files(last, stored, cluster.context.settings.checkpoint_keep),
        best={key: network.blob for key, network in stored.items() if network.blob is not None},
        privacy=await made_private(cluster, training),
    )
    made = measured(made, found)
    told: dict[str, JsonValue] = {
        "round": served_round,
        "training_id": training.training_id,
    }
    entries: list[dict[str, JsonValue]] = [
        {**version_entry(cluster, stored[key], version, RULE), **told} for key in sorted(changed)
    ]
    training.note_result(result_of(made, served_round))
    if made.bundle.roles.networks:
        entries.append(bundle_entry(made))
    points = history_rows(cluster, training)
    rows: list[LateRow] = [training_row(cluster.cluster_id, training), *points]
    await install(cluster, made, entries, rows, [*blobs, *of_roles])
    cluster.changed()


def history_rows(cluster: LiveCluster, training: Training) -> list[HistoryRow]:
    """The rounds of a training that committed none of them."""
    return [
        history_row(cluster.cluster_id, training.training_id, point) for point in training.history
    ]


def _in_force(cluster: LiveCluster) -> CommittedVersion:
    if cluster.committed is None:
        raise ValueError("a model learns from outcomes of its predictions")
    return cluster.committed
