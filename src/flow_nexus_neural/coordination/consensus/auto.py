"""The rule that clusters with byzantine consensus use where no other is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Self

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.consensus.robust_rule import robustly_combined
from flow_nexus_neural.coordination.consensus.tolerance import (
    Tolerance,
    tolerated,
    too_few,
    usual_f,
)
from flow_nexus_neural.kernels.robust import aggregate, auto_rule


@dataclass(frozen=True)
class Auto:
    """The strongest rule for the number n of updates, which differs from round to round.

    The covariance filter (CAF) for 5 and more, the trimmed mean for 4, the coordinate median for 3. With one
    or two updates the mean of them, with f = 0: nothing can be outvoted, and the ledger's evidence says so.
    A training that began with more does not fall back on it: such a round fails.

    Source: the rules' own, see `kernels.robust`; among those it has the best worst case on unequal shards.
    """

    name: str = "auto"
    aliases: tuple[str, ...] = ("byzantine", "robust")
    tolerance: Tolerance = field(default_factory=Tolerance)

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Combine each array; see `policy.AggregationPolicy`. O(n d) memory for an array."""
        if not updates:
            raise ValueError("there is no update to combine")
        f = tolerated(self, self.tolerance, len(updates))
        rule, _ = auto_rule(len(updates))
        return robustly_combined(partial(aggregate, rule=rule, f=f), base, updates, rule, f)

    def refusal(self, n: int, f: int) -> str | None:
        """See `tolerance.RobustPolicy`."""
        return too_few(n, f)

    def usual_f(self, n: int) -> int:
        """See `tolerance.RobustPolicy`."""
        return usual_f(n)

    def tolerating(self, tolerance: Tolerance) -> Self:
        """See `tolerance.RobustPolicy`."""
        return replace(self, tolerance=tolerance)
