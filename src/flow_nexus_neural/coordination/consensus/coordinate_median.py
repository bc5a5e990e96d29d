"""The coordinate-wise median, which tolerates a minority of arbitrary updates."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.consensus.robust_rule import (
    SECOND_MOMENT,
    difference,
    finite_sum,
)
from flow_nexus_neural.coordination.consensus.tolerance import (
    Tolerance,
    tolerated,
    too_few,
    usual_f,
)
from flow_nexus_neural.kernels.robust import aggregate

Float32s = NDArray[np.float32]


@dataclass(frozen=True)
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

    name: str = "coordinate_median"
    aliases: tuple[str, ...] = ("median",)
    tolerance: Tolerance = field(default_factory=Tolerance)

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Take the median of each array; see `policy.AggregationPolicy`. O(n d) memory for an array."""
        if not updates:
            raise ValueError("there is no update to combine")
        tolerated(self, self.tolerance, len(updates))
        f = (len(updates) - 1) // 2  # whatever is asked for: there is nothing to set
        vectors: dict[str, Float32s] = {}
        shortened: set[int] = set()
        for name in updates[0]:
            values = [update[name] for update in updates]
            # Second moments are not taken as differences: they span many orders of magnitude, so that small
            # ones would round to 0, and Adam divides by their root. A median of values >= 0 is >= 0.
            start = np.zeros_like(base[name]) if name == SECOND_MOMENT else base[name]
            made = aggregate([difference(value, start) for value in values], "median", f)
            vectors[name] = finite_sum(start, made.vector)
            shortened |= set(made.shortened)
        return Combined(vectors, None, evidence={"f": f, "shortened": [*sorted(shortened)]})

    def refusal(self, n: int, f: int) -> str | None:
        """See `tolerance.RobustPolicy`."""
        return too_few(n, f)

    def usual_f(self, n: int) -> int:
        """See `tolerance.RobustPolicy`."""
        return usual_f(n)

    def tolerating(self, tolerance: Tolerance) -> Self:
        """See `tolerance.RobustPolicy`."""
        return replace(self, tolerance=tolerance)
