"""Recorded outcomes as data of a training: the newest to judge by, former rows to replay with the others."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.prepare import PreparedData
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema, Description
from flow_nexus_neural.engine.live import LiveCluster
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.feedback import LEAST_OUTCOMES, RecordedOutcome
from flow_nexus_neural.engine.state.version import CommittedVersion
from flow_nexus_neural.engine.versions.input_drift import training_rows
from flow_nexus_neural.errors import DataTooSmall, InvalidArguments, NotTrained
from flow_nexus_neural.kernels.seeds import seed64
from flow_nexus_neural.protocol.digest import vectors_digest

FEEDBACK = "feedback"
"""The data set of the outcomes that a cluster has recorded."""
HELD_OUT = 0.25
VALIDATED = 0.2
"""Of the outcomes that are not held out."""
PARTS = ("train", "select", "meta", "verify", "calib", "test")
OWN_ROWS = (
    "target",
    "time_column",
    "features",
    "exclude",
    "task",
    "window",
    "horizon",
    "test_size",
    "validation_size",
    "folds",
    "class_weight",
    "threshold",
    "positive_class",
    "refit",
    "partition",
    "privacy",
)
"""Arguments that say how rows are made, divided or decided: these rows have that already."""


def is_feedback(request: TrainRequest) -> bool:
    """Whether a training learns from recorded outcomes."""
    return request.dataset == FEEDBACK


async def feedback_data(
    cluster: LiveCluster, request: TrainRequest, ordinal: int
) -> tuple[PreparedData, CommittedVersion]:
    """The outcomes of the version in force since errors last rose, with rows of its training to replay.

    Of n outcomes, in the order in which they came: the last quarter judges, a fifth of the others validates.
    As many former training rows as there are outcomes to train on are drawn by the seed, before them.

    Returns:
        The rows, and that version.

    Raises:
        NotTrained: There is no version that outcomes could be of.
        InvalidArguments: An argument has no effect on such rows.
        DataTooSmall: Fewer than 50 outcomes.
    """
    committed, feedback = cluster.committed, cluster.state.feedback
    if committed is None:
        raise NotTrained(
            f"cluster {cluster.cluster_id} has no model whose predictions have outcomes",
            hint="call neural_train_distributed with a dataset first",
        )
    _refuse(request)
    stored, _ = await cluster.context.store.outcomes(cluster.cluster_id)
    own = [o for o in stored if o.version == committed.version]
    since = feedback.errors.width if feedback.version == committed.version else 0
    outcomes = own[len(own) - min(len(own), since) :]
    if len(outcomes) < LEAST_OUTCOMES:
        raise DataTooSmall(
            f"{len(outcomes)} outcomes are recorded of version {committed.version} since it answers or errors"
            f" last rose; {LEAST_OUTCOMES} are needed",
            hint="send records with expectedOutcome, or outcomes of earlier predictions, with"
            " neural_predict_distributed",
        )
    seed = seed64((cluster.spec.seed, ordinal), 0, "", 0, "sample")
    data = await cluster.context.offload(_prepared, cluster, committed, outcomes, seed)
    return data, committed


def _refuse(request: TrainRequest) -> None:
    given = [name for name in OWN_ROWS if getattr(request, name) is not None]
    given += ["secure_aggregation"] * request.secure_aggregation  # no round of it commits an update
    if given:
        raise InvalidArguments(
            f"{', '.join(given)} has no effect on recorded outcomes: they are rows of the model in force",
            hint="leave it out",
        )


def _prepared(
    cluster: LiveCluster,
    committed: CommittedVersion,
    outcomes: Sequence[RecordedOutcome],
    seed: int,
) -> PreparedData:
    """Blocking."""
    schema, symbols = committed.schema, committed.dataset.symbols
    rows = rows_of(schema, symbols, outcomes)
    former = training_rows(cluster, schema)
    n_test = int(np.ceil(HELD_OUT * len(rows)))
    n_select = int(np.ceil(VALIDATED * (len(rows) - n_test)))
    fresh = rows.at(slice(0, len(rows) - n_test - n_select))
    replayed = _drawn(former, len(fresh), seed)
    parts = {part: rows.at(slice(0, 0)) for part in PARTS} | {
        "train": fresh if replayed is None else joined(replayed, fresh),
        "select": rows.at(slice(len(fresh), len(rows) - n_test)),
        "test": rows.at(slice(len(rows) - n_test, len(rows))),
    }
    n_replayed = 0 if replayed is None else len(replayed)
    return PreparedData(
        description=_described(committed, parts, n_replayed),
        schema=schema,
        parts=parts,
        clients=(),
        warnings=[],
        replay=fresh if former is None else joined(former, fresh),
        replayed=n_replayed,
    )


def rows_of(
    schema: DataSchema, symbols: Sequence[str], outcomes: Sequence[RecordedOutcome]
) -> Rows:
    """Outcomes as rows, in order."""
    values = np.array([outcome.outcome for outcome in outcomes])
    y: NDArray[np.float32] | NDArray[np.int64] = (
        values.astype(np.int64) if schema.task == "multiclass" else values.astype(np.float32)
    )
    number = {symbol: index for index, symbol in enumerate(symbols)}
    return Rows(
        x=np.ascontiguousarray(np.stack([o.x for o in outcomes]), dtype=np.float32),
        y=y,
        symbols=np.array([number.get(o.symbol or "", -1) for o in outcomes], dtype=np.int32),
        clients=np.full(len(outcomes), -1, dtype=np.int32),
    )


def joined(first: Rows, second: Rows) -> Rows:
    """Rows of two sources, one after the other; they have no order in time."""
    return Rows(
        x=np.concatenate([first.x, second.x]),
        y=np.concatenate([first.y, second.y]),
        symbols=np.concatenate([first.symbols, second.symbols]),
        clients=np.full(len(first) + len(second), -1, dtype=np.int32),
    )


def _drawn(former: Rows | None, n: int, seed: int) -> Rows | None:
    """As many former rows, drawn without replacement; None where there are none."""
    if former is None or not len(former):
        return None
    picked = np.random.Generator(np.random.PCG64(seed)).permutation(len(former))[:n]
    return former.at(np.sort(picked))


def _described(
    committed: CommittedVersion, parts: Mapping[str, Rows], n_replayed: int
) -> Description:
    former = committed.dataset
    n = sum(len(rows) for rows in parts.values())
    split = {part: len(rows) for part, rows in parts.items()} | {"purged": 0}
    fields = former.model_dump()
    known = {name: fields[name] for name in ("columns", "target", "task", "classes", "symbols")}
    digest = vectors_digest([a for rows in parts.values() for a in (rows.x, rows.y)])
    return Description(
        **known,
        name=FEEDBACK,
        kind=FEEDBACK,
        source=f"{n - n_replayed} recorded outcomes of version {committed.version} and {n_replayed}"
        f" replayed rows of {former.name}",
        rows=n,
        split=split,
        synthetic=former.synthetic,
        sha256=digest,
        excluded_columns=fields["excluded_columns"],
    )
