"""Joins columns that are the steps of one list into a vector column."""

import re
from collections.abc import Collection, Sequence

import numpy as np

from flow_nexus_neural.data.table import Column, Numbers, TextColumn

MIN_VECTOR = 4
_STEP_NAME = re.compile(r"^(?P<name>.+?)(?:\[(?P<index>\d{1,4})\]|_(?P<tail>\d{1,4}))$")


def step_of(name: str) -> tuple[str, int] | None:
    """Split `name[3]` or `name_3` into the vector's name and the step."""
    match = _STEP_NAME.match(name)
    if match is None:
        return None
    return match["name"], int(match["index"] or match["tail"])


def group_vectors(
    columns: dict[str, Column], apart: Collection[str], warnings: list[str]
) -> tuple[dict[str, Column], str | None]:
    """Join `name[0]..name[k]` into a vector; of several vectors only `features` stays one.

    Args:
        columns: By name.
        apart: Columns that the caller names one by one, whose vectors are not joined.
        warnings: Says which of several vectors is kept.
    """
    groups = {
        stem: steps for stem, steps in _step_groups(columns).items() if not set(steps) & set(apart)
    }
    native = [
        name
        for name, column in columns.items()
        if not isinstance(column, TextColumn) and column.ndim == 2
    ]
    names = [*native, *groups]
    kept = names[0] if len(names) == 1 else ("features" if "features" in names else None)
    if len(names) > 1 and (kept or native):
        warnings.append(
            f"{len(names)} vector columns: "
            + (f"only '{kept}' is kept as a sequence" if kept else "all are used step by step")
        )
    result: dict[str, Column] = {}
    for name, column in columns.items():
        step = step_of(name)
        if kept in groups and step is not None and name in groups[kept]:
            result.setdefault(kept, _joined(columns, groups[kept]))
        elif name in native and name != kept and not isinstance(column, TextColumn):
            result.update({f"{name}[{k}]": column[:, k] for k in range(column.shape[1])})
        else:
            result[name] = column
    return result, kept


def _joined(columns: dict[str, Column], names: Sequence[str]) -> Numbers:
    parts = [columns[name] for name in names]
    return np.stack([part for part in parts if not isinstance(part, TextColumn)], axis=1)


def _step_groups(columns: dict[str, Column]) -> dict[str, list[str]]:
    steps: dict[str, dict[int, str]] = {}
    for name, column in columns.items():
        split = step_of(name)
        if split is not None and not isinstance(column, TextColumn) and column.ndim == 1:
            steps.setdefault(split[0], {}).setdefault(split[1], name)
    return {
        stem: [found[index] for index in range(len(found))]
        for stem, found in steps.items()
        if len(found) >= MIN_VECTOR and set(found) == set(range(len(found))) and stem not in columns
    }
