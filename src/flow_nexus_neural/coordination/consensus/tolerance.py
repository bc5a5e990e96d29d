"""How many lying workers a robust rule is asked to tolerate, and whether it can."""

from dataclasses import dataclass, field, replace
from typing import Protocol, Self, runtime_checkable

from flow_nexus_neural.coordination.consensus.policy import AggregationPolicy
from flow_nexus_neural.errors import QuorumLost
from flow_nexus_neural.kernels.robust import auto_rule


@dataclass(frozen=True, slots=True)
class Tolerance:
    """The number f of lying workers that the rounds of a training tolerate.

    Attributes:
        least: What was promised at the start; a round that cannot keep it fails.
        exact: Whether the caller gave it; else a round with more updates tolerates more.
    """

    least: int = 0
    exact: bool = False


@runtime_checkable
class RobustPolicy(AggregationPolicy, Protocol):
    """A policy that tolerates f lying workers under a condition on the number n of updates."""

    def refusal(self, n: int, f: int) -> str | None:
        """Why it cannot tolerate f of n, as a condition with numbers; None if it can."""
        ...

    def usual_f(self, n: int) -> int:
        """The f that it assumes among n where nobody gave one; 0 if n is too small for any."""
        ...

    def tolerating(self, tolerance: Tolerance) -> Self:
        """The same policy for a training with this tolerance."""
        ...


def usual_f(n: int) -> int:
    """The number of liars assumed among n workers: less than a third, and 1 of 3 as the engine is trusted."""
    return auto_rule(n)[1]


def too_few(n: int, f: int, *, per_f: int = 2, plus: int = 1) -> str | None:
    """Why n updates are too few for f lying ones under n >= per_f * f + plus; None if they are enough."""
    needed = per_f * f + plus
    if not f or n >= needed:
        return None
    return f"{n} updates cannot outvote {f} lying ones, {needed} can (n >= {per_f}f+{plus})"


@dataclass(frozen=True)
class Voting:
    """What robust policies share unless they say otherwise: n >= 2f + 1, and f below a third where not given.

    Attributes:
        tolerance: Of the training.
    """

    tolerance: Tolerance = field(default_factory=Tolerance, kw_only=True)

    def refusal(self, n: int, f: int) -> str | None:
        """See `RobustPolicy`."""
        return too_few(n, f)

    def usual_f(self, n: int) -> int:
        """See `RobustPolicy`."""
        return usual_f(n)

    def tolerating(self, tolerance: Tolerance) -> Self:
        """See `RobustPolicy`."""
        return replace(self, tolerance=tolerance)


def tolerated(policy: RobustPolicy, tolerance: Tolerance, n: int) -> int:
    """The f of a round with n updates.

    Raises:
        QuorumLost: The policy cannot tolerate so many of n.
    """
    f = tolerance.least if tolerance.exact else max(tolerance.least, policy.usual_f(n))
    refusal = policy.refusal(n, f)
    if refusal is not None:
        raise QuorumLost(
            f"{policy.name}: {refusal}",
            hint="wait for the lost workers, deploy more with neural_node_deploy, or train again with a lower"
            " byzantine_f",
            details={"updates": n, "f": f},
        )
    return f
