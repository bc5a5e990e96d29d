"""Federated averaging: the row-weighted average of the workers' vectors."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.folding import fold
from flow_nexus_neural.kernels.probabilities import Floats


def federated_average(vectors: Sequence[Floats], rows: Sequence[int]) -> NDArray[np.float32]:
    """Average the workers' vectors, each weighted by its number of rows.

    Used for parameters, buffers and moments. The rounding depends on the order of `vectors`, so callers pass
    them in slot order, never in order of arrival. The average of equal vectors is equal to them, bit for bit,
    while the rows sum to less than 2**29. The caller must have refused non-finite values.

    Args:
        vectors: n arrays of shape [d], float32, in slot order. Not modified.
        rows: n row counts from the engine's own records, never from a worker's claim.

    Returns:
        [d] float32. Cost: O(n d) time, O(d) memory for the result and a constant for the accumulator.

    Raises:
        ValueError: If there is no vector, lengths differ, a count is negative or none is positive.

    Source: McMahan et al., "Communication-Efficient Learning of Deep Networks from Decentralized Data",
    AISTATS 2017, Algorithm 1. Departure: the weighted sum is kept in float64 and rounded once.
    """
    total = _total(rows, len(vectors))
    shape = vectors[0].shape
    if len(shape) != 1 or any(vector.shape != shape for vector in vectors):
        raise ValueError(f"vectors differ in shape: {[vector.shape for vector in vectors]}")
    average = np.empty(shape, dtype=np.float32)
    sources = [([vector], float(count)) for vector, count in zip(vectors, rows, strict=True)]
    fold([average], sources, total, (0, shape[0]))
    return average


class RunningAverage:
    """`federated_average` of vectors of which one is there at a time, bit for bit.

    Memory: O(d), however many vectors there are.
    """

    def __init__(self) -> None:
        self._sum: NDArray[np.float64] | None = None
        self.rows = 0

    def add(self, vector: Floats, rows: int) -> None:
        """Count one vector in, in slot order.

        Raises:
            ValueError: Its shape differs from the others', or the count is negative.
        """
        if rows < 0 or (self._sum is not None and vector.shape != self._sum.shape):
            raise ValueError(f"a vector of shape {vector.shape} with {rows} rows does not fit")
        if self._sum is None:
            self._sum = np.zeros(vector.shape)
        term = vector.astype(np.float64)
        term *= float(rows)
        self._sum += term
        self.rows += rows

    def average(self) -> NDArray[np.float32]:
        """[d] float32. Raises `ValueError` if nothing with rows was counted in."""
        if self._sum is None or not self.rows:
            raise ValueError("there is nothing to average")
        return (self._sum / self.rows).astype(np.float32)


def averaged_step(steps: Sequence[int], rows: Sequence[int]) -> int:
    """Row-weighted mean of step counters, rounded to the nearest integer (halves up).

    Adam's bias correction needs one counter for the averaged moments. The mean is exact if all workers did
    the same number of steps.

    Args:
        steps: n counters >= 0, in slot order.
        rows: n counts, as in `federated_average`.

    Raises:
        ValueError: If there is no counter, one is negative, or row counts are invalid.
    """
    total = _total(rows, len(steps))
    if any(step < 0 for step in steps):
        raise ValueError(f"a step counter is negative: {list(steps)}")
    weighted = sum(step * count for step, count in zip(steps, rows, strict=True))
    return rounded_mean(weighted, total)


def rounded_mean(weighted: int, total: int) -> int:
    """`averaged_step` of sums that are there already: the nearest integer to their quotient, halves up.

    Args:
        weighted: Sum of counters times rows.
        total: Sum of rows, > 0.
    """
    return (2 * weighted + total) // (2 * total)


def _total(rows: Sequence[int], n: int) -> int:
    if n == 0 or len(rows) != n:
        raise ValueError(f"{n} contributions do not fit {len(rows)} row counts")
    if any(count < 0 for count in rows) or sum(rows) <= 0:
        raise ValueError(f"row counts must be >= 0 and not all 0, got {list(rows)}")
    return sum(rows)
