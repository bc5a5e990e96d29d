"""Whether the numbers that an export says of its model mean anything: what is wrong with them, or None."""

import math
from collections.abc import Mapping

from flow_nexus_neural.data.schema import DataSchema
from flow_nexus_neural.kernels.conformal import ConformalScores

MAX_ROWS = 2**53
"""Up to here a count of rows is exact also where it becomes a float."""


def schema_fault(schema: DataSchema) -> str | None:
    """Scaling is finite, and classes are as many as the task has, and differ."""
    numbers = [schema.target_mean, schema.target_sd]
    for column in schema.columns:
        medians = column.medians or {}
        numbers += [*column.mean, *column.sd, *(column.pooled or ()), *medians.values()]
        deviations = (*column.sd, *(column.pooled or ())[1:])
        if len(column.sd) != column.width or not all(sd >= 0 for sd in deviations):
            return f"the deviations of column {column.name[:80]!r} have no meaning"
        if not all(median > 0 for median in medians.values()):
            return f"the medians of column {column.name[:80]!r} have no meaning"
    if not all(map(math.isfinite, numbers)):
        return "the scaling of its columns is not finite"
    n_classes = None if schema.classes is None else len(schema.classes)
    fits = {
        "regression": n_classes is None,
        "binary": n_classes == 2,
        "multiclass": n_classes is not None and n_classes >= 2,
    }
    if not fits[schema.task]:
        return f"{n_classes or 'no'} classes are none of task {schema.task}"
    if n_classes is not None and len(set(schema.classes or ())) != n_classes:
        return "two of its classes are the same"
    return None


def metrics_fault(accuracy: float | None, loss: float | None) -> str | None:
    """An accuracy is a share, a loss is finite and not negative."""
    if accuracy is not None and not 0 <= accuracy <= 1:
        return f"its accuracy is {accuracy!r}"
    if loss is not None and not 0 <= loss < MAX_ROWS:
        return f"its loss is {loss!r}"
    return None


def conformal_fault(scores: Mapping[str, ConformalScores]) -> str | None:
    """Ranked scores rise with their ranks up to the number of rows, so that every level has its score."""
    for mode, own in scores.items():
        sound = (
            0 < len(own.ranks) == len(own.scores)
            and own.ranks[0] >= 1
            and own.ranks[-1] == own.n <= MAX_ROWS
            and all(map(math.isfinite, own.scores))
            and all(one < next_ for one, next_ in zip(own.ranks, own.ranks[1:], strict=False))
            and all(one <= next_ for one, next_ in zip(own.scores, own.scores[1:], strict=False))
        )
        if not sound:
            return f"its intervals of {mode[:20]} have no meaning"
    return None
