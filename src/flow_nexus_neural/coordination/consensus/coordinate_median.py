"""The coordinate-wise median, which tolerates a minority of arbitrary updates."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.kernels.robust import aggregate

Float32s = NDArray[np.float32]
LARGEST = np.finfo(np.float32).max
SECOND_MOMENT = "v"


class CoordinateMedian:
    """The median of each coordinate; for an even number of updates the mean of the middle two.

    While fewer than half of the updates are Byzantine, each coordinate of the result lies between the
    smallest and the largest honest one, up to float32 rounding, if the norm guard (below) shortens no honest
    change. The price: if workers' rows differ much, honest but unusual updates are ignored like faulty ones.

    Row counts are not used: each update has one vote, so that a worker with most of the rows cannot decide
    alone.

    Source: Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, Algorithm 1, Option I. Departures:
    the median is taken of the change by several local steps, not of a gradient; the kernel's guard first
    shortens a change whose norm exceeds 100 median norms; the optimiser's moments are combined too.
    """

    name = "coordinate_median"
    aliases = ("median",)

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Take the median of each array; see `policy.AggregationPolicy`. O(n d) memory for an array."""
        if not updates:
            raise ValueError("there is no update to combine")
        f = (len(updates) - 1) // 2
        vectors: dict[str, Float32s] = {}
        shortened: set[int] = set()
        for name in updates[0]:
            values = [update[name] for update in updates]
            # Second moments are not taken as differences: they span many orders of magnitude, so that small
            # ones would round to 0, and Adam divides by their root. A median of values >= 0 is >= 0.
            start = np.zeros_like(base[name]) if name == SECOND_MOMENT else base[name]
            made = aggregate([_difference(value, start) for value in values], "median", f)
            vectors[name] = start + made.vector
            shortened |= set(made.shortened)
        return Combined(vectors, None, evidence={"f": f, "shortened": [*sorted(shortened)]})


def _difference(value: Float32s, start: Float32s) -> Float32s:
    """The difference, clipped to float32: the guard would drop an infinite one and lose it for the quorum."""
    with np.errstate(over="ignore"):
        difference: Float32s = np.clip(value - start, -LARGEST, LARGEST)
    return difference
