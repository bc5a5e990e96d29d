"""Quorums: the number of answers that a prediction or a round needs."""

from dataclasses import dataclass

from flow_nexus_neural.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Quorum:
    """Answers needed and answers received; with fewer, the prediction is returned but marked as degraded."""

    needed: int
    got: int

    @property
    def met(self) -> bool:
        """Whether enough answers were received."""
        return self.got >= self.needed


def prediction_quorum(n_expected: int, n_answered: int) -> Quorum:
    """The quorum of a prediction: 80 % of the serving slots, rounded up, and at least one."""
    # -(-a // b) is the ceiling of a / b in integers, without floating-point error.
    return Quorum(needed=max(1, -(-4 * n_expected // 5)), got=n_answered)


@dataclass(frozen=True, slots=True)
class RobustQuorum(Quorum):
    """Answers of which f may be lies; with fewer than `needed`, there is no decision.

    Attributes:
        f: Lying slots that are tolerated, below a third of the expected ones.
    """

    f: int


def liars_tolerated(n_expected: int) -> int:
    """The f of a prediction: the largest with n >= 3f + 1."""
    return max(0, (n_expected - 1) // 3)


def robust_quorum(n_expected: int, n_answered: int) -> RobustQuorum:
    """The quorum of a prediction under byzantine consensus: 2f + 1 answers, so that honest ones outvote f.

    All n - f honest slots are enough, since n >= 3f + 1. Slots that died or are late count as expected.
    """
    f = liars_tolerated(n_expected)
    return RobustQuorum(needed=2 * f + 1, got=n_answered, f=f)


def round_quorum(n_selected: int, min_contributors: int) -> int:
    """Updates that a round needs: two thirds of the selected workers, rounded up, and at least the minimum.

    Raises:
        InvalidRequest: If the minimum is below 1 or above the number selected.
    """
    if not 1 <= min_contributors <= n_selected:
        raise InvalidRequest(
            f"a round of {n_selected} workers cannot need {min_contributors} contributors",
            hint=f"choose a minimum from 1 to {max(1, n_selected)}, or deploy more workers",
        )
    return max(min_contributors, -(-2 * n_selected // 3))
