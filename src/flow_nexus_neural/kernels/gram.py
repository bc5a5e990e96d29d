"""Gram matrices of a few long vectors, from which the geometric rules compute their weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.kernels.probabilities import Float64s

Float32s = NDArray[np.float32]

BLOCK_BYTES = 3 << 18
SUM_BLOCK = 1 << 15
NORM_BLOCK = 1 << 13
TINY = 1e-30
SMALLEST_NORM, LARGEST_NORM = 1e-12, 1e15
"""If the longest norm is outside this range, products may over- or underflow float32: float64 is used."""
NORM_LIMIT = 100.0
"""A row whose norm exceeds this many median norms is scaled down to that norm."""


@dataclass(frozen=True, slots=True)
class GuardedRows:
    """Finite vectors with the scale factors of the norm guard; read block by block, never modified.

    Attributes:
        vectors: n arrays [d] float32, all finite, in slot order.
        scales: [n] float64, 1 or the factor by which the norm guard shortens the row.
        norms: [n] float64, after scaling.
        kept: [n] index of each row in the input.
        dropped: Input indices of rows that were not finite.
    """

    vectors: tuple[Float32s, ...]
    scales: Float64s
    norms: Float64s
    kept: tuple[int, ...]
    dropped: tuple[int, ...]

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.vectors)

    @property
    def d(self) -> int:
        """Length of each row."""
        return int(self.vectors[0].shape[0])

    @property
    def shortened(self) -> tuple[int, ...]:
        """Input indices of rows that the norm guard scaled down."""
        return tuple(k for k, scale in zip(self.kept, self.scales, strict=True) if scale < 1)

    def blocks(self) -> Iterator[tuple[slice, Float32s]]:
        """Yield blocks of columns: their slice, and a copy [n, columns] float32 of the scaled rows."""
        width = max(1024, BLOCK_BYTES // (4 * self.n))
        work = np.empty((self.n, min(width, self.d)), dtype=np.float32)
        factors = self.scales.astype(np.float32)
        scaled = bool((factors != 1).any())
        for start in range(0, self.d, width):
            place = slice(start, min(start + width, self.d))
            block = work[:, : place.stop - place.start]
            for row, vector in zip(block, self.vectors, strict=True):
                row[:] = vector[place]
            if scaled:
                block *= factors[:, None]
            yield place, block


def guarded(vectors: Sequence[NDArray[Any]], *, limit_norms: bool = True) -> GuardedRows:
    """Drop rows that are not finite, and scale down those with an extreme norm.

    A row whose norm exceeds 100 median norms is scaled down to that norm. Otherwise two rows of size 1e9
    among honest ones would swamp the float32 inner products of all others, and a geometric rule would choose
    wrongly.

    Args:
        vectors: n arrays [d] float32, in slot order. Not modified.
        limit_norms: Whether to scale down; never done if the median norm is 0.

    Raises:
        ValueError: If there is no vector or shapes differ.
    """
    if not vectors or any(v.ndim != 1 or v.shape != vectors[0].shape for v in vectors):
        raise ValueError(f"vectors must share one shape [d], got {[v.shape for v in vectors]}")
    # Squares of float32 cannot overflow float64, so the norm is finite exactly if the row is.
    norms = np.array([_norm(vector) for vector in vectors])
    kept = tuple(int(k) for k in np.flatnonzero(np.isfinite(norms)))
    dropped = tuple(k for k in range(len(vectors)) if k not in kept)
    norms = norms[list(kept)]
    scales = np.ones(len(kept))
    middle = float(np.median(norms)) if kept else 0.0
    if limit_norms and middle > 0:
        long = norms > NORM_LIMIT * middle
        scales[long] = NORM_LIMIT * middle / norms[long]
    return GuardedRows(tuple(vectors[k] for k in kept), scales, norms * scales, kept, dropped)


def centred_gram(rows: GuardedRows) -> Float64s:
    """[n, n] inner products of the rows minus their mean.

    Reads the rows once, in float32 blocks, and sums in float64. Centring does not change distances, and keeps
    their digits when the rows are close together and far from the origin.
    """
    return _products(rows, centre=True)


def plain_gram(rows: GuardedRows) -> Float64s:
    """As `centred_gram`, for the rows without centring."""
    return _products(rows, centre=False)


def squared_distances(gram: Float64s) -> Float64s:
    """[n, n] squared distances of rows with this Gram matrix."""
    norms = gram.diagonal()
    # Cancellation can make the difference slightly negative.
    distances: Float64s = np.maximum(norms[:, None] + norms[None, :] - 2 * gram, 0.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def weighted_sum(rows: GuardedRows, weights: Float64s) -> Float32s:
    """[d] float32 sum of w_i x_i, accumulated in float32 in the order of the rows."""
    total = np.empty(rows.d, dtype=np.float32)
    shares = (weights * rows.scales).astype(np.float32)
    used = [(v, w) for v, w in zip(rows.vectors, shares, strict=True) if w != 0]
    term = np.empty(min(SUM_BLOCK, rows.d), dtype=np.float32)
    for start in range(0, rows.d, SUM_BLOCK):
        place = slice(start, min(start + SUM_BLOCK, rows.d))
        partial, scaled = total[place], term[: min(SUM_BLOCK, rows.d - start)]
        partial[:] = 0
        for vector, share in used:
            np.multiply(vector[place], share, out=scaled)
            partial += scaled
    return total


def _products(rows: GuardedRows, *, centre: bool) -> Float64s:
    longest = float(rows.norms.max())
    in_range = SMALLEST_NORM < longest < LARGEST_NORM or longest == 0
    upper = np.zeros((rows.n, rows.n))
    for _, block in rows.blocks():
        # float64, not scaling by the longest norm: that would make the short rows beside it 0.
        values: NDArray[Any] = block if in_range else block.astype(np.float64)
        if centre:
            np.subtract(values, values.mean(axis=0), out=values)
        # Upper triangle row by row: for so few rows this is twice as fast as one matrix product.
        for i in range(rows.n):
            upper[i, i:] += values[i:] @ values[i]
    gram: Float64s = upper + np.triu(upper, k=1).T
    return gram


def _norm(vector: NDArray[Any]) -> float:
    total = 0.0
    with np.errstate(over="ignore", invalid="ignore"):
        for start in range(0, vector.shape[0], NORM_BLOCK):
            block = vector[start : start + NORM_BLOCK]
            square = float(block @ block)
            if not TINY < square < np.inf:  # overflow or underflow in float32: repeat in float64
                wide = block.astype(np.float64)
                square = float(wide @ wide)
            total += square
    return float(np.sqrt(total))
