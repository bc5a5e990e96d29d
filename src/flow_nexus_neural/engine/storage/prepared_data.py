"""The rows of a training as they were prepared, in one file named by its sha256.

With the request, the seed and this file a training can be done again to the byte, whatever became of the data
that the client named.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from flow_nexus_neural.data.inline_text import inline_text
from flow_nexus_neural.data.prepare import Fold, PreparedData
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.schema import DataSchema, Description
from flow_nexus_neural.engine.requests import TrainRequest
from flow_nexus_neural.engine.state.training_record import PreparedDataRef
from flow_nexus_neural.engine.storage.checkpoints import CheckpointFiles
from flow_nexus_neural.errors import StoreCorrupt

PREPARED_DATA = "prepared data"
"""Kind of such a file in the journal."""
MAX_STORED_DATASET = 1000
ARRAYS = ("x", "y", "symbols", "clients")
WHOLE, REPLAY = "whole", "replay"
"""Prefixes of the arrays of all rows, and of those to replay; no part has these names."""
FOLD_PARTS = ("train", "select", "test")


def stored_request(request: TrainRequest) -> dict[str, JsonValue]:
    """The arguments of a training as its row keeps them; inline data are in the file of prepared rows."""
    values: dict[str, JsonValue] = request.model_dump(mode="json", exclude={"cluster_id"})
    dataset = request.dataset
    named = isinstance(dataset, str) and len(dataset) <= MAX_STORED_DATASET
    if not named or inline_text(str(dataset)) is not None:
        values["dataset"] = None
    return values


def write_prepared(files: CheckpointFiles, cluster_id: str, data: PreparedData) -> PreparedDataRef:
    """Store prepared data. Blocking; costs one pass and an fsync.

    Equal data of one cluster give the same file; two clusters never share one, so that each can drop its own.

    Raises:
        StoreUnavailable: The disk refuses; nothing is left.
    """
    tensors: dict[str, NDArray[Any]] = {}
    more = {WHOLE: data.whole, REPLAY: data.replay}
    stored = {**data.parts, **{name: rows for name, rows in more.items() if rows is not None}}
    for part, rows in stored.items():
        for name in ARRAYS:
            tensors[f"{part}.{name}"] = getattr(rows, name)
        if rows.last is not None:
            tensors[f"{part}.last"] = rows.last
    for fold in data.folds:
        for part in FOLD_PARTS:
            tensors[f"fold {fold.number}.{part}"] = getattr(fold, part)
    sha, nbytes = files.write(
        tensors,
        {
            "cluster_id": cluster_id,
            "description": asdict(data.description),
            "schema": data.schema.to_json(),
            "parts": list(data.parts),
            "clients": list(data.clients),
            "warnings": list(data.warnings),
            "whole": data.whole is not None,
            "replay": data.replay is not None,
            "replayed": data.replayed,
            "refit": data.refit,
            "crossing": data.crossing,
            "gap": data.gap,
            "test_span": list(data.test_span),
            "folds": [[fold.number, fold.begins, fold.ends] for fold in data.folds],
        },
    )
    return PreparedDataRef(sha, nbytes)


def read_prepared(files: CheckpointFiles, ref: PreparedDataRef) -> PreparedData:
    """Prepared data as they were stored, verified. Blocking.

    Raises:
        StoreCorrupt: The file is missing, altered, or holds something else.
    """
    tensors, metadata = files.read_with_metadata(ref.sha256)
    try:
        return PreparedData(
            description=Description(**metadata["description"]),
            schema=DataSchema.from_json(metadata["schema"]),
            parts={part: _rows(tensors, part) for part in metadata["parts"]},
            clients=tuple(metadata["clients"]),
            warnings=list(metadata["warnings"]),
            # Files of earlier servers name none of these.
            whole=_rows(tensors, WHOLE) if metadata.get("whole") else None,
            refit=bool(metadata.get("refit", False)),
            test_span=tuple(metadata.get("test_span", (None, None))),
            replay=_rows(tensors, REPLAY) if metadata.get("replay") else None,
            replayed=int(metadata.get("replayed", 0)),
            folds=tuple(_fold(tensors, *fold) for fold in metadata.get("folds", ())),
            crossing=bool(metadata.get("crossing", False)),
            gap=metadata.get("gap"),
        )
    except (KeyError, TypeError, ValueError) as failure:
        raise StoreCorrupt(
            f"file {ref.sha256[:12]} holds no prepared data: {failure}",
            hint="train the cluster again, or restore the state directory from a copy",
        ) from failure


def _rows(tensors: dict[str, NDArray[Any]], part: str) -> Rows:
    arrays = {name: np.asarray(tensors[f"{part}.{name}"]) for name in ARRAYS}
    return Rows(**arrays, last=tensors.get(f"{part}.last"))


def _fold(
    tensors: dict[str, NDArray[Any]], number: int, begins: str | None, ends: str | None
) -> Fold:
    train, select, test = (np.asarray(tensors[f"fold {number}.{part}"]) for part in FOLD_PARTS)
    return Fold(number, train, select, test, begins, ends)
