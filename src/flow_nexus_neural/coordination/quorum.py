"""How many answers are enough."""

from dataclasses import dataclass

from flow_nexus_neural.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Quorum:
    """How many answers are needed and how many came; with fewer the reply is given, marked as degraded."""

    needed: int
    got: int

    @property
    def met(self) -> bool:
        """Whether as many answered as are needed."""
        return self.got >= self.needed


def prediction_quorum(n_expected: int, n_answered: int) -> Quorum:
    """The quorum of a prediction: 80 % of the serving slots, rounded up, and at least one."""
    return Quorum(needed=max(1, -(-4 * n_expected // 5)), got=n_answered)


def round_quorum(n_selected: int, min_contributors: int) -> int:
    """Updates a round needs: two thirds of those selected, rounded up, and at least the minimum.

    Raises:
        InvalidRequest: If the minimum is below 1 or above the number selected.
    """
    if not 1 <= min_contributors <= n_selected:
        raise InvalidRequest(
            f"a round of {n_selected} workers cannot need {min_contributors} contributors",
            hint=f"choose a minimum from 1 to {max(1, n_selected)}, or deploy more workers",
        )
    return max(min_contributors, -(-2 * n_selected // 3))
