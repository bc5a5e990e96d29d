"""The end of a training, made durable, and the files that nobody needs any more."""

import logging
from functools import partial

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.cluster_rows import present_cluster_row, training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.engine.training.boundary import Boundary
from flow_nexus_neural.errors import StoreError
from flow_nexus_neural.vocabulary import TrainingStatus

log = logging.getLogger(__name__)


async def end_run(
    cluster: LiveCluster,
    training: Training,
    boundary: Boundary,
    became: tuple[TrainingStatus, str | None] | None,
) -> None:
    """No training runs any more in a cluster: make late changes, then make durable what became of it.

    Args:
        cluster: In which it ran.
        training: It.
        boundary: Changes that waited for its next boundary: their callers get an answer. From now on changes
            are made at once.
        became: Its status and error; None where it goes on when the next server opens the directory.
    """
    if became is not None:
        training.end(*became, cluster.context.timestamp())
    cluster.end_run()
    await boundary.apply_late(cluster)
    if became is not None:
        await record_end(cluster, training)
    elif training.suspend():
        await _record_suspension(cluster, training)


async def _record_suspension(cluster: LiveCluster, training: Training) -> None:
    """That the server stopped in order, so that the try counts for nothing. A disk that refuses is logged."""
    row = partial(training_row, cluster.cluster_id, training)
    try:
        await cluster.ledger.record([training.entry("training_suspended")], [row])
    except StoreError as failure:
        log.warning(
            "that %s was interrupted in order is not recorded: %s", training.training_id, failure
        )


async def record_end(cluster: LiveCluster, training: Training) -> None:
    """Record that a training has ended. A disk that refuses is noted in its error; then its files stay."""
    training.note_unrecorded_end(None)
    state = cluster.state
    needed = training.files | (
        state.durable_version.blobs if state.durable_version else frozenset()
    )
    dropped = sorted(training.passing_files - needed)
    rows: list[LateRow] = [
        partial(training_row, cluster.cluster_id, training),
        partial(present_cluster_row, state),
    ]
    try:
        await cluster.ledger.record([training.entry("training_ended")], rows, dropped=dropped)
        await cluster.context.delete_files(dropped)
    except StoreError as failure:
        training.note_unrecorded_end(str(failure))
