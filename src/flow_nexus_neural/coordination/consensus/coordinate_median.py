"""The coordinate-wise median, which tolerates a minority of arbitrary updates."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.consensus.robust_rule import robustly_combined
from flow_nexus_neural.coordination.consensus.tolerance import (
    Voting,
    tolerated,
)
from flow_nexus_neural.kernels.robust import aggregate


@dataclass(frozen=True)
class CoordinateMedian(Voting):
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

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Take the median of each array; see `policy.AggregationPolicy`. O(n d) memory for an array."""
        if not updates:
            raise ValueError("there is no update to combine")
        tolerated(self, self.tolerance, len(updates))
        f = (len(updates) - 1) // 2  # whatever is asked for: there is nothing to set
        # Second moments are not taken as differences there; a median of values >= 0 is >= 0.
        return robustly_combined(
            partial(aggregate, rule="median", f=f), base, updates, self.name, f
        )
