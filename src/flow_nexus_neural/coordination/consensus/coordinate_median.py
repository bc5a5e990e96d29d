"""The coordinate-wise median: a minority of updates, whatever it says, carries nothing away."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.kernels.robust import aggregate

Float32s = NDArray[np.float32]
LARGEST = np.finfo(np.float32).max
SECOND_MOMENT = "v"


class CoordinateMedian:
    """The median of every coordinate by itself, the mean of the middle two where updates are even in number.

    While fewer than half of the updates lie, every coordinate of the result is between the smallest and the
    largest honest one, to float32 rounding, where the guard (below) shortens no honest change. The price:
    where workers' rows differ much, honest but unusual updates are outvoted like lies.

    Rows do not weigh, whatever the engine counts: an update is one vote, so that no worker with most of the
    rows decides alone.

    Source: Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018, Algorithm 1, Option I. Departures:
    the median is of what several local steps changed, not of a gradient; the kernel's guard first shortens
    a change that is longer than 100 median ones; the optimiser's moments are combined too.
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
            # Not of differences: a second moment spans many orders of magnitude, so that a difference rounds
            # small ones to 0, by whose root Adam divides. A median of values >= 0 is >= 0.
            start = np.zeros_like(base[name]) if name == SECOND_MOMENT else base[name]
            made = aggregate([_difference(value, start) for value in values], "median", f)
            vectors[name] = start + made.vector
            shortened |= set(made.shortened)
        return Combined(vectors, None, evidence={"f": f, "shortened": [*sorted(shortened)]})


def _difference(value: Float32s, start: Float32s) -> Float32s:
    """Their difference, held inside float32: an infinite one would be dropped, and with it the quorum."""
    with np.errstate(over="ignore"):
        difference: Float32s = np.clip(value - start, -LARGEST, LARGEST)
    return difference
