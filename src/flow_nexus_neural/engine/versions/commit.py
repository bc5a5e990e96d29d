"""Committing a version: evaluate it, make it durable, then let it answer.

Order: checkpoint files durable, then the ledger entries with every row that rests on them in one
transaction, then the nodes' serving copies, then the bundle. Nobody is told of a version that a crash could
take back, and a failure before the transaction leaves everything as it was.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import anyio
from pydantic import JsonValue

from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.reports import DatasetInfo, HistoryPoint
from flow_nexus_neural.engine.state.cluster import Cluster
from flow_nexus_neural.engine.state.network_groups import Bundle, Cohort
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.state.version import Committed, model_digest
from flow_nexus_neural.engine.storage.ledger_writer import LateRow, record
from flow_nexus_neural.engine.storage.rows import HistoryRow
from flow_nexus_neural.engine.training.exchange import Update
from flow_nexus_neural.engine.versions.candidate import Judge, Verdict
from flow_nexus_neural.engine.versions.loading import catch_up, load_everywhere

if TYPE_CHECKING:
    from flow_nexus_neural.data.schema import DataSchema

Blobs = list[tuple[str, int, str]]
RULE = "federated_averaging"


@dataclass(frozen=True)
class Candidate:
    """What a round made, before anybody believes it.

    Attributes:
        cohorts: All cohorts of the training, with the new weights where there are any.
        renewed: Keys of those that have new weights.
        excluded: Slots left out, with reasons.
        began_s: When the round began.
        bytes_before: Communication counted before it.
    """

    number: int
    cohorts: Mapping[str, Cohort]
    renewed: frozenset[str]
    updates: Sequence[Update]
    excluded: Mapping[str, str]
    train_loss: float | None
    began_s: float
    bytes_before: int


async def commit_round(
    context: EngineContext,
    cluster: Cluster,
    training: Training,
    candidate: Candidate,
    judge: Judge,
    data: "tuple[DataSchema, DatasetInfo]",
) -> dict[str, Cohort]:
    """Commit a round's candidate as the cluster's next version.

    Args:
        context: The engine's means.
        cluster: Gets the version.
        training: Gets the round.
        candidate: What the round made.
        judge: Measures it on rows that no node trained on.
        data: Schema and description of what it was trained on.

    Returns:
        All cohorts of the candidate as committed.

    Raises:
        RoundFailed: The candidate's outputs are not finite; the former version stays.
        StoreUnavailable: It could not be made durable; the former version stays.
    """
    verdict = await judge.round(candidate.cohorts)
    cohorts, blobs = await store_blobs(
        context, cluster, data[0], candidate.cohorts, candidate.renewed
    )
    point = HistoryPoint(
        round=candidate.number,
        train_loss=candidate.train_loss,
        val_loss=verdict.validation.loss,
        accuracy=verdict.validation.accuracy,
        bytes=cluster.metrics.communication_bytes - candidate.bytes_before,
        seconds=context.clock() - candidate.began_s,
    )
    digest = model_digest({key: cohort.digest or "" for key, cohort in cohorts.items()})
    advance = training.advance.after(point, sum(u.steps for u in candidate.updates), digest)
    keep, is_best = context.settings.checkpoint_keep, advance.best_round in (None, candidate.number)
    committed = _successor(cluster.committed, cohorts, verdict, data, keep=keep, is_best=is_best)
    entries = [
        _round_entry(cluster, training, candidate, cohorts[key], committed.version)
        for key in sorted(candidate.renewed)
    ]
    history = HistoryRow(
        training_id=training.training_id,
        cluster_id=cluster.cluster_id,
        round_number=point.round,
        point=point.model_dump(mode="json"),
    )
    rows: list[LateRow] = [training.to_row(cluster.cluster_id, advance), history]
    # A round that has begun to be durable is carried through, also when the training is being stopped.
    with anyio.CancelScope(shield=True):
        await install(context, cluster, committed, entries, rows, blobs)
        training.advance = advance
        training.history.append(point)
        training.round_s.append(context.clock() - candidate.began_s)
        context.changed(cluster)
    return dict(cohorts)


def _successor(
    former: Committed | None,
    cohorts: Mapping[str, Cohort],
    verdict: Verdict,
    data: "tuple[DataSchema, DatasetInfo]",
    *,
    keep: int,
    is_best: bool,
) -> Committed:
    """The version after `former`, with what was measured of it."""
    version = former.version + 1 if former else 1
    return Committed(
        version=version,
        schema=data[0],
        dataset=data[1],
        cohorts=cohorts,
        bundle=plain_bundle(cohorts, version),
        evaluation=verdict.evaluation,
        accuracy=verdict.test.accuracy,
        loss=verdict.test.loss,
        recent=recent_files(former, cohorts, keep),
        best=_best(former, cohorts, is_best=is_best),
    )


async def install(
    context: EngineContext,
    cluster: Cluster,
    committed: Committed,
    entries: Sequence[Mapping[str, JsonValue]],
    rows: Sequence[LateRow],
    blobs: Blobs,
) -> None:
    """Make a version durable, load it into the serving nodes, and put it in force.

    Once begun it is carried through. Slots that came to serve the former version serve this one too.

    Raises:
        StoreUnavailable: Nothing was stored and nothing changed.
    """
    with anyio.CancelScope(shield=True):
        former = cluster.committed
        committed = committed.with_slots_of(former)
        dropped = sorted(former.blobs - committed.blobs) if former else []
        await record(
            context,
            cluster,
            entries,
            [partial(cluster.to_row, committed), *rows],
            blobs=blobs,
            dropped=dropped,
        )
        cluster.installing = committed
        try:
            cohorts = list(committed.cohorts.values())
            await load_everywhere(context, cluster, cohorts, committed.bundle.parity)
        finally:
            cluster.committed = committed.with_slots_of(cluster.committed)
            cluster.installing = None
        await catch_up(context, cluster, {slot for cohort in cohorts for slot in cohort.slots})
        await context.delete_files(dropped)


async def store_blobs(
    context: EngineContext,
    cluster: Cluster,
    schema: "DataSchema",
    cohorts: Mapping[str, Cohort],
    renewed: frozenset[str],
) -> tuple[dict[str, Cohort], Blobs]:
    """Write weights and moments of renewed cohorts; all cohorts come back, those one version later.

    A file says in its header what its tensors compute and how rows are scaled, so that anybody can compute a
    prediction again from the file alone.

    Raises:
        StoreUnavailable: The disk refuses.
    """
    stored = dict(cohorts)
    blobs: Blobs = []
    for key in sorted(renewed):
        cohort = cohorts[key]
        if cohort.state is None:
            continue
        metadata: dict[str, JsonValue] = {
            "cluster_id": cluster.cluster_id,
            "cohort": key,
            "version": str(cohort.version + 1),
            "weights_digest": cohort.digest or "",
        }
        recipe: dict[str, JsonValue] = {
            "plan": cohort.plan.model_dump(mode="json"),
            "schema": schema.to_json(),
        }
        write = context.checkpoints.write
        blob, nbytes = await context.offload(
            write, cohort.tensors(cohort.state), {**metadata, **recipe}
        )
        blobs.append((blob, nbytes, "weights"))
        moments_blob = None
        if cohort.state.moments:
            moments_blob, nbytes = await context.offload(write, cohort.state.moments, metadata)
            blobs.append((moments_blob, nbytes, "moments"))
        stored[key] = replace(
            cohort, blob=blob, moments_blob=moments_blob, version=cohort.version + 1
        )
    return stored, blobs


def plain_bundle(cohorts: Mapping[str, Cohort], version: int) -> Bundle:
    """A bundle before calibration: equal weights, nothing corrected."""
    slots = [slot for cohort in cohorts.values() for slot in cohort.slots]
    return Bundle(
        version=version,
        digests={key: cohort.digest or "" for key, cohort in cohorts.items()},
        parity=version % 2,
        slot_weights={slot: 1.0 / len(slots) for slot in slots},
        weights_source="equal",
        calibrators={},
        residual_quantiles={},
        residual_median=None,
        error_correlation=None,
    )


def recent_files(
    former: Committed | None, cohorts: Mapping[str, Cohort], keep: int
) -> dict[str, tuple[str, ...]]:
    """Checkpoint files of the last `keep` versions of each cohort, newest last."""
    recent = {}
    for key, cohort in cohorts.items():
        before = former.recent.get(key, ()) if former else ()
        files = [name for name in (*before, cohort.blob) if name is not None]
        recent[key] = tuple(dict.fromkeys(files))[-keep:]
    return recent


def _best(
    former: Committed | None, cohorts: Mapping[str, Cohort], *, is_best: bool
) -> dict[str, str]:
    """Checkpoint file of the best round, by cohort.

    Without validation rows the best round is not known: then it is the last round's.
    """
    if is_best or former is None:
        return {key: cohort.blob for key, cohort in cohorts.items() if cohort.blob is not None}
    return {key: name for key, name in former.best.items() if key in cohorts}


def _round_entry(
    cluster: Cluster, training: Training, candidate: Candidate, cohort: Cohort, version: int
) -> dict[str, JsonValue]:
    contributors: list[JsonValue] = [
        {
            "slot": update.slot,
            "incarnation": cluster.slots[update.slot].incarnation,
            "rows": update.rows,
            "update_digest": update.digest,
        }
        for update in candidate.updates
        if update.slot in cohort.slots
    ]
    return {
        "kind": "version",
        "cohort": cohort.key,
        "version": cohort.version,
        "parent": cohort.version - 1,
        "model_version": version,
        "round": candidate.number,
        "training_id": training.training_id,
        "rule": RULE,
        "contributors": contributors,
        "excluded": [{"slot": slot, "reason": why} for slot, why in candidate.excluded.items()],
        "weights_digest": cohort.digest,
        "blob": cohort.blob,
        "topology_epoch": cluster.topology_epoch,
        "train_loss": candidate.train_loss,
    }
