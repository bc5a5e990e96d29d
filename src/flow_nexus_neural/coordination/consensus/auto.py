"""The rule that clusters with byzantine consensus use where no other is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.consensus.robust_rule import robustly_combined
from flow_nexus_neural.coordination.consensus.tolerance import (
    Voting,
    tolerated,
)
from flow_nexus_neural.kernels.robust import aggregate, auto_rule


@dataclass(frozen=True)
class Auto(Voting):
    """The strongest rule for the number n of updates, which differs from round to round.

    The covariance filter (CAF) for 5 and more, the trimmed mean for 4, the coordinate median for 3. With one
    or two updates the mean of them, with f = 0: nothing can be outvoted, and the ledger's evidence says so.
    A training that began with more does not fall back on it: such a round fails.

    Source: the rules' own, see `kernels.robust`; among those it has the best worst case on unequal shards.
    """

    name: str = "auto"
    aliases: tuple[str, ...] = ("byzantine", "robust")

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Combine each array; see `policy.AggregationPolicy`. O(n d) memory for an array."""
        if not updates:
            raise ValueError("there is no update to combine")
        f = tolerated(self, self.tolerance, len(updates))
        rule, _ = auto_rule(len(updates))
        return robustly_combined(partial(aggregate, rule=rule, f=f), base, updates, rule, f)
