"""Reading the clusters back when a server starts on a state directory that has some."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import JsonValue

from flow_nexus_neural.coordination.autonomy.recollection import accusations, joined, recollect
from flow_nexus_neural.coordination.ledger import head
from flow_nexus_neural.data.unfinished import sweep_noted
from flow_nexus_neural.engine.context import EngineContext
from flow_nexus_neural.engine.operations.fall_back import FallBack, fall_back_of, find_whole
from flow_nexus_neural.engine.state.cluster import ClusterState
from flow_nexus_neural.engine.state.feedback import Feedback
from flow_nexus_neural.engine.state.slot_spec import Former
from flow_nexus_neural.engine.state.slots import Slot
from flow_nexus_neural.engine.storage.cluster_rows import (
    cluster_spec,
    restore_state,
    slot_of,
    training_of,
    training_row,
)
from flow_nexus_neural.engine.storage.ledger_writer import LedgerWriter
from flow_nexus_neural.engine.storage.persisted import demands_digests
from flow_nexus_neural.engine.storage.rows import ClusterRow, Stored
from flow_nexus_neural.errors import StoreCorrupt

ARTIFACTS_DELETED = "artifacts_deleted"
"""The ledger's word for files that were deleted on request."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What was found in a state directory.

    Attributes:
        fall_backs: Versions that are whole, of clusters whose version in force is damaged, by id.
        refused: Why clusters cannot be read, by id.
        names: Of clusters, as far as they are known apart from the rows.
        doubts: Why files that no cluster names may be needed all the same; empty when nothing is missing.
    """

    clusters: Sequence[ClusterState]
    fall_backs: Mapping[str, FallBack]
    refused: Mapping[str, str]
    names: Mapping[str, str]
    doubts: Sequence[str]


async def restore(context: EngineContext) -> Restored:
    """Read everything that is stored.

    Slots whose processes ended with the former server are `recovering`; they start on first use. A training
    that was running stays so, for it goes on; one of an older version, of which not all was stored, is
    stopped at its last committed round. One whose version in force is damaged has an earlier one to fall back
    to, where that is whole. A cluster that cannot be read is left out, named, and costs no other
    cluster.

    Raises:
        StoreCorrupt: The journal itself cannot be read.
        StoreUnavailable: That a training was interrupted could not be made durable.
    """
    stored = await context.store.load()
    refused = dict(stored.refused)
    clusters: list[ClusterState] = []
    fall_backs: dict[str, FallBack] = {}
    for row in stored.clusters:
        if row.cluster_id in refused:
            continue
        try:
            clusters.append(
                await context.offload(read_cluster, context, stored, row, context.clock())
            )
        except StoreCorrupt as failure:
            state, whole = await _damaged(context, stored, row)
            if state is not None and whole is not None:
                clusters.append(state)
                fall_backs[row.cluster_id] = whole
                continue
            lost = stored.older.get(row.cluster_id)
            refused[row.cluster_id] = f"{failure.message}; {lost}" if lost else failure.message
    for cluster in clusters:
        await _bring_up_to_date(context, stored, cluster)
    doubts = _doubts(stored, refused)
    for doubt in doubts:
        log.error("%s", doubt)
    return Restored(clusters, fall_backs, refused, stored.names, doubts)


async def _damaged(
    context: EngineContext, stored: Stored, row: ClusterRow
) -> tuple[ClusterState | None, FallBack | None]:
    """A cluster without its weights, where its rows can be read, and what it can fall back to.

    One that lost its last commits falls back to nothing: what is missing may have been deleted since.
    """
    if row.cluster_id in stored.older:
        return None, None
    try:
        read = partial(read_cluster, context, stored, row, context.clock(), weights=False)
        state = await context.offload(read)
    except StoreCorrupt:
        return None, None
    if state.terminated_at is not None:
        return None, None
    return state, await find_whole(context, state)


async def sweep(context: EngineContext, found: Restored) -> None:
    """Remove files that no cluster names, unless one may need them of which the rows are missing.

    What a former server was writing for a caller when it was killed is removed as well.

    Raises:
        StoreUnavailable: One cannot be removed.
    """
    settings = context.settings
    if not settings.read_only:
        await context.offload_data(sweep_noted, settings.state_dir, settings.write_roots)
    if found.clusters and not found.doubts:
        used = files_in_use(found.clusters)
        await context.offload(context.checkpoints.sweep, used, time.time())  # noqa: TID251  compared with file times
    elif await context.offload(context.checkpoints.has_files):
        log.error(
            "no checkpoint file is removed, for rows that name some may be missing; to accept what is lost,"
            " remove the file COMMITS while no server runs"
        )


def files_in_use(clusters: Sequence[ClusterState]) -> set[str]:
    """Files that these clusters need: checkpoints, and the rows of each one's latest training."""
    used = {name for cluster in clusters if cluster.committed for name in cluster.committed.blobs}
    for cluster in clusters:
        latest = cluster.latest_training
        if latest is not None:
            used |= latest.files
    return used


def read_cluster(
    context: EngineContext, stored: Stored, row: ClusterRow, now_s: float, *, weights: bool = True
) -> ClusterState:
    """One cluster as it was stored, every checkpoint of its version in force verified. Blocking.

    Args:
        context: Of the engine.
        stored: What is stored of it and of others.
        row: Its own.
        now_s: On the engine's clock, which only the event loop has: a worker thread cannot ask it.
        weights: Read them, unless it has ended.

    Raises:
        StoreCorrupt: A row cannot be understood or is named by no ledger entry, or a checkpoint is missing,
            altered, or does not hold what the row says.
    """
    if row.cluster_id not in stored.sealed and demands_digests(row.state):
        raise StoreCorrupt(
            "no ledger entry names its rows", hint="restore the state directory from a copy"
        )
    state = ClusterState(
        cluster_id=row.cluster_id,
        spec=cluster_spec(row),
        created_at=row.created_at,
        clock=context.clock,
        created_at_s=0.0,
        terminated_at=row.terminated_at,
        end_recorded=row.terminated_at is not None,
        lost_commits=stored.older.get(row.cluster_id),
    )
    mine = [t for t in stored.trainings if t.cluster_id == row.cluster_id]
    files = context.checkpoints if weights and not state.end_recorded else None
    restore_state(row, state, files)
    chain = stored.ledgers.get(row.cluster_id, ())
    if state.end_recorded and _were_deleted(chain, has_model=state.committed is not None):
        state.forget_model()
    state.advance_ledger(head(chain))
    if state.committed is not None:
        told = fall_back_of(chain, state.committed.version)
        if told is not None:
            state.note_fall_back(state.committed.version, told)
    audit = stored.audits.get(row.cluster_id)
    if audit is not None:
        state.autonomy.restore(audit.entries, audit.damage, audit.last_seq)
        state.autonomy.note_joined(joined(chain))
        state.autonomy.remember(recollect(audit.entries, context.timestamp(), now_s))
    state.note_feedback(stored.feedback.get(row.cluster_id, Feedback()))
    accused = accusations(audit.entries, chain) if audit is not None else {}
    for slot_row in stored.slots:
        if slot_row.cluster_id == row.cluster_id:
            slot = with_former(slot_of(slot_row), chain)
            if slot.name in accused:
                slot.accuse(accused[slot.name])
            state.slots.add(slot)
    for training in mine:
        points = [p for p in stored.history if p.training_id == training.training_id]
        state.restore_training(training_of(training, points))
    return state


def with_former(slot: Slot, chain: Sequence[Mapping[str, JsonValue]]) -> Slot:
    """A slot with its earlier incarnations, of which the ledger tells."""
    for entry in chain:
        mine = entry.get("kind") == "membership" and entry.get("slot") == slot.name
        number = entry.get("incarnation")
        if not mine or not isinstance(number, int) or number >= slot.incarnation:
            continue
        reason = entry.get("reason")
        told = reason if isinstance(reason, str) else None
        slot.note_former(Former(str(entry.get("node_id")), number, told))
    return slot


def _were_deleted(chain: Sequence[Mapping[str, JsonValue]], *, has_model: bool) -> bool:
    """Whether a ledger says that the files of its cluster were deleted; early formats did not note that."""
    if any(entry.get("event") == ARTIFACTS_DELETED for entry in chain):
        return True
    return not has_model and any(entry["kind"] == "version" for entry in chain)


async def _bring_up_to_date(context: EngineContext, stored: Stored, cluster: ClusterState) -> None:
    """Name the rows of an older format in the ledger, and end a training that ran and cannot go on."""
    ledger = LedgerWriter(context.store, cluster, context.timestamp)
    if cluster.cluster_id not in stored.sealed:
        await ledger.name_rows(stored.digests.get(cluster.cluster_id, {}))
    for training in cluster.trainings:
        if training.status == "running" and not training.can_resume:
            serving = None if cluster.committed is None else cluster.committed.version
            training.interrupt(context.timestamp(), serving)
            event = training.entry("training_interrupted")
            await ledger.record([event], [training_row(cluster.cluster_id, training)])


def _doubts(stored: Stored, refused: Mapping[str, str]) -> list[str]:
    """What is wrong, a line each."""
    doubts = list(stored.complaints)
    for cluster_id, reason in refused.items():
        name = stored.names.get(cluster_id)
        called = f"{cluster_id} ({name!r})" if name else cluster_id
        doubts.append(f"cluster {called} cannot be read and is left out: {reason}")
    for cluster_id, reason in stored.older.items():
        if cluster_id not in refused:
            doubts.append(f"cluster {cluster_id} ({stored.names.get(cluster_id)!r}): {reason}")
    return doubts
