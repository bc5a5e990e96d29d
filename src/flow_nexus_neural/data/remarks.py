"""What the caller should know of rows and values that are unknown, unused or seen twice."""

from collections.abc import Mapping

import numpy as np

from flow_nexus_neural.data.leakage import repeated_rows
from flow_nexus_neural.data.matrix import Matrix
from flow_nexus_neural.data.series import Windows
from flow_nexus_neural.data.table import Column, Indices, TextColumn
from flow_nexus_neural.data.targets import Labels


def unknown_values(features: Mapping[str, Column]) -> list[str]:
    """Warnings that count missing and infinite values; both become the training mean, 0 after scaling."""
    missing: dict[str, int] = {}
    infinite: dict[str, int] = {}
    for name, column in features.items():
        if isinstance(column, TextColumn):
            missing[name] = int((column.codes < 0).sum())
        else:
            missing[name] = int(np.isnan(column).sum())
            infinite[name] = int(np.isinf(column).sum())
    return [
        f"{sum(counts.values())} values are {what} and count as unknown: {_counted(counts)}"
        for what, counts in (("missing", missing), ("infinite", infinite))
        if any(counts.values())
    ]


def _counted(counts: Mapping[str, int]) -> str:
    told = [f"{name} {count}" for name, count in counts.items() if count]
    return ", ".join(told[:8]) + (f" and {len(told) - 8} more columns" if len(told) > 8 else "")


def remarks_on(
    matrix: Matrix,
    labels: Labels,
    rows: Mapping[str, Indices],
    samples: Mapping[str, Indices | Windows],
) -> list[str]:
    """Warnings of columns that say nothing, and of rows without a label, before windows, or seen twice.

    Args:
        matrix: All rows, scaled.
        labels: The label of every row.
        rows: Row indices per part.
        samples: Rows or windows of rows per part.
    """
    remarks = []
    constant = [spec.name for spec in matrix.specs if not any(spec.sd)]
    if constant:
        listed = ", ".join(constant[:8]) + (
            f" and {len(constant) - 8} more" if len(constant) > 8 else ""
        )
        remarks.append(
            f"{len(constant)} columns do not vary measurably in training and count as 0: {listed}"
        )
    unlabelled = int(len(labels.usable) - labels.usable.sum())
    if unlabelled:
        remarks.append(
            f"{unlabelled} rows at the end of their series have no label and are not used"
        )
    train, test = samples["train"], samples["test"]
    if isinstance(train, Windows) or isinstance(test, Windows):
        used = sum(len(own) for own in samples.values())
        whole = sum(len(own) for own in rows.values())
        remarks.append(f"{whole - used} rows only serve as the beginning of windows")
        return remarks
    flat = matrix.x.reshape(len(matrix.x), -1)
    repeated = repeated_rows(flat, train, test)
    if repeated:
        remarks.append(
            f"{repeated} of {len(test)} test rows have the same inputs as a training row: the"
            " test measures memory there"
        )
    return remarks
