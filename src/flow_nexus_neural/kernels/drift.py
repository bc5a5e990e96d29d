"""Tests for change: ADWIN on a stream of errors, and the population stability index of inputs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s, Floats

DELTA = 0.002
BUCKETS_OF_A_SIZE = 5
CHECK_EVERY = 8
"""Values from one look for a cut to the next, for the time that looking takes."""
MIN_PART = 10
"""Fewest values on each side of a cut."""
PSI_LIMIT = 0.25
PSI_BINS = 10


@dataclass(frozen=True, slots=True)
class Adwin:
    """An adaptive window over values in [0, 1], as an exponential histogram.

    Attributes:
        counts: Values in each bucket, oldest first; powers of two, not rising.
        sums: Sum of each bucket.
        squares: Sum of squares of each bucket.
        seen: Values so far.
        drifts: How often the values rose for good.
        drifted_at: Number of the value at which that was last found, from 1; None before.
    """

    counts: tuple[int, ...] = ()
    sums: tuple[float, ...] = ()
    squares: tuple[float, ...] = ()
    seen: int = 0
    drifts: int = 0
    drifted_at: int | None = None

    @property
    def width(self) -> int:
        """Values in the window."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """Of the window; None when it is empty."""
        return sum(self.sums) / self.width if self.counts else None


def after_value(state: Adwin, value: float, delta: float = DELTA) -> Adwin:
    """The window with one more value, cut where its newer part is another population.

    A cut counts as drift only where the newer values are higher: errors that fall need no repair, and only
    shorten the window.

    Args:
        state: Before it.
        value: In [0, 1].
        delta: Bound on the probability of a false alarm at one value.

    Raises:
        ValueError: The value is not in [0, 1].

    Source: Bifet and Gavalda, "Learning from Time-Changing Data with Adaptive Windowing", SDM 2007: ADWIN2
    with 5 buckets of a size, its variance bound and delta' = delta / n, looking for a cut at every eighth
    value. Departure: the newer part of the most
    significant cut stays as a whole, where the paper drops one old bucket after the other; so one change is
    one drift.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"{value} is not in [0, 1]")
    buckets = [
        *zip(state.counts, state.sums, state.squares, strict=True),
        (1, value, value * value),
    ]
    _compress(buckets)
    seen, drifts, at = state.seen + 1, state.drifts, state.drifted_at
    cut, rose = (0, False) if seen % CHECK_EVERY else _cut(buckets, delta)
    if cut:
        buckets = buckets[cut:]
        if rose:
            drifts, at = drifts + 1, seen
    counts, sums, squares = (tuple(column) for column in zip(*buckets, strict=True))
    return Adwin(counts, sums, squares, seen, drifts, at)


def forgotten(state: Adwin) -> Adwin:
    """The same counts with an empty window, for a model that answers from now on."""
    return replace(state, counts=(), sums=(), squares=())


def _compress(buckets: list[tuple[int, float, float]]) -> None:
    """Merge the two oldest buckets of a size wherever there are too many of it."""
    size = 1
    while True:
        of_size = [index for index, bucket in enumerate(buckets) if bucket[0] == size]
        if len(of_size) <= BUCKETS_OF_A_SIZE:
            return
        first = of_size[0]
        one, two = buckets[first], buckets[first + 1]
        buckets[first : first + 2] = [(2 * size, one[1] + two[1], one[2] + two[2])]
        size *= 2


def _cut(buckets: list[tuple[int, float, float]], delta: float) -> tuple[int, bool]:
    """Buckets to drop, 0 for none, and whether the values after them are higher."""
    table = np.array(buckets, dtype=np.float64)
    n, total, square = table.sum(axis=0)
    if n < 2 * MIN_PART:
        return 0, False
    old_n, old_sum = np.cumsum(table[:-1, 0]), np.cumsum(table[:-1, 1])
    new_n = n - old_n
    gap = (total - old_sum) / new_n - old_sum / old_n
    variance = max(0.0, square / n - (total / n) ** 2)
    harmonic = 1.0 / (1.0 / old_n + 1.0 / new_n)
    log_term = math.log(2.0 * n / delta)
    limit = np.sqrt(2.0 / harmonic * variance * log_term) + 2.0 / (3.0 * harmonic) * log_term
    excess = np.where((old_n >= MIN_PART) & (new_n >= MIN_PART), np.abs(gap) - limit, -np.inf)
    best = int(excess.argmax())
    return (best + 1, bool(gap[best] > 0)) if excess[best] > 0 else (0, False)


@dataclass(frozen=True)
class Reference:
    """Where the values of each input lay when a model was trained.

    Attributes:
        edges: [F, B - 1] rising; equal edges make bins that hold nothing.
        shares: [F, B] of the reference in each bin.
        n: Rows of the reference.
    """

    edges: Float64s
    shares: Float64s
    n: int

    @classmethod
    def of(cls, rows: Floats, bins: int = PSI_BINS) -> "Reference":
        """From reference rows [n, F], n > 0: bins between their quantiles."""
        x = np.asarray(rows, dtype=np.float64)
        levels = np.arange(1, bins) / bins
        edges = np.ascontiguousarray(np.quantile(x, levels, axis=0).T)
        return cls(edges, _shares(x, edges), len(x))


def stability_index(reference: Reference, rows: Floats) -> Float64s:
    """[F] population stability index of rows against a reference: sum (p - q) ln(p / q) over bins.

    Shares are smoothed by half a row in each bin, so that an empty one is no infinity. Without any change it
    is about (B - 1) (1 / n + 1 / N) for n rows and N of the reference. Above 0.25 is a major shift by the
    usual rule of thumb.

    Args:
        reference: Of the same inputs.
        rows: [n, F], n > 0.

    Source: Siddiqi, "Credit Risk Scorecards" (2006), chapter 8; it is Jeffreys' divergence of the two
    histograms.
    """
    x = np.asarray(rows, dtype=np.float64)
    bins = reference.shares.shape[1]
    p = _smoothed(_shares(x, reference.edges), len(x), bins)
    q = _smoothed(reference.shares, reference.n, bins)
    index: Float64s = ((p - q) * np.log(p / q)).sum(axis=1)
    return index


def _smoothed(shares: Float64s, n: int, bins: int) -> Float64s:
    smoothed: Float64s = (shares * n + 0.5) / (n + 0.5 * bins)
    return smoothed


def _shares(x: Float64s, edges: Float64s) -> Float64s:
    """[F, B] share of the rows of x [n, F] in each bin; a value that equals an edge is above it."""
    n_features, bins = len(edges), edges.shape[1] + 1
    shares = np.empty((n_features, bins))
    for feature in range(n_features):
        found: NDArray[np.int64] = np.searchsorted(edges[feature], x[:, feature], side="right")
        shares[feature] = np.bincount(found, minlength=bins) / len(x)
    return shares


def values_after(state: Adwin, values: Sequence[float], delta: float = DELTA) -> Adwin:
    """The window after several values, in order."""
    for value in values:
        state = after_value(state, value, delta)
    return state
