"""Whether the inputs of predictions still look like the rows that the version in force was trained on."""

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.state.feedback import (
    InputDrift,
    RecordedOutcome,
)
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.storage.prepared_data import read_prepared
from flow_nexus_neural.errors import NeuralError, StoreCorrupt
from flow_nexus_neural.kernels.drift import Reference, stability_index

log = logging.getLogger(__name__)

RECENT_ROWS = 300
LEAST_ROWS = 200
"""With fewer, rows without any drift pass the limit by chance."""
REFERENCE_ROWS = 5000
RENEWED_AFTER = 50
"""Outcomes from one comparison to the next, which reads rows from disk."""


async def input_drift(cluster: LiveCluster) -> InputDrift | None:
    """The comparison of the newest recorded inputs; None before the first version.

    It is made anew at a new version, and after every 50 outcomes.

    Raises:
        StoreCorrupt: The journal cannot be read.
    """
    committed, feedback = cluster.committed, cluster.state.feedback
    if committed is None:
        return None
    n = feedback.recorded
    if n < LEAST_ROWS:
        return InputDrift(committed.version, n, n, why=f"{n} of {LEAST_ROWS} recorded inputs")
    known = cluster.inputs
    same = known is not None and known.version == committed.version
    if known is not None and same and feedback.recorded < known.recorded + RENEWED_AFTER:
        return known
    outcomes, _ = await cluster.context.store.outcomes(cluster.cluster_id, RECENT_ROWS)
    digest = committed.schema.digest
    recent = [outcome for outcome in outcomes if outcome.schema_digest == digest]
    # Of the count before they were read: outcomes that arrive meanwhile are not among them.
    found = await cluster.context.offload(_compared, cluster, committed, n, recent)
    cluster.keep_inputs(found)
    return found


async def watch_inputs(cluster: LiveCluster) -> None:
    """Compare the newest inputs where that is due, for whoever acts on it. Never raises."""
    if cluster.comparing.locked():
        return
    async with cluster.comparing:
        former = cluster.inputs
        try:
            found = await input_drift(cluster)
        except NeuralError as failure:
            log.warning("inputs of %s are not compared: %s", cluster.cluster_id, failure)
            return
    if found != former:
        cluster.changed()


def _compared(
    cluster: LiveCluster,
    committed: CommittedVersion,
    recorded: int,
    recent: Sequence[RecordedOutcome],
) -> InputDrift:
    """Blocking."""
    version = committed.version
    if len(recent) < LEAST_ROWS:
        why = f"{len(recent)} of {LEAST_ROWS} recorded inputs"
        return InputDrift(version, recorded, len(recent), why=why)
    rows = training_rows(cluster, committed.schema)
    if rows is None or not len(rows):
        why = "the training rows are not kept, or private"
        return InputDrift(version, recorded, len(recent), why=why)
    some = np.linspace(0, len(rows) - 1, min(len(rows), REFERENCE_ROWS)).astype(np.int64)
    reference = Reference.of(_flat(rows.x[some]))
    index = stability_index(reference, _flat(np.stack([outcome.x for outcome in recent])))
    worst = int(index.argmax())
    column = _column(committed.schema, worst)
    return InputDrift(version, recorded, len(recent), float(index[worst]), column)


def training_rows(cluster: LiveCluster, schema: DataSchema) -> Rows | None:
    """Rows of this schema that the latest training was given; None where they are not kept. Blocking.

    Those of a private training are not used again without its noise.
    """
    latest = cluster.state.latest_training
    if latest is None or latest.data is None or latest.config.privacy is not None:
        return None
    try:
        prepared = read_prepared(cluster.context.checkpoints, latest.data)
    except StoreCorrupt:
        return None
    if prepared.schema.digest != schema.digest:
        return None
    return prepared.parts["train"] if prepared.replay is None else prepared.replay


def _flat(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return x.reshape(len(x), -1)


def _column(schema: DataSchema, position: int) -> str:
    """The column of a position in a flat row."""
    steps = schema.input.window or 1
    within = position % max(1, schema.input.flat_width // steps)
    starts = np.asarray(schema.scaler.starts)
    return schema.columns[int(np.searchsorted(starts, within, side="right")) - 1].name
