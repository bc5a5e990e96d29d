"""Makes the label of every row: the task, the classes, and labels taken from later rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.data.columns import Layout
from flow_nexus_neural.data.table import Column, Indices, Numbers, TextColumn
from flow_nexus_neural.data.written_numbers import odd_cell
from flow_nexus_neural.errors import InvalidArguments, InvalidDataset
from flow_nexus_neural.vocabulary import Label, Task, TaskKind

MAX_CLASSES = 20
MAX_TARGET = 1e100
"""Above it, squares and differences of a target to be scaled may overflow."""
POSITIVE_WORDS = frozenset({"true", "yes", "up", "1", "positive", "buy", "long", "rise"})
RETURN_NAMES = ("return", "returns", "ret", "log_return")


@dataclass(frozen=True)
class Labels:
    """The label of every row.

    Attributes:
        name: Name of the label for reports, such as `next return > 0`.
        task: The learning task that the values call for.
        classes: Labels by class index; None for regression.
        values: [rows] float64 class index or value; NaN where `usable` is False.
        usable: [rows] bool, rows that have a label.
        reach: Rows that a label looks ahead.
        is_return: Whether the target is a return, so that its sign is a direction.
    """

    name: str
    task: Task
    classes: list[Label] | None
    values: NDArray[np.float64]
    usable: NDArray[np.bool_]
    reach: int
    is_return: bool


def rows_ahead(order: Indices, series: Indices, steps: int) -> Indices:
    """[rows] index of the row `steps` later in the same series, -1 where there is none.

    Args:
        order: [rows] row indices sorted by series, then time.
        series: [rows] series of every row.
        steps: How far to look.
    """
    ahead = np.full(len(order), -1, dtype=np.int64)
    if steps == 0:
        return np.arange(len(order), dtype=np.int64)
    now, later = order[:-steps], order[steps:]
    same = series[now] == series[later]
    ahead[now[same]] = later[same]
    return ahead


def distinct_values(values: Numbers) -> NDArray[np.float64]:
    """Distinct values in order. Sorting releases the interpreter lock, `numpy.unique` need not."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    return ordered[np.r_[True, ordered[1:] != ordered[:-1]]] if len(ordered) else ordered


def label_rows(
    layout: Layout, order: Indices, series: Indices, wanted: TaskKind | None = None
) -> Labels:
    """Make the label of every row.

    Args:
        layout: Names the label column.
        order: See `rows_ahead`.
        series: See `rows_ahead`.
        wanted: What the caller says that the labels are; None lets their values decide.

    Raises:
        InvalidArguments: If the next direction of a price is wanted as a number.
        InvalidDataset: If a label is missing or infinite, or there is one class or too many text classes.
    """
    ahead = rows_ahead(order, series, layout.horizon)
    usable = ahead >= 0
    if layout.target_column is None or layout.target is None:
        if wanted == "regression":
            raise InvalidArguments(
                f"task=regression, but no target was named: the direction of '{layout.price}' is two classes",
                hint=f"name the target, such as target={layout.price} with horizon=1",
            )
        return _price_direction(layout, ahead, usable)
    name = layout.target + (f", {layout.horizon} row(s) ahead" if layout.horizon else "")
    reach = layout.horizon + layout.given_reach
    column = layout.target_column
    if not isinstance(column, TextColumn) and column.ndim != 1:
        raise InvalidDataset(
            f"target '{layout.target}' holds lists", hint="a target is one value per row"
        )
    task, classes, values = _classify(column, layout.target, wanted)
    shifted = np.where(usable, values[ahead], np.nan)
    lowered = layout.target.lower()
    named_return = lowered in RETURN_NAMES or lowered.endswith(("_return", "_returns", "_ret"))
    is_return = layout.given_reach > 0 or (task == "regression" and named_return)
    return Labels(name, task, classes, shifted, usable, reach, is_return)


def _price_direction(layout: Layout, ahead: Indices, usable: NDArray[np.bool_]) -> Labels:
    price = layout.price_column
    if price is None or isinstance(price, TextColumn) or price.ndim != 1:
        raise InvalidDataset(
            "no target was named, and the price column cannot give one",
            hint="name a target",
        )
    if not np.isfinite(price).all():
        raise InvalidDataset(
            f"'{layout.price}' has missing or infinite values, so its next return is unknown",
            hint="remove these rows, or name a target",
        )
    values = np.where(usable, (price[ahead] > price).astype(np.float64), np.nan)
    if len(distinct_values(values[usable])) < 2:
        raise InvalidDataset(
            f"the return of '{layout.price}' has the same sign in every row", hint="name a target"
        )
    name = (
        "next return > 0"
        if layout.horizon == 1
        else f"return over the next {layout.horizon} rows > 0"
    )
    return Labels(name, "binary", [0, 1], values, usable, layout.horizon, is_return=True)


def _classify(
    column: Column, name: str, wanted: TaskKind | None
) -> tuple[Task, list[Label] | None, NDArray[np.float64]]:
    if isinstance(column, TextColumn):
        if wanted == "regression":
            raise InvalidDataset(
                f"task=regression, but target '{name}' is text" + _why_text(column),
                hint="leave task out, or name a column of numbers as target",
            )
        return _text_classes(column, name)
    bad = int(len(column) - np.isfinite(column).sum())
    if bad:
        raise InvalidDataset(
            f"target '{name}' is missing or not finite in {bad} of {len(column)} rows",
            hint="remove these rows or fill in their labels",
        )
    distinct = distinct_values(column)
    if len(distinct) < 2:
        raise InvalidDataset(
            f"target '{name}' has the value {distinct[0]:g} in every row",
            hint="a target needs at least two different values",
        )
    whole = bool((distinct == np.round(distinct)).all())
    if wanted == "classification" and len(distinct) > MAX_CLASSES:
        raise InvalidDataset(
            f"task=classification, but target '{name}' has {len(distinct)} distinct values",
            hint=f"2 to {MAX_CLASSES} classes are possible; leave task out, or name another target",
        )
    by_values = len(distinct) > 2 and not (whole and len(distinct) <= MAX_CLASSES)
    if wanted == "regression" or (wanted is None and by_values):
        largest = float(np.abs(distinct).max())
        if largest > MAX_TARGET:
            raise InvalidDataset(
                f"target '{name}' has values as large as {largest:g}, which cannot be scaled",
                hint=f"use a unit in which they stay below {MAX_TARGET:g}",
            )
        return "regression", None, np.asarray(column, dtype=np.float64)
    classes: list[Label] = [int(value) if whole else float(value) for value in distinct]
    codes = np.searchsorted(distinct, column).astype(np.float64)
    return ("binary" if len(classes) == 2 else "multiclass"), classes, codes


def _text_classes(
    column: TextColumn, name: str
) -> tuple[Task, list[Label] | None, NDArray[np.float64]]:
    missing = int((column.codes < 0).sum())
    if missing:
        raise InvalidDataset(
            f"target '{name}' is missing in {missing} of {len(column.codes)} rows",
            hint="remove these rows or fill in their labels",
        )
    used = [column.levels[code] for code in np.unique(column.codes)]
    if not 2 <= len(used) <= MAX_CLASSES:
        raise InvalidDataset(
            f"target '{name}' is text with {len(used)} distinct values" + _why_text(column),
            hint=f"2 to {MAX_CLASSES} classes are possible; name another target",
        )
    ordered = _class_order(used)
    code_of = np.array(
        [ordered.index(level) if level in ordered else -1 for level in column.levels]
    )
    classes: list[Label] = [*ordered]
    values = code_of[column.codes].astype(np.float64)
    return ("binary" if len(ordered) == 2 else "multiclass"), classes, values


def _why_text(column: TextColumn) -> str:
    odd = odd_cell(column)
    return f"; the others are numbers, but not {odd}" if odd else ""


def _class_order(levels: Sequence[str]) -> list[str]:
    """Labels in sorted order; of two, a word such as yes, up or buy comes last and so is class 1."""
    ordered = sorted(levels)
    says_yes = [level.lower() in POSITIVE_WORDS for level in ordered]
    return ordered[::-1] if says_yes == [True, False] else ordered
