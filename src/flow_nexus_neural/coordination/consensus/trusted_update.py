"""FLTrust as a policy: a validator's own update on trusted rows says which way the others may point."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from typing_extensions import override

from flow_nexus_neural.coordination.consensus.policy import Combined, Vectors
from flow_nexus_neural.coordination.consensus.robust_rule import Changes, robustly_combined
from flow_nexus_neural.coordination.consensus.tolerance import Voting, tolerated
from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.robust import Aggregate
from flow_nexus_neural.kernels.trusted_update import trust_weighted


@dataclass(frozen=True)
class TrustedUpdate(Voting):
    """FLTrust: each array's changes weighed by their cosine with the trusted change, at its length.

    It tolerates any number of lying workers, as far as the trusted update itself is of use: every combined
    change is a mix of changes within 90 degrees of the trusted one, and no longer than it. Of those, f below
    the number of updates is reported.

    Attributes:
        trusted: The arrays after training on trusted rows from the round's base; set for every round.
    """

    name: str = "fltrust"
    aliases: tuple[str, ...] = ("trusted_update",)
    trusted: Vectors | None = None

    def combine(self, base: Vectors, updates: Sequence[Vectors], _rows: Sequence[int]) -> Combined:
        """Combine each array; see `policy.AggregationPolicy`.

        Raises:
            QuorumLost: There is no trusted update.
        """
        if not updates:
            raise ValueError("there is no update to combine")
        if self.trusted is None:
            raise QuorumLost(
                f"{self.name} has no update from trusted rows",
                hint="deploy a validator with neural_node_deploy (role: validator)",
            )
        f, n = tolerated(self, self.tolerance, len(updates)), len(updates)

        def weighed(changes: Changes) -> Aggregate:
            return trust_weighted(changes[:n], changes[n])

        # The trusted update stands last among them, so that each array finds its own part of it.
        found = robustly_combined(weighed, base, [*updates, self.trusted], self.name, f)
        told = {name: values[:n] for name, values in found.by_update.items()}
        if len(found.excluded) < n:
            return replace(found, by_update=told)
        # No update points its way: the trusted one alone is the result, and the round goes on with it.
        alone = {**found.evidence, "trusted_alone": True}
        return replace(found, excluded={}, by_update=told, evidence=alone)

    @override
    def refusal(self, n: int, f: int) -> str | None:
        """See `tolerance.RobustPolicy`."""
        return None if f <= n else f"there are only {n} updates"

    def trusting(self, trusted: Vectors) -> Self:
        """The same policy with this round's trusted update."""
        return replace(self, trusted=trusted)
