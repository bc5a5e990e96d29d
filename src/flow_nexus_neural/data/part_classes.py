"""Checks which classes occur in which parts of a data set."""

from collections.abc import Mapping, Sequence

import numpy as np

from flow_nexus_neural.data.folds import Fold
from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.table import Indices
from flow_nexus_neural.data.targets import Labels
from flow_nexus_neural.errors import InvalidDataset
from flow_nexus_neural.vocabulary import Label

MAX_LISTED = 8


def require_classes(labels: Labels, train: Indices) -> None:
    """Refuse training rows that lack a class.

    Raises:
        InvalidDataset: If a class does not occur in them.
    """
    if labels.classes is None:
        return
    counts = np.bincount(labels.values[train].astype(np.int64), minlength=len(labels.classes))
    missing = [label for label, count in zip(labels.classes, counts, strict=True) if not count]
    if missing:
        raise InvalidDataset(
            f"{_listed(missing)} of target '{labels.name}' does not occur in the training rows",
            hint="give more rows of every class, spread over the whole time",
        )


def lacking_classes(classes: Sequence[Label] | None, parts: Mapping[str, Rows]) -> list[str]:
    """Warnings of parts in which classes do not occur, above all of a test that has only one."""
    warnings = []
    for name, rows in parts.items():
        if classes is None or not len(rows):
            continue
        counts = np.bincount(rows.y.astype(np.int64), minlength=len(classes))
        missing = [label for label, count in zip(classes, counts, strict=True) if not count]
        if name == "test" and len(classes) - len(missing) == 1:
            [only] = [label for label in classes if label not in missing]
            warnings.append(
                f"all {len(rows)} test rows are of the class {only!r}: neither accuracy nor baseline says"
                " whether anything was learnt"
            )
        elif missing:
            warnings.append(f"no row of the class {_listed(missing)} is in the part '{name}'")
    return warnings


def lacking_in_folds(
    classes: Sequence[Label] | None, whole: Rows, folds: Sequence[Fold]
) -> list[str]:
    """Warnings of earlier folds that learn nothing of a class, because it occurs only later."""
    warnings = []
    for fold in folds if classes is not None else ():
        present = set(whole.y[fold.train].astype(np.int64).tolist())
        missing = [label for index, label in enumerate(classes or ()) if index not in present]
        if missing:
            warnings.append(
                f"no training row of fold {fold.number} is of the class {_listed(missing)}"
            )
    return warnings


def _listed(labels: Sequence[Label]) -> str:
    more = f" and {len(labels) - MAX_LISTED} more" if len(labels) > MAX_LISTED else ""
    return ", ".join(map(repr, labels[:MAX_LISTED])) + more
