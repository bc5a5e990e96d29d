"""The end of a training, made durable, and the files that nobody needs any more."""

from functools import partial

from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.training_record import Training
from flow_nexus_neural.engine.storage.cluster_rows import present_cluster_row, training_row
from flow_nexus_neural.engine.storage.ledger_writer import LateRow
from flow_nexus_neural.errors import StoreError


async def record_end(cluster: LiveCluster, training: Training) -> None:
    """Record that a training has ended. A disk that refuses is noted in its error; then its files stay."""
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
