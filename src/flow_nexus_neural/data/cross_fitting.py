"""Divides training rows for out-of-fold answers: every row is answered by a model that has not seen it.

Source: Wolpert, "Stacked generalization", Neural Networks 5 (1992), for answers out of fold; López de Prado,
"Advances in Financial Machine Learning", 2018, section 7.4, for folds of rows in time order: blocks of time,
without the rows around them whose label reaches into them.
"""

from dataclasses import dataclass

import numpy as np

from flow_nexus_neural.data.rows import Rows
from flow_nexus_neural.data.table import Indices

SHARES = {"meta": 4, "verify": 3, "calib": 3}
"""Tenths of the rows for each purpose: who combines, who admits and doubts, who calibrates."""


@dataclass(frozen=True)
class HeldFold:
    """One fold.

    Attributes:
        train: [n] indices of rows to train on.
        held: [n] indices of rows to answer; those of all folds together are all rows.
    """

    train: Indices
    held: Indices


def held_folds(rows: Rows, count: int, seed: int, gap: int | None) -> tuple[HeldFold, ...]:
    """Divide rows into folds.

    Rows without an order are dealt by a seeded draw, each class evenly. Rows in time order are cut into
    blocks, and the `gap` rows of a series on both sides of a block are not trained on.

    Args:
        rows: Training rows, in time order where they have one.
        count: Of folds.
        seed: Of the draw.
        gap: Rows over which a label or a window reaches; None for rows without an order.
    """
    n = len(rows)
    if gap is None:
        fold_of = np.empty(n, dtype=np.int64)
        fold_of[_dealt(rows, seed)] = np.arange(n) % count
    else:
        fold_of = np.arange(n) * count // n
    folds = []
    for fold in range(count):
        held = fold_of == fold
        near = held if not gap else held | _beside(held, rows, gap)
        folds.append(HeldFold(np.flatnonzero(~near), np.flatnonzero(held)))
    return tuple(folds)


def by_purpose(rows: Rows, seed: int, *, ordered: bool) -> dict[str, Indices]:
    """Which rows each purpose of `SHARES` gets, each ascending: by time, or by a draw, each class evenly."""
    n, tenths = len(rows), sum(SHARES.values())
    order = np.arange(n) if ordered else _dealt(rows, seed)
    # Dealt in turns rather than cut, so that a draw that sorts by class gives every purpose all of them.
    turn = order * tenths // n if ordered else np.arange(n) % tenths
    found, start = {}, 0
    for purpose, share in SHARES.items():
        found[purpose] = np.sort(order[(turn >= start) & (turn < start + share)])
        start += share
    return found


def _dealt(rows: Rows, seed: int) -> Indices:
    """[n] the rows in a random order within their class; values of a regression are one class."""
    draw = np.random.Generator(np.random.PCG64(seed)).random(len(rows))
    few = len(np.unique(rows.y)) <= len(rows) // 10
    return np.lexsort((draw, rows.y)) if few else np.argsort(draw)


def _beside(
    held: "np.typing.NDArray[np.bool_]", rows: Rows, gap: int
) -> "np.typing.NDArray[np.bool_]":
    """[n] rows that are at most `gap` rows of their own series away from a held one."""
    near = np.zeros(len(held), dtype=np.bool_)
    series = np.stack([rows.symbols, rows.clients], axis=1)
    for own in np.unique(series, axis=0):
        index = np.flatnonzero((series == own).all(axis=1))
        inside = held[index]
        for shift in range(1, min(gap, len(index) - 1) + 1):
            near[index[:-shift]] |= inside[shift:]
            near[index[shift:]] |= inside[:-shift]
    return near
