"""Robust aggregation: averages that a minority of arbitrary vectors can change only by a bounded distance.

Every rule starts with the guard of `kernels.gram`: rows that are not finite are dropped and count as faulty,
rows with an extreme norm are scaled down. Geometric rules then compute weights from inner products;
coordinate rules work on each coordinate separately.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels import geometry_rules as geometry
from flow_nexus_neural.kernels.gram import (
    Float32s,
    GuardedRows,
    centred_gram,
    guarded,
    plain_gram,
    weighted_sum,
)
from flow_nexus_neural.kernels.probabilities import Float64s
from flow_nexus_neural.kernels.sorting import sorted_rows

GeometryRule = Literal["krum", "multi_krum", "geometric_median", "mda", "smea", "caf"]
CoordinateRule = Literal["median", "trimmed_mean", "meamed"]
Rule = Literal["mean"] | GeometryRule | CoordinateRule

_GEOMETRY: dict[str, Callable[[Float64s, int], Float64s]] = {
    "krum": geometry.krum,
    "multi_krum": geometry.multi_krum,
    "geometric_median": geometry.geometric_median,
    "mda": geometry.least_diameter,
    "smea": geometry.least_variance,
    "caf": geometry.filtered,
}


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The result of a rule.

    Attributes:
        vector: [d] float32.
        weights: [n] weight of each input vector; None for coordinate rules, which have none.
        dropped: Indices of vectors that were not finite.
        shortened: Indices of vectors that the norm guard scaled down.
        left_out: Indices of vectors on which the result does not depend, for rules without weights.
    """

    vector: Float32s
    weights: Float64s | None
    dropped: tuple[int, ...]
    shortened: tuple[int, ...]
    left_out: tuple[int, ...] = ()

    def of_means(self) -> "Aggregate":
        """The result where the vectors were means of several others: what it says of them is of no one's."""
        return Aggregate(self.vector, None, (), ())


def auto_rule(n: int) -> tuple[Rule, int]:
    """Choose the rule for n vectors, and the number f < n / 3 of faulty ones that it tolerates.

    CAF for 5 and more vectors, the trimmed mean for 4, the median for 3; with fewer vectors f is 0.
    """
    if n >= 5:
        return "caf", (n - 1) // 3
    return {4: ("trimmed_mean", 1), 3: ("median", 1)}.get(n, ("mean", 0))  # type: ignore[return-value]


def aggregate(
    vectors: Sequence[NDArray[Any]], rule: Rule, f: int, *, mix: bool = False
) -> Aggregate:
    """Aggregate vectors of which up to f may have arbitrary values.

    Args:
        vectors: n arrays [d] float32, in slot order. Not modified.
        rule: `mean` tolerates no faulty vector. Rules with weights are in `kernels.geometry_rules`. `median`
            is the coordinate median (mean of the two middle values if n is even); `trimmed_mean` leaves out
            the f lowest and f highest of each coordinate; `meamed` averages the n - f entries nearest the
            median.
        f: Number of vectors that may be faulty, non-finite ones included.
        mix: First replace each row by the mean of its n - f nearest ones (NNM).

    Returns:
        Cost: O(n^2 d) for geometric rules, O(n log^2 n d) for coordinate rules; memory for the result and
        a block of 1 MiB.

    Raises:
        QuorumLost: If 2 f or fewer vectors are finite.
        ValueError: If there is no vector, shapes differ, or f is negative.

    Source: Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018 (median, trimmed mean); Xie et
    al., "Generalized Byzantine-tolerant SGD", 2018 (meamed).
    """
    rows = guarded(vectors)
    _check(rows, f)
    if rule in {"median", "trimmed_mean", "meamed"}:
        mixing = geometry.nearest_neighbour_mixing(centred_gram(rows), f) if mix else None
        vector = _by_coordinate(rows, rule, f, mixing)
        return Aggregate(vector, None, rows.dropped, rows.shortened)
    weights = _weights(rows, rule, f, mix=mix)
    everyone = np.zeros(len(vectors))
    everyone[list(rows.kept)] = weights
    return Aggregate(weighted_sum(rows, weights), everyone, rows.dropped, rows.shortened)


def nearest_to_trusted(vectors: Sequence[NDArray[Any]], f: int, trusted: int) -> Aggregate:
    """Mean of the n - f vectors nearest to the one at index `trusted`.

    Raises:
        QuorumLost: If 2 f or fewer vectors are finite, or the trusted one is not.
    """
    rows = guarded(vectors)
    _check(rows, f)
    if trusted not in rows.kept:
        raise QuorumLost("the trusted update is not finite", hint="choose another one")
    weights = geometry.nearest_to(centred_gram(rows), f, rows.kept.index(trusted))
    everyone = np.zeros(len(vectors))
    everyone[list(rows.kept)] = weights
    return Aggregate(weighted_sum(rows, weights), everyone, rows.dropped, rows.shortened)


def centred_clipping(vectors: Sequence[NDArray[Any]], tau: float, steps: int = 3) -> Float32s:
    """Iterate z += mean((x_i - z) min(1, tau / |x_i - z|)), `steps` times from 0.

    Each step changes z by tau at most, however long the vectors are.

    Raises:
        QuorumLost: If no vector is finite.
        ValueError: If tau is not positive.

    Source: Karimireddy et al., "Learning from History for Byzantine Robust Optimization", ICML 2021,
    equation CC. Departure: no state between calls. z is represented by weights of the rows, so that only the
    Gram matrix is needed.
    """
    if not tau > 0:
        raise ValueError(f"tau {tau} is not positive")
    rows = guarded(vectors)
    _check(rows, 0)
    gram = plain_gram(rows)
    weights = np.zeros(rows.n)
    for _ in range(steps):
        reach = gram @ weights
        squares = np.maximum(gram.diagonal() - 2 * reach + weights @ reach, 0.0)
        shrink = tau / np.maximum(np.sqrt(squares), tau)
        weights = (1.0 - shrink.mean()) * weights + shrink / rows.n
    return weighted_sum(rows, weights)


def adaptive_clipping(vectors: Sequence[NDArray[Any]], f: int) -> Float64s:
    """[n] factors that scale the floor(2 (f / n) (n - f)) longest rows to the norm of the next longest (ARC).

    Rows that are not finite get 0.

    Source: Allouah et al., "Adaptive Gradient Clipping for Robust Federated Learning", ICLR 2025.
    """
    rows = guarded(vectors, limit_norms=False)
    _check(rows, f)
    n_clipped = 2 * f * (rows.n - f) // rows.n
    threshold = float(np.sort(rows.norms)[rows.n - n_clipped - 1])
    factors = np.zeros(len(vectors))
    longer = rows.norms > threshold
    kept = np.ones(rows.n)
    kept[longer] = threshold / rows.norms[longer]
    factors[list(rows.kept)] = kept
    return factors


def nearest_neighbour_means(vectors: Sequence[NDArray[Any]], f: int) -> list[Float32s]:
    """NNM for rules that do not take its matrix: each vector replaced by the mean of its n - f nearest ones.

    Raises:
        QuorumLost: If 2 f or fewer vectors are finite.
    """
    rows = guarded(vectors)
    _check(rows, f)
    mixing = geometry.nearest_neighbour_mixing(centred_gram(rows), f)
    return [weighted_sum(rows, weights) for weights in mixing]


def _check(rows: GuardedRows, f: int) -> None:
    if f < 0:
        raise ValueError(f"f {f} is negative")
    if rows.n <= 2 * f:
        raise QuorumLost(
            f"{rows.n} finite updates cannot outvote {f} faulty ones",
            hint=f"more than {2 * f} are needed; deploy more workers or assume fewer faults",
            details={"finite": rows.n, "f": f},
        )


def _weights(rows: GuardedRows, rule: str, f: int, *, mix: bool) -> Float64s:
    if rule == "mean":
        return np.full(rows.n, 1.0 / rows.n)
    gram = centred_gram(rows)
    if not mix:
        return _GEOMETRY[rule](gram, f)
    mixing = geometry.nearest_neighbour_mixing(gram, f)
    mixed: Float64s = _GEOMETRY[rule](mixing @ gram @ mixing.T, f) @ mixing
    return mixed


def _by_coordinate(rows: GuardedRows, rule: str, f: int, mixing: Float64s | None) -> Float32s:
    result = np.empty(rows.d, dtype=np.float32)
    mixing32 = None if mixing is None else mixing.astype(np.float32)
    for place, block in rows.blocks():
        values = block if mixing32 is None else mixing32 @ block
        spare = np.empty_like(values[0])
        result[place] = _COORDINATE[rule](values, f, spare)
    return result


def _median(block: Float32s, _f: int, spare: Float32s) -> Float64s:
    n = block.shape[0]
    middle = {(n - 1) // 2, n // 2}
    ordered = sorted_rows(block, middle, spare)
    return _mean([ordered[k] for k in sorted(middle)])


def _trimmed_mean(block: Float32s, f: int, spare: Float32s) -> Float64s:
    kept = range(f, block.shape[0] - f)
    ordered = sorted_rows(block, kept, spare)
    return _mean([ordered[k] for k in kept])


def mean_around_median(block: Float32s, f: int, spare: Float32s) -> Float64s:
    """[columns] float64 mean of the n - f entries of each column nearest its median (meamed).

    Args:
        block: [n, columns] float32; overwritten.
        f: Entries of each column that are left out.
        spare: [columns] float32 work array, overwritten.
    """
    n = block.shape[0]
    ordered = sorted_rows(block, range(n), spare)
    median = _mean([ordered[k] for k in sorted({(n - 1) // 2, n // 2})])
    window = n - f
    total: Float64s = _mean(ordered[:window]) * window
    # The n - f entries nearest the median are consecutive in sorted order. Start with the lowest ones and
    # move the window up as long as the entry that enters is nearer than the one that leaves.
    for k in range(f):
        low, high = ordered[k].astype(np.float64), ordered[k + window].astype(np.float64)
        total += np.where(high - median < median - low, high - low, 0.0)
    total /= window
    return total


def _mean(rows: Sequence[Float32s]) -> Float64s:
    total: Float64s = rows[0].astype(np.float64)
    for row in rows[1:]:
        total += row
    total /= len(rows)
    return total


_COORDINATE: dict[str, Callable[[Float32s, int, Float32s], Float64s]] = {
    "median": _median,
    "trimmed_mean": _trimmed_mean,
    "meamed": mean_around_median,
}
