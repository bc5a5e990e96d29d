"""Bulyan: repeated Krum, then a mean of the values near the median in each coordinate."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.geometry_rules import krum
from flow_nexus_neural.kernels.gram import Float32s, centred_gram, guarded
from flow_nexus_neural.kernels.probabilities import Float64s
from flow_nexus_neural.kernels.robust import Aggregate, mean_around_median


def bulyan(vectors: Sequence[NDArray[Any]], f: int) -> Aggregate:
    """Select n - 2 f vectors by repeated Krum; of each coordinate, average the n - 4 f nearest the median.

    Krum alone bounds a distance, in which a liar can hide a large change of one coordinate. The second step
    bounds each coordinate.

    Args:
        vectors: n arrays [d] float32, in slot order. Not modified.
        f: Number of vectors that may be faulty, non-finite ones included.

    Returns:
        No weights; `left_out` has the vectors that were not selected.

    Raises:
        QuorumLost: If fewer than 4 f + 3 vectors are finite.
        ValueError: If there is no vector, or shapes differ.

    Source: El Mhamdi et al., "The Hidden Vulnerability of Distributed Learning in Byzantium", ICML 2018,
    section 4. Departure: Krum sums one distance more, see `geometry_rules.krum`.
    """
    rows = guarded(vectors)
    if rows.n < 4 * f + 3:
        raise QuorumLost(
            f"Bulyan needs {4 * f + 3} finite updates for {f} faulty ones, and has {rows.n}",
            hint="deploy more workers or assume fewer faults",
            details={"finite": rows.n, "f": f},
        )
    chosen = _selected(centred_gram(rows), f)
    result = np.empty(rows.d, dtype=np.float32)
    for place, block in rows.blocks():
        values: Float32s = block[chosen]
        result[place] = mean_around_median(values, 2 * f, np.empty_like(values[0]))
    unselected = tuple(k for row, k in enumerate(rows.kept) if row not in chosen)
    return Aggregate(result, None, rows.dropped, rows.shortened, left_out=unselected)


def _selected(gram: Float64s, f: int) -> list[int]:
    """The n - 2 f rows that Krum chooses one after the other, in row order."""
    remaining = list(range(gram.shape[0]))
    chosen: list[int] = []
    while len(chosen) < gram.shape[0] - 2 * f:
        best = remaining[int(np.argmax(krum(gram[np.ix_(remaining, remaining)], f)))]
        chosen.append(best)
        remaining.remove(best)
    return sorted(chosen)
